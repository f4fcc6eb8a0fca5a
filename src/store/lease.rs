//! The store as requests see it: the catalog, and the lease of a version with its rows.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Instant;

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, oneshot};

use super::catalog::{Catalog, Choice, Entry, Failure, Served};
use super::change::{Change, ChangeError, Done};
use super::keeper::Observer;
use super::loader::{LoadError, Loader};
use super::residency::{Residency, Resident};
use super::storage::Storage;
use crate::engine::ReadyTask;
use crate::prompt::PromptFile;

/// Prompts whose rows are read at once; more wait.
const LOADS: usize = 4;

/// A version may go between the look at the catalog and the read of its file: then the catalog is looked at again.
const TRIES: usize = 3;

/// What the keeper is asked for.
#[derive(Debug)]
pub(super) enum Command {
    /// A change, and who waits for what comes of it.
    Change(Change, oneshot::Sender<Result<Done, ChangeError>>),
    /// To end.
    Stop,
}

/// What is served now. Reading the catalog takes no lock.
#[derive(Debug)]
pub struct Store {
    catalog: ArcSwap<Catalog>,
    scanned: AtomicBool,
    ready: AtomicBool,
    pub(super) shared: Arc<Shared>,
    loads: Semaphore,
    commands: SyncSender<Command>,
    requests: AtomicU64,
}

/// What reading rows takes.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) loader: Loader,
    pub(super) residency: Residency,
    pub(super) observer: Arc<dyn Observer>,
}

/// Why there is no version for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseError {
    /// There is no such task.
    UnknownTask,
    /// The prompts are being loaded, this one not yet.
    NotLoaded,
    /// The task's file never passed.
    Rejected(Arc<Failure>),
    /// The version that is asked for does not answer.
    WrongVersion {
        /// What does.
        active: String,
    },
    /// The rows are not in memory and cannot be read.
    Unavailable(String),
}

// === impl Store ===

impl Store {
    pub(super) fn new(shared: Arc<Shared>, commands: SyncSender<Command>) -> Self {
        Self {
            catalog: ArcSwap::default(),
            scanned: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            shared,
            loads: Semaphore::new(LOADS),
            commands,
            requests: AtomicU64::new(0),
        }
    }

    /// All tasks at this moment.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// A task by name, at this moment.
    #[must_use]
    pub fn task(&self, name: &str) -> Option<Entry> {
        self.catalog.load().task(name).cloned()
    }

    /// Whether all prompts were gone through once, so that a task that is missing here has no file.
    #[must_use]
    pub fn is_scanned(&self) -> bool {
        self.scanned.load(Ordering::Acquire)
    }

