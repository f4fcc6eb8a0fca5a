mod memory;
mod model;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use proptest::prelude::*;
use xprompt::engine::{self, Engine, ReadyTask};
use xprompt::fingerprint;
use xprompt::prompt::{Limits, PromptFile};
use xprompt::store::{Action, Change, ChangeError, Choice, Keeper, Observer, Store};

use self::memory::{Fault, Memory};
use self::model::{KEEP, Match, Op, Refusal, Task};
use crate::prompts::{Setup, TWEETS, lab, labels, open, prompt};

const TASKS: [&str; 2] = ["a", "b"];
const VERSIONS: usize = 4;

/// The files of all versions, with their names and rows.
struct Versions {
    files: Vec<Vec<u8>>,
    names: Vec<String>,
    rows: Vec<Vec<f32>>,
    engine: Arc<Engine>,
}

/// Sees nothing but the order in which tasks are loaded.
#[derive(Debug, Default)]
struct Nobody(std::sync::Mutex<Vec<String>>);

impl engine::Observer for Nobody {
    fn batch(&self, _: &engine::BatchReport) {}
    fn dropped(&self, _: &'static str) {}
}

impl Observer for Nobody {
    fn loaded(&self, task: &str, _: Duration) {
        self.0.lock().unwrap().push(task.to_owned());
    }
    fn rejected(&self, _: &str) {}
    fn removed(&self, _: &str) {}
    fn scanned(&self, _: bool) {}
    fn fetched(&self, _: &str, _: Duration) {}
    fn fetch_failed(&self, _: &str) {}
    fn evicted(&self, _: usize) {}
    fn changed(&self, _: &'static str, _: bool) {}
}

fn versions() -> &'static Versions {
    static ALL: OnceLock<Versions> = OnceLock::new();
    ALL.get_or_init(|| {
        let file = |i| prompt(100 + 20 * i, 4, "{text}", labels(TWEETS)).to_bytes().unwrap();
        let mut files: Vec<Vec<u8>> = (0..VERSIONS).map(file).collect();
        // numbers and names are in the same order
        files.sort_by_key(|file| fingerprint::of_bytes(file));
        let rows =
            |file: &Vec<u8>| PromptFile::from_bytes(file, &Limits::default()).unwrap().prompt.rows().to_vec();
        let observer: Arc<dyn engine::Observer> = Arc::new(Nobody::default());
        let models = std::slice::from_ref(&lab().model);
        let engine = Engine::start(models, engine::Options::default(), &observer).unwrap();
        Versions {
            names: files.iter().map(|file| fingerprint::of_bytes(file)).collect(),
            rows: files.iter().map(rows).collect(),
            engine: Arc::new(engine),
            files,
        }
    })
}

fn name(version: usize) -> String {
    versions().names[version].clone()
}

fn number(name: &str) -> usize {
    versions().names.iter().position(|known| known == name).expect("a version that was written")
}

/// The store under test.
struct Tested {
    storage: Arc<Memory>,
    store: Arc<Store>,
    keeper: Keeper,
}

impl Tested {
    fn start(storage: Arc<Memory>) -> Self {
        // room for the rows of two versions
        let max_resident_bytes = 2 * versions().rows[0].len() * size_of::<f32>();
        let setup = Setup { keep_versions: KEEP, max_resident_bytes, ..Setup::default() };
        let (store, mut keeper) = open(
            Arc::clone(&versions().engine),
            Arc::clone(&storage) as _,
            setup,
            Arc::new(Nobody::default()),
        );
        assert!(keeper.scan());
        Self { storage, store, keeper }
    }

    fn restart(self) -> Self {
        Self::start(self.storage)
    }

    /// Does what is asked; `None` if the place of the objects failed.
    fn apply(&mut self, task: &str, op: &Op) -> Option<Result<(), Refusal>> {
        let (mut precondition, key) = (Default::default(), format!("{task}.safetensors"));
        let action = match op {
            Op::Copy(version) => {
                let bytes = version.map_or(&b"no prompt"[..], |version| &versions().files[version]);
                self.storage.copy(&key, bytes);
                return Some(Ok(()));
            }
            Op::Take => {
                self.storage.take(&key);
                return Some(Ok(()));
            }
            Op::Put { version, activate, if_match } => {
                precondition = if_match.map(|wanted| wanted.of(name)).unwrap_or_default();
                Action::Put { file: versions().files[*version].clone(), activate: *activate }
            }
            Op::Delete { if_match } => {
                precondition = if_match.map(|wanted| wanted.of(name)).unwrap_or_default();
                Action::Delete
            }
            Op::Rollback { version } => Action::Rollback { version: version.map(name) },
            Op::Route { traffic, shadow } => Action::Route {
                traffic: traffic.iter().map(|(&version, &percent)| (name(version), percent)).collect(),
                shadow: shadow.map(name),
            },
            Op::Pin(pinned) => Action::Pin(*pinned),
        };
        let change = Change { task: task.to_owned(), precondition, action };
        Some(match self.keeper.apply(change) {
            Ok(_) => Ok(()),
            Err(ChangeError::Precondition { .. }) => Err(Refusal::Precondition),
            Err(ChangeError::UnknownTask(_)) => Err(Refusal::UnknownTask),
            Err(ChangeError::UnknownVersion(_)) => Err(Refusal::UnknownVersion),
            Err(ChangeError::BadRoutes(_)) => Err(Refusal::BadRoutes),
            Err(ChangeError::Storage(_) | ChangeError::Conflict(_)) => return None,
            Err(error) => panic!("{error}"),
        })
    }

