//! Looking at all prompts, and loading what changed.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::publish::{Edits, failure};
use super::{Keeper, Seen};
use crate::store::catalog::{Catalog, Entry, Served};
use crate::store::listing::{self, Found, Listing};
use crate::store::loader::{Candidate, LoadError, Loaded, Source};
use crate::store::state::KeptVersion;
use crate::store::storage::StorageError;

/// Files that are loaded before the outcome is published.
const CHUNK: usize = 64;

/// Something to tell once it is published.
enum Event {
    Loaded(Arc<Served>),
    Rejected(Arc<str>, String),
}

// === impl Keeper ===

impl Keeper {
    /// Looks at all prompts once and loads what changed. False if the server is stopping.
    pub fn scan(&mut self) -> bool {
        let known = |name: &str| self.seen.contains_key(name);
        let start = Instant::now();
        let listing = match listing::list(&*self.shared.storage, self.options.max_prompts, known) {
            Ok(listing) => listing,
            Err(error) => {
                self.note_scan_error(&error);
                return true;
            }
        };
        self.listing = start.elapsed();
        self.failures = 0;
        self.shared.observer.scanned(true);
        if self.scan_error.take().is_some() {
            tracing::info!(prompts = self.shared.storage.place(), "the prompts can be read again");
        }
        self.publish_names(&listing);
        let mut changed: Vec<(Arc<str>, Found)> = (listing.prompts.iter())
            .filter(|&(name, found)| self.seen.get(name).is_none_or(|seen| seen.is_outdated(found)))
            .map(|(name, found)| (Arc::clone(name), found.clone()))
            .collect();
        // stable: otherwise by name
        changed.sort_by_key(|(name, _)| !self.options.preload.contains(&**name));
        let first = changed.iter().filter(|(name, _)| self.options.preload.contains(&**name)).count();
        let states = self.changed_states(&listing);
        self.read_states(&states);
        for (i, chunk) in changed.chunks(CHUNK).enumerate() {
            if !self.obey_waiting() || !self.load(chunk) {
                return false;
            }
            if !self.options.preload.is_empty() && (i + 1) * CHUNK >= first {
                self.store.set_ready();
            }
        }
        for name in &states {
            if !self.reroute(name) {
                return false;
            }
        }
        self.note_first_scan();
        self.save_histories();
        true
    }

    fn note_first_scan(&self) {
        if self.store.is_scanned() {
            return;
        }
        let catalog = self.store.catalog();
        let ready = catalog.tasks().filter(|(_, entry)| entry.served.is_some()).count();
        let (failed, refused) = (catalog.tasks().len() - ready, catalog.refused().len());
        tracing::info!(ready, failed, refused, "the prompts folder was gone through");
        for task in &self.options.preload {
            if catalog.task(task).is_none_or(|entry| entry.served.is_none()) {
                tracing::error!(task, "a task of --preload is not served");
            }
        }
        self.store.set_scanned();
    }

    fn note_scan_error(&mut self, error: &StorageError) {
        self.shared.observer.scanned(false);
        self.failures = self.failures.saturating_add(1);
        let text = error.to_string();
        if self.scan_error.as_ref() != Some(&text) {
            let prompts = self.shared.storage.place();
            tracing::error!(prompts, error = text, "the prompts cannot be read; what is served stays");
            self.scan_error = Some(text);
        }
    }

    /// Takes out the tasks whose files are gone, and notes files that cannot name a task.
    fn publish_names(&mut self, listing: &Listing) {
        let gone: Vec<Arc<str>> =
            self.seen.keys().filter(|name| !listing.prompts.contains_key(*name)).cloned().collect();
        let catalog = self.store.catalog();
        if catalog.refused != listing.refused {
            for (file, reason) in &listing.refused {
                if !catalog.refused.contains_key(file) {
                    tracing::warn!(file, reason, "file refused");
                }
            }
            let mut catalog = Catalog::clone(&catalog);
            catalog.refused.clone_from(&listing.refused);
            self.store.publish(catalog);
        }
        self.remove(&gone);
    }

    /// Takes tasks out whose files are gone. What is stored of their history stays.
    pub(super) fn remove(&mut self, gone: &[Arc<str>]) {
        let catalog = self.store.catalog();
        let edits: Edits = gone.iter().map(|name| (Arc::clone(name), None)).collect();
        if edits.is_empty() {
            return;
        }
        self.publish(edits);
        for name in gone {
            self.seen.remove(name);
            self.states.remove(name);
            self.unsaved.remove(name);
            if catalog.task(name).is_some() {
                tracing::info!(task = %name, "task removed: its file is gone");
                self.shared.observer.removed(name);
            }
        }
    }