    /// Whether requests may come: the prompts that were to be loaded first are, or all were gone through.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) || self.is_scanned()
    }

    /// What is in memory.
    #[must_use]
    pub fn resident(&self) -> Resident {
        self.shared.residency.resident()
    }

    /// Whether a version's rows are in memory.
    #[must_use]
    pub fn is_resident(&self, served: &Served) -> bool {
        self.shared.residency.contains(&served.slot)
    }

    /// Bytes that a prompt file may have.
    #[must_use]
    pub fn max_prompt_bytes(&self) -> u64 {
        self.shared.loader.limits.bytes
    }

    /// The version that a request gets, with its rows. The request keeps it for as long as it likes: what comes
    /// after changes nothing about it, and its memory is free when the last request has left it.
    ///
    /// # Errors
    /// If no version answers, or its rows cannot be read.
    pub async fn lease(&self, name: &str, choice: Choice<'_>) -> Result<Arc<ReadyTask>, LeaseError> {
        let mut tries = TRIES;
        loop {
            let served = self.choose(name, choice)?;
            tries -= 1;
            match self.rows(&served).await {
                Ok(ready) => return Ok(ready),
                Err(error) if tries == 0 || error.is_outage() => {
                    return Err(LeaseError::Unavailable(error.to_string()));
                }
                Err(error) => tracing::debug!(task = name, %error, "a version went while it was read"),
            }
        }
    }

    /// A version that serves, with its rows.
    ///
    /// # Errors
    /// If they are not in memory and cannot be read.
    pub async fn rows(&self, served: &Arc<Served>) -> Result<Arc<ReadyTask>, LoadError> {
        if let Some(ready) = self.shared.residency.get(&served.slot) {
            return Ok(ready);
        }
        let _alone = served.slot.loading.lock().await;
        if let Some(ready) = self.shared.residency.get(&served.slot) {
            return Ok(ready);
        }
        // invariant: the semaphore is never closed
        let _turn = self.loads.acquire().await.ok();
        let (shared, version) = (Arc::clone(&self.shared), Arc::clone(served));
        let read = tokio::task::spawn_blocking(move || shared.read_rows(&version));
        read.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// The file of a version that serves, read anew.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn file(&self, served: &Arc<Served>) -> Result<PromptFile, LoadError> {
        // invariant: the semaphore is never closed
        let _turn = self.loads.acquire().await.ok();
        let (shared, served) = (Arc::clone(&self.shared), Arc::clone(served));
        let read = tokio::task::spawn_blocking(move || {
            shared.loader.file(&*shared.storage, &served.name, served.task.version())
        });
        read.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// Hands a change to the keeper. `None` if too many wait already.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn change(&self, change: Change) -> Option<Result<Done, ChangeError>> {
        let (done, outcome) = oneshot::channel();
        match self.commands.try_send(Command::Change(change, done)) {
            Ok(()) => Some(outcome.await.unwrap_or(Err(ChangeError::Stopped))),
            Err(TrySendError::Full(_)) => None,
            Err(TrySendError::Disconnected(_)) => Some(Err(ChangeError::Stopped)),
        }
    }

    fn choose(&self, name: &str, choice: Choice<'_>) -> Result<Arc<Served>, LeaseError> {
        let catalog = self.catalog.load();
        let Some(entry) = catalog.task(name) else {
            return Err(if self.is_scanned() { LeaseError::UnknownTask } else { LeaseError::NotLoaded });
        };
        let Some(active) = &entry.served else {
            let failure = entry.failure.clone().expect("invariant: a task that does not answer has a reason");
            return Err(LeaseError::Rejected(failure));
        };
        if let Some(version) = choice.version {
            let wrong = || LeaseError::WrongVersion { active: active.task.version().to_owned() };
            return entry.version(version).cloned().ok_or_else(wrong);
        }
        if entry.routes.traffic.is_empty() {
            return Ok(Arc::clone(active));
        }
        let point = choice.key.map_or_else(|| self.random(), |key| point_of(name, key));
        Ok(Arc::clone(entry.at(point).unwrap_or(active)))
    }

    /// A point of the unit interval.
    fn random(&self) -> f64 {
        static RANDOM: std::sync::LazyLock<std::hash::RandomState> =
            std::sync::LazyLock::new(Default::default);
        in_unit_interval(RANDOM.hash_one(self.requests.fetch_add(1, Ordering::Relaxed)))
    }

    pub(super) fn commands(&self) -> &SyncSender<Command> {
        &self.commands
    }

    pub(super) fn publish(&self, catalog: Catalog) {
        self.catalog.store(Arc::new(catalog));
    }

    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(super) fn set_scanned(&self) {
        self.scanned.store(true, Ordering::Release);
    }
}

/// The point of a key, the same in every process.
fn point_of(task: &str, key: &str) -> f64 {
    let hash = Sha256::new().chain_update(task).chain_update([0]).chain_update(key).finalize();
    let first: [u8; 8] = hash[..8].try_into().expect("invariant: a SHA-256 has 32 bytes");
    in_unit_interval(u64::from_be_bytes(first))
}

fn in_unit_interval(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

// === impl Shared ===

impl Shared {
    /// Reads the rows of a version that is served.
    pub(super) fn read_rows(&self, served: &Served) -> Result<Arc<ReadyTask>, LoadError> {
        let start = Instant::now();
        match self.loader.reload(&*self.storage, &served.name, &served.task) {
            Ok(ready) => {
                let ready = Arc::new(ready);
                let evicted = self.residency.insert(&served.slot, Arc::clone(&ready));
                self.observer.fetched(&served.name, start.elapsed());
                self.observer.evicted(evicted);
                Ok(ready)
            }
            Err(error) => {
                tracing::warn!(task = %served.name, version = served.task.version(), %error, "rows cannot be read");
                self.observer.fetch_failed(&served.name);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf 'task\0key' | sha256sum` begins with a53609ba, and 0xa53609ba / 0x100000000 is 0.645356.
    #[test]
    fn keys_are_spread_evenly_and_the_same_in_every_process() {
        let below = |share: f64| (0..10_000).filter(|i| point_of("task", &i.to_string()) < share).count();
        for percent in [1, 10, 50] {
            let got = below(f64::from(percent) / 100.0) as f64 / 100.0;
            assert!((got - f64::from(percent)).abs() < 1.5, "{got} of {percent} percent");
        }
        assert!((point_of("task", "key") - 0.645_356).abs() < 1e-6);
        assert_ne!(point_of("task", "key"), point_of("other", "key"), "tasks are independent");
    }
}