    /// What a task looks like from outside; `None` if there is none.
    fn shown(&self, task: &str) -> Option<Task> {
        let entry = self.store.task(task)?;
        let version = |served: &Arc<xprompt::store::Served>| number(served.task.version());
        Some(Task {
            file: None,
            active: entry.served.as_ref().map(version),
            failed: entry.failure.is_some(),
            versions: entry.routes.versions.iter().map(|kept| number(&kept.version)).collect(),
            candidates: (entry.routes.versions.iter().filter(|kept| kept.candidate))
                .map(|kept| number(&kept.version))
                .collect(),
            traffic: entry
                .routes
                .traffic
                .iter()
                .map(|(served, percent)| (version(served), *percent))
                .collect(),
            shadow: entry.routes.shadow.as_ref().map(version),
            pinned: entry.routes.pinned,
        })
    }

    fn lease(&self, task: &str) -> Option<Arc<ReadyTask>> {
        static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
        let runtime = RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap());
        runtime.block_on(self.store.lease(task, Choice::default())).ok()
    }
}

/// What the model says that is seen from outside.
fn expected(task: &Task) -> Option<Task> {
    task.file?;
    Some(Task { file: None, ..task.clone() })
}

fn a_version() -> impl Strategy<Value = usize> {
    0..VERSIONS
}

fn an_op() -> impl Strategy<Value = Op> {
    let a_match = || {
        prop::option::weighted(
            0.3,
            prop_oneof![Just(Match::Absent), Just(Match::Present), a_version().prop_map(Match::Version),],
        )
    };
    prop_oneof![
        6 => (a_version(), prop::bool::weighted(0.6), a_match())
            .prop_map(|(version, activate, if_match)| Op::Put { version, activate, if_match }),
        1 => a_match().prop_map(|if_match| Op::Delete { if_match }),
        3 => prop::option::of(a_version()).prop_map(|version| Op::Rollback { version }),
        4 => (prop::collection::btree_map(a_version(), 0..70_u8, 0..3), prop::option::of(a_version()))
            .prop_map(|(traffic, shadow)| Op::Route { traffic, shadow }),
        1 => any::<bool>().prop_map(Op::Pin),
        2 => prop::option::weighted(0.7, a_version()).prop_map(Op::Copy),
        1 => Just(Op::Take),
    ]
}

/// What happens besides.
#[derive(Clone, Debug)]
enum Step {
    Do(usize, Op),
    Scan,
    Restart,
    /// The place fails for one look and one change.
    Outage(usize, Op),
    /// A request begins and is kept to the end.
    Lease(usize),
}

fn a_step() -> impl Strategy<Value = Step> {
    let op = || (0..TASKS.len(), an_op());
    prop_oneof![
        10 => op().prop_map(|(task, op)| Step::Do(task, op)),
        2 => Just(Step::Scan),
        1 => Just(Step::Restart),
        1 => op().prop_map(|(task, op)| Step::Outage(task, op)),
        2 => (0..TASKS.len()).prop_map(Step::Lease),
    ]
}

