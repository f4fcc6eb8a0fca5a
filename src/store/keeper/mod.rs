//! The owner of all change: one thread that goes through the prompts again and again, and between two looks makes
//! the changes that clients ask for.
//!
//! Polling works the same on a local disk, a network file system, a Kubernetes mount and a bucket.

mod act;
mod history;
mod pause;
mod publish;
mod scan;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::adapters::WithAdapters;
use super::lease::{Command, Shared, Store};
use super::loader::Loader;
use super::residency::Residency;
use super::state::State;
use super::storage::{Storage, Tag};

/// Changes that wait for the keeper; more are refused.
const MAX_WAITING: usize = 64;

/// What to watch, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pause between two looks.
    pub poll_interval: Duration,
    /// Prompts that are served at most.
    pub max_prompts: usize,
    /// Bytes of prompt rows in memory; what is pinned stays also beyond them.
    pub max_resident_bytes: usize,
    /// Versions of a task that are kept beside the active one, those that get requests excepted.
    pub keep_versions: usize,
    /// Tasks that are loaded before others and stay in memory.
    pub preload: BTreeSet<String>,
}

/// Sees what the store does.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// A version began to answer, after `elapsed` for its part of the loading.
    fn loaded(&self, task: &str, elapsed: Duration);
    /// A file was rejected; told once for a reason.
    fn rejected(&self, task: &str);
    /// A task's file is gone, and the task with it.
    fn removed(&self, task: &str);
    /// The prompts were listed, or could not be; what is served stays then.
    fn scanned(&self, succeeded: bool);
    /// Rows came into memory because a request needed them.
    fn fetched(&self, task: &str, elapsed: Duration);
    /// A request needed rows that could not be read.
    fn fetch_failed(&self, task: &str);
    /// So many versions had to leave the memory.
    fn evicted(&self, count: usize);
    /// A change that a client asked for was made, or not.
    fn changed(&self, action: &'static str, succeeded: bool);
}

/// Goes through the prompts, publishes what it finds, and makes changes.
#[derive(Debug)]
pub struct Keeper {
    store: Arc<Store>,
    shared: Arc<Shared>,
    options: Options,
    commands: Receiver<Command>,
    seen: HashMap<Arc<str>, Seen>,
    states: HashMap<Arc<str>, Held>,
    /// Tasks whose history is not stored yet as it is here.
    unsaved: BTreeSet<Arc<str>>,
    scan_error: Option<String>,
    save_error: Option<String>,
    /// Looks in a row that failed.
    failures: u32,
    /// How long the last listing took.
    listing: Duration,
}

/// The state of a file that the catalog reflects.
#[derive(Debug)]
struct Seen {
    tag: Result<Tag, String>,
    settled: bool,
}

/// A task's state, and the tag of what is stored of it.
#[derive(Clone, Debug, Default)]
struct Held {
    state: State,
    tag: Option<Tag>,
    /// What is stored is not understood, so it is written anew.
    is_broken: bool,
}

/// The keeper's thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct Keeping {
    commands: SyncSender<Command>,
    thread: Option<JoinHandle<()>>,
}

/// A store on these objects, and its keeper, which has not looked yet.
#[must_use]
pub fn open(
    storage: Arc<dyn Storage>,
    loader: Loader,
    options: Options,
    observer: Arc<dyn Observer>,
) -> (Arc<Store>, Keeper) {
    let storage: Arc<dyn Storage> = Arc::new(WithAdapters::new(storage, &loader));
    let residency = Residency::new(options.max_resident_bytes);
    let shared = Arc::new(Shared { storage, loader, residency, observer });
    let (sender, commands) = sync_channel(MAX_WAITING);
    let store = Arc::new(Store::new(Arc::clone(&shared), sender));
    let keeper = Keeper {
        store: Arc::clone(&store),
        shared,
        options,
        commands,
        seen: HashMap::new(),
        states: HashMap::new(),
        unsaved: BTreeSet::new(),
        scan_error: None,
        save_error: None,
        failures: 0,
        listing: Duration::ZERO,
    };
    (store, keeper)
}

// === impl Keeper ===

impl Keeper {
    /// Works in a thread of its own: looks at once and then after every pause.
    ///
    /// # Errors
    /// If the system starts no thread.
    pub fn keep(mut self) -> std::io::Result<Keeping> {
        let commands = self.store.commands().clone();
        let thread = std::thread::Builder::new().name("prompts".into()).spawn(move || {
            while self.scan() {
                let next = Instant::now() + self.pause();
                loop {
                    match self.commands.recv_timeout(next.saturating_duration_since(Instant::now())) {
                        Ok(command) => {
                            if !self.obey(command) {
                                return;
                            }
                        }
                        Err(RecvTimeoutError::Timeout) => break,
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            }
        })?;
        Ok(Keeping { commands, thread: Some(thread) })
    }

    fn pause(&self) -> Duration {
        pause::pause(self.options.poll_interval, self.listing, self.failures, pause::jitter())
    }

    /// Does what is asked. False if that is to end.
    fn obey(&mut self, command: Command) -> bool {
        let Command::Change(change, done) = command else { return false };
        let (action, task) = (change.action.name(), change.task.clone());
        let outcome = self.apply(change);
        self.shared.observer.changed(action, outcome.is_ok());
        match &outcome {
            Ok(made) => {
                tracing::info!(
                    action,
                    task,
                    version = made.version,
                    active = made.active,
                    "changed on request"
                );
            }
            Err(error) => tracing::warn!(action, task, %error, "change refused"),
        }
        // who asked may have left
        drop(done.send(outcome));
        true
    }

    /// Does what was asked meanwhile. False if that is to end.
    fn obey_waiting(&mut self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            if !self.obey(command) {
                return false;
            }
        }
        true
    }
}

// === impl Keeping ===

impl Keeping {
    /// Ends the thread and waits for it. A golden example that it waits for is computed first, so stop the
    /// engine before.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            // a thread that has ended takes no commands
            drop(self.commands.send(Command::Stop));
            // a panic there was logged by the panic hook
            drop(thread.join());
        }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.end();
    }
}
