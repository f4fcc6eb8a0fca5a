//! The owner of all change: one thread that goes through the folder again and again.
//!
//! Polling works the same on a local disk, a network file system and a Kubernetes mount.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::catalog::{Catalog, Entry, Failure, Served, Store};
use super::folder::{self, Found};
use super::loader::{Candidate, Loaded, Loader};

/// A file written so short a time ago may be written again within the same tick of its clock, without another
/// stamp: it is read once more when it is older.
const SETTLED: Duration = Duration::from_secs(2);

/// Files that are loaded before the outcome is published.
const CHUNK: usize = 64;

/// What to watch, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The prompts folder.
    pub folder: PathBuf,
    /// Pause between two looks at it.
    pub poll_interval: Duration,
    /// Prompts that are served at most.
    pub max_prompts: usize,
}

/// Sees what the watcher does.
pub trait Observer: Send + Sync {
    /// A version began to answer, after `elapsed` for its part of the loading.
    fn loaded(&self, task: &str, elapsed: Duration);
    /// A file was rejected; told once for a reason.
    fn rejected(&self, task: &str);
    /// A task's file is gone, and the task with it.
    fn removed(&self, task: &str);
    /// The folder could not be listed; what is served stays.
    fn scan_failed(&self);
}

/// Goes through the folder and publishes what it finds.
pub struct Watcher {
    store: Arc<Store>,
    loader: Loader,
    options: Options,
    observer: Arc<dyn Observer>,
    seen: HashMap<Arc<str>, Seen>,
    scan_error: Option<String>,
}

/// The state of a file that the catalog reflects.
struct Seen {
    found: Found,
    settled: bool,
}

/// The watcher's thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct Watching {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("options", &self.options).field("seen", &self.seen.len()).finish()
    }
}

// === impl Watcher ===

impl Watcher {
    /// A watcher that has not looked yet.
    #[must_use]
    pub fn new(store: Arc<Store>, loader: Loader, options: Options, observer: Arc<dyn Observer>) -> Self {
        Self { store, loader, options, observer, seen: HashMap::new(), scan_error: None }
    }

    /// Looks at the folder once and loads what changed. False if the engine is stopping.
    pub fn scan(&mut self) -> bool {
        let known = |name: &str| self.seen.contains_key(name);
        let listing = match folder::list(&self.options.folder, self.options.max_prompts, known) {
            Ok(listing) => listing,
            Err(error) => {
                self.note_scan_error(&error);
                return true;
            }
        };
        if self.scan_error.take().is_some() {
            tracing::info!(folder = %self.options.folder.display(), "the prompts folder can be read again");
        }
        self.publish_names(&listing);
        let now = SystemTime::now();
        let changed: Vec<(Arc<str>, Found)> = listing
            .prompts
            .into_iter()
            .filter(|(name, found)| self.seen.get(name).is_none_or(|seen| seen.is_outdated(found, now)))
            .collect();
        for chunk in changed.chunks(CHUNK) {
            if !self.load(chunk, now) {
                return false;
            }
        }
        if !self.store.is_scanned() {
            let catalog = self.store.catalog();
            let ready = catalog.tasks().filter(|(_, entry)| entry.served.is_some()).count();
            let (failed, refused) = (catalog.tasks().len() - ready, catalog.refused().len());
            tracing::info!(ready, failed, refused, "the prompts folder was gone through");
            self.store.set_scanned();
        }
        true
    }