/// Whether nobody tells the store.
fn by_hand(op: &Op) -> bool {
    matches!(op, Op::Copy(_) | Op::Take)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_store_does_what_its_model_does(steps in prop::collection::vec(a_step(), 1..40)) {
        let mut tested = Tested::start(Arc::default());
        let mut model: [Task; 2] = Default::default();
        // tasks whose files were changed by hand since the store looked
        let mut unseen = [false; 2];
        let mut leases: Vec<(usize, Arc<ReadyTask>)> = Vec::new();
        for step in steps {
            match &step {
                Step::Do(i, op) => {
                    unseen[*i] = by_hand(op);
                    let want = model[*i].apply(op);
                    prop_assert_eq!(tested.apply(TASKS[*i], op), Some(want), "{:?}", op);
                }
                Step::Scan | Step::Restart => {
                    match step {
                        Step::Restart => tested = tested.restart(),
                        _ => prop_assert!(tested.keeper.scan()),
                    }
                    model.iter_mut().for_each(Task::look);
                    unseen = [false; 2];
                }
                Step::Outage(i, op) if !by_hand(op) => {
                    tested.storage.set_down(true);
                    prop_assert!(tested.keeper.scan(), "an outage ends nothing");
                    prop_assert_eq!(tested.apply(TASKS[*i], op), None);
                    tested.storage.set_down(false);
                }
                Step::Outage(..) => {}
                Step::Lease(i) => {
                    if let Some(lease) = tested.lease(TASKS[*i]) {
                        leases.push((number(lease.version()), lease));
                    }
                }
            }
            for (i, task) in TASKS.iter().enumerate().filter(|&(i, _)| !unseen[i]) {
                prop_assert_eq!(tested.shown(task), expected(&model[i]), "{} after {:?}", task, &step);
                prop_assert_eq!(tested.lease(task).is_some(), model[i].active.is_some());
            }
            let resident = tested.store.resident();
            let limit = 2 * versions().rows[0].len() * size_of::<f32>();
            prop_assert!(resident.bytes <= limit.max(resident.pinned_bytes), "{:?}", resident);
        }
        for (version, lease) in &leases {
            prop_assert_eq!(number(lease.version()), *version);
            prop_assert_eq!(lease.rows(), &versions().rows[*version]);
        }
    }

    /// A kill, or a place that fails for a while, in the middle of a change.
    #[test]
    fn a_change_that_is_cut_off_anywhere_is_made_or_not(
        before in prop::collection::vec((0..TASKS.len(), an_op()), 0..20),
        op in an_op().prop_filter("by a client", |op| !by_hand(op)),
        after in 0..6_usize,
        happens in any::<bool>(),
        killed in any::<bool>(),
        then in prop::collection::vec(an_op(), 0..6),
    ) {
        let mut tested = Tested::start(Arc::default());
        let mut model: [Task; 2] = Default::default();
        for (i, op) in &before {
            tested.apply(TASKS[*i], op);
            model[*i].apply(op).ok();
        }
        prop_assert!(tested.keeper.scan());
        model.iter_mut().for_each(Task::look);

        let (old, mut new) = (model[0].clone(), model[0].clone());
        let want = new.apply(&op);
        tested.storage.set_fault(Some(Fault { after, happens }));
        if let Some(got) = tested.apply(TASKS[0], &op) {
            prop_assert_eq!(got, want, "what is answered is what was done");
        }
        tested.storage.set_fault(None);
        if killed {
            tested = tested.restart();
        } else {
            prop_assert!(tested.keeper.scan());
        }
        let shown = tested.shown(TASKS[0]);
        let is_made = shown == expected(&new);
        prop_assert!(is_made || shown == expected(&old), "{:?}: {:?}, was {:?}, to be {:?}", op, shown, old, new);
        prop_assert_eq!(tested.shown(TASKS[1]), expected(&model[1]));
        for key in tested.storage.keys().iter().filter(|key| key.starts_with(".xprompt/versions/")) {
            let version = key.rsplit('/').next().unwrap().strip_suffix(".safetensors").unwrap();
            prop_assert_eq!(fingerprint::of_bytes(&tested.storage.get(key).unwrap()), version);
        }

        // and the task goes on as if nothing had happened; a removal that was cut off leaves a history
        if !matches!(op, Op::Delete { .. }) {
            model[0] = if is_made { new } else { old };
            for op in &then {
                let want = model[0].apply(op);
                prop_assert_eq!(tested.apply(TASKS[0], op), Some(want), "{:?}", op);
            }
            prop_assert!(tested.keeper.scan());
            model[0].look();
            prop_assert_eq!(tested.shown(TASKS[0]), expected(&model[0]));
        }
    }
}

#[test]
fn there_are_no_more_tasks_than_allowed() {
    let storage = Arc::new(Memory::default());
    let setup = Setup { max_prompts: 1, ..Setup::default() };
    let (store, mut keeper) =
        open(Arc::clone(&versions().engine), storage, setup, Arc::new(Nobody::default()));
    assert!(keeper.scan());
    let mut put = |task: &str| {
        let action = Action::Put { file: versions().files[0].clone(), activate: true };
        keeper.apply(Change { task: task.into(), precondition: Default::default(), action })
    };
    assert!(put("a").is_ok());
    assert!(matches!(put("b"), Err(ChangeError::Full { limit: 1 })));
    assert!(put("a").is_ok());
    assert_eq!(store.catalog().tasks().len(), 1);
}

#[test]
fn what_is_preloaded_comes_first_and_stays_in_memory() {
    let storage = Arc::new(Memory::default());
    let tasks: Vec<String> = (0..100).map(|i| format!("t{i:02}")).collect();
    for (i, task) in tasks.iter().enumerate() {
        storage.copy(&format!("{task}.safetensors"), &versions().files[i % VERSIONS]);
    }
    let max_resident_bytes = 3 * versions().rows[0].len() * size_of::<f32>();
    let setup = Setup { max_resident_bytes, preload: &["t77", "t42", "none"], ..Setup::default() };
    let observer = Arc::new(Nobody::default());
    let (store, mut keeper) =
        open(Arc::clone(&versions().engine), storage, setup, Arc::clone(&observer) as _);
    assert!(keeper.scan());
    let loaded = observer.0.lock().unwrap();
    assert_eq!((loaded.len(), &loaded[..3]), (100, &["t42".to_owned(), "t77".into(), "t00".into()][..]));
    let in_memory = |task: &String| store.is_resident(&store.task(task).unwrap().served.unwrap());
    let there: Vec<&String> = tasks.iter().filter(|task| in_memory(task)).collect();
    assert_eq!(there, ["t42", "t77", "t99"]);
}