    /// Loads changed files and publishes what came of them. False if the engine is stopping.
    pub(super) fn load(&mut self, changed: &[(Arc<str>, Found)]) -> bool {
        let start = Instant::now();
        let catalog = self.store.catalog();
        let active = |name: &str| catalog.task(name).and_then(|entry| entry.served.as_ref());
        let readable: Vec<&Arc<str>> =
            changed.iter().filter(|(_, found)| found.tag.is_ok()).map(|(name, _)| name).collect();
        let candidates: Vec<Candidate> = readable
            .iter()
            .map(|&name| Candidate {
                source: Source::Active(Arc::clone(name)),
                served: active(name).map(|served| served.task.version().to_owned()),
            })
            .collect();
        let Some(loaded) = self.shared.loader.load(&*self.shared.storage, &candidates) else { return false };
        let elapsed = start.elapsed() / u32::try_from(candidates.len().max(1)).unwrap_or(u32::MAX);
        let mut outcomes = readable.into_iter().zip(loaded).peekable();
        let (mut edits, mut events, mut rows) = (Edits::new(), Vec::new(), Vec::new());
        for (name, found) in changed {
            let outcome = match &found.tag {
                Ok(_) => match outcomes.next_if(|(loaded, _)| *loaded == name) {
                    Some((_, outcome)) => outcome.map_err(Some),
                    None => continue,
                },
                Err(_) => Err(None),
            };
            let before = catalog.task(name);
            let mut seen = Seen { tag: found.tag.clone(), settled: found.settled };
            let (served, failed) = match outcome {
                // the place failed, or the file was removed since it was listed: the next look shows
                Err(Some(error)) if error.is_outage() || error.is_missing_file() => continue,
                Ok(Loaded { new, bytes, tag }) => {
                    seen.tag = tag.map_or(seen.tag, Ok);
                    let served = match new {
                        Some(ready) => {
                            self.activated(name, ready.version(), bytes);
                            let served = self.served(name, &ready, bytes);
                            events.push(Event::Loaded(Arc::clone(&served)));
                            rows.push((Arc::clone(&served), ready));
                            Some(served)
                        }
                        None => active(name).cloned(),
                    };
                    (served, None)
                }
                Err(error) => {
                    let unread = found.tag.as_ref().err().cloned().unwrap_or_default();
                    let reason = error.as_ref().map_or(unread, LoadError::to_string);
                    let (failure, is_new) = failure(before, reason);
                    if is_new {
                        events.push(Event::Rejected(Arc::clone(name), failure.reason.clone()));
                    }
                    let Some(served) = self.last_good(name, before) else { return false };
                    (served, Some(failure))
                }
            };
            let Some(routes) = self.routes(name, served.as_ref()) else { return false };
            edits.insert(Arc::clone(name), Some(Entry { served, failure: failed, routes: Arc::new(routes) }));
            self.seen.insert(Arc::clone(name), seen);
        }
        self.publish(edits);
        for (served, ready) in rows {
            self.keep_rows(&served, &ready);
        }
        for event in events {
            self.tell(event, elapsed);
        }
        for (name, _) in changed {
            self.fetch_pinned(name);
        }
        true
    }

    /// What goes on answering beside a bad file: what did, also before the server was started. The outer `None` if
    /// the engine is stopping.
    fn last_good(&self, name: &Arc<str>, before: Option<&Entry>) -> Option<Option<Arc<Served>>> {
        if let Some(served) = before.and_then(|entry| entry.served.as_ref()) {
            return Some(Some(Arc::clone(served)));
        }
        let latest = self.states.get(name).and_then(|held| held.state.latest());
        match latest.map(|kept| kept.version.clone()) {
            Some(version) => self.load_kept(name, &version),
            None => Some(None),
        }
    }

    /// Notes in a task's history that a version became active.
    pub(super) fn activated(&mut self, name: &Arc<str>, version: &str, bytes: u64) {
        let held = self.states.entry(Arc::clone(name)).or_default();
        if held.state.latest().is_none_or(|latest| latest.version != version) {
            let active = KeptVersion::new(version, bytes, SystemTime::now());
            held.state.activate(active, self.options.keep_versions);
            self.unsaved.insert(Arc::clone(name));
        }
    }

    /// Publishes the routes that a task's state asks for. False if the engine is stopping.
    pub(super) fn reroute(&mut self, name: &Arc<str>) -> bool {
        let Some(entry) = self.store.task(name) else { return true };
        let Some(routes) = self.routes(name, entry.served.as_ref()) else { return false };
        let entry = Entry { routes: Arc::new(routes), ..entry };
        self.publish(Edits::from([(Arc::clone(name), Some(entry))]));
        self.fetch_pinned(name);
        true
    }

    fn tell(&self, event: Event, elapsed: Duration) {
        match event {
            Event::Loaded(served) => {
                let card = &served.task;
                let golden = card.manifest().golden.len();
                tracing::info!(
                    task = %served.name,
                    version = card.version(),
                    tokens = card.kept_tokens(),
                    pieces = card.kept_pieces(),
                    golden_examples = golden,
                    "prompt loaded"
                );
                if golden == 0 {
                    tracing::info!(
                        task = %served.name,
                        "no golden examples: that it answers as it was trained to is not known; import or export the prompt \
                         with them"
                    );
                }
                self.shared.observer.loaded(&served.name, elapsed);
            }
            Event::Rejected(task, reason) => {
                tracing::error!(%task, reason, "prompt rejected; what was served stays");
                self.shared.observer.rejected(&task);
            }
        }
    }
}

// === impl Seen ===

impl Seen {
    fn is_outdated(&self, found: &Found) -> bool {
        self.tag != found.tag || (!self.settled && found.settled)
    }
}