    /// Scans in a thread of its own, at once and then after every pause.
    ///
    /// # Errors
    /// If the system starts no thread.
    pub fn watch(mut self) -> std::io::Result<Watching> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("prompts".into()).spawn(move || {
            while self.scan() {
                match stopped.recv_timeout(self.options.poll_interval) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Watching { stop: Some(stop), thread: Some(thread) })
    }

    fn note_scan_error(&mut self, error: &std::io::Error) {
        self.observer.scan_failed();
        let text = error.to_string();
        if self.scan_error.as_ref() != Some(&text) {
            let folder = self.options.folder.display();
            tracing::error!(%folder, error = text, "the prompts folder cannot be read; what is served stays");
            self.scan_error = Some(text);
        }
    }

    /// Takes out the tasks whose files are gone, and notes files that cannot name a task.
    fn publish_names(&mut self, listing: &folder::Listing) {
        let mut gone: Vec<Arc<str>> = Vec::new();
        self.seen.retain(|name, _| {
            let stays = listing.prompts.contains_key(name);
            if !stays {
                gone.push(Arc::clone(name));
            }
            stays
        });
        let catalog = self.store.catalog();
        if gone.is_empty() && catalog.refused == listing.refused {
            return;
        }
        for (file, reason) in &listing.refused {
            if !catalog.refused.contains_key(file) {
                tracing::warn!(file, reason, "file refused");
            }
        }
        let mut catalog = Catalog::clone(&catalog);
        catalog.refused.clone_from(&listing.refused);
        gone.retain(|name| catalog.tasks.remove(name).is_some());
        self.store.publish(catalog);
        for name in gone {
            tracing::info!(task = %name, "task removed: its file is gone");
            self.observer.removed(&name);
        }
    }

    /// Loads changed files and publishes what came of them. False if the engine is stopping.
    fn load(&mut self, changed: &[(Arc<str>, Found)], now: SystemTime) -> bool {
        let start = Instant::now();
        let mut catalog = Catalog::clone(&self.store.catalog());
        let served = |name: &str| {
            let served = catalog.task(name).and_then(|entry| entry.served.as_ref());
            served.map(|served| served.task.version().to_owned())
        };
        let (mut readable, mut candidates) = (Vec::new(), Vec::new());
        for (name, found) in changed {
            if let Ok(stamp) = &found.stamp {
                readable.push((name, stamp.length));
                candidates.push(Candidate { path: found.path.clone(), served: served(name) });
            }
        }
        let Some(loaded) = self.loader.load(&candidates) else { return false };
        let elapsed = start.elapsed() / u32::try_from(candidates.len().max(1)).unwrap_or(u32::MAX);
        let mut events: Vec<Event<'_>> = Vec::new();
        for (name, found) in changed {
            if let Err(reason) = &found.stamp {
                events.extend(reject(&mut catalog, name, reason.clone()));
            }
        }
        for ((name, file_bytes), loaded) in readable.into_iter().zip(loaded) {
            let event = match loaded {
                Ok(Loaded::Same) => {
                    if let Some(entry) = catalog.tasks.get_mut(name) {
                        entry.failure = None;
                    }
                    None
                }
                Ok(Loaded::New(task)) => {
                    let served = Arc::new(Served { task, file_bytes, since: SystemTime::now() });
                    let event = Event::Loaded(name, Arc::clone(&served));
                    catalog.tasks.insert(Arc::clone(name), Entry { served: Some(served), failure: None });
                    Some(event)
                }
                // removed since it was listed: the next look takes it out
                Err(error) if error.is_missing_file() => None,
                Err(error) => reject(&mut catalog, name, error.to_string()),
            };
            events.extend(event);
        }
        self.store.publish(catalog);
        for event in events {
            event.tell(&*self.observer, elapsed);
        }
        for (name, found) in changed {
            self.seen
                .insert(Arc::clone(name), Seen { found: found.clone(), settled: is_settled(found, now) });
        }
        true
    }
}

// === impl Seen ===

impl Seen {
    fn is_outdated(&self, found: &Found, now: SystemTime) -> bool {
        self.found != *found || (!self.settled && is_settled(found, now))
    }
}

/// Whether a change from now on must show in the file's stamp.
fn is_settled(found: &Found, now: SystemTime) -> bool {
    let Ok(stamp) = &found.stamp else { return true };
    let age = stamp.modified.and_then(|modified| now.duration_since(modified).ok());
    // a time that is missing or lies ahead never becomes old; the stamp is all there is
    age.is_none_or(|age| age >= SETTLED)
}

/// Something to tell once it is published.
enum Event<'a> {
    Loaded(&'a str, Arc<Served>),
    Rejected(&'a str, String),
}

// === impl Event ===

impl Event<'_> {
    fn tell(self, observer: &dyn Observer, elapsed: Duration) {
        match self {
            Event::Loaded(task, served) => {
                let ready = &served.task;
                tracing::info!(
                    task,
                    version = ready.version(),
                    tokens = ready.kept_tokens(),
                    pieces = ready.kept_pieces(),
                    "prompt loaded"
                );
                observer.loaded(task, elapsed);
            }
            Event::Rejected(task, reason) => {
                tracing::error!(task, reason, "prompt rejected; what was served stays");
                observer.rejected(task);
            }
        }
    }
}

/// Notes a rejected file; an event if the reason is new.
fn reject<'a>(catalog: &mut Catalog, name: &'a Arc<str>, reason: String) -> Option<Event<'a>> {
    let entry = catalog.tasks.entry(Arc::clone(name)).or_insert(Entry { served: None, failure: None });
    if entry.failure.as_ref().is_some_and(|known| known.reason == reason) {
        return None;
    }
    entry.failure = Some(Arc::new(Failure { reason: reason.clone(), at: SystemTime::now() }));
    Some(Event::Rejected(name, reason))
}

// === impl Watching ===

impl Watching {
    /// Ends the thread and waits for it. A golden example that it waits for is computed first, so stop the
    /// engine before.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // a panic there was logged by the panic hook
            drop(thread.join());
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.end();
    }
}
