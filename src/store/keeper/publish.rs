//! From loaded versions to the catalog: entries, routes and places in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::Keeper;
use crate::engine::ReadyTask;
use crate::store::catalog::{Catalog, Entry, Failure, Routes, Served};
use crate::store::loader::{Candidate, Source};
use crate::store::residency::Slot;

/// What becomes of tasks; `None` takes a task out.
pub(super) type Edits = HashMap<Arc<str>, Option<Entry>>;

// === impl Keeper ===

impl Keeper {
    /// Replaces entries of the catalog, and gives versions that come and go their places in memory.
    pub(super) fn publish(&self, edits: Edits) {
        let before = self.store.catalog();
        let mut catalog = Catalog::clone(&before);
        let mut gone: Vec<Arc<Served>> = Vec::new();
        for (name, entry) in edits {
            let stays = |old: &Arc<Served>| {
                entry.as_ref().is_some_and(|entry| entry.all().any(|new| Arc::ptr_eq(new, old)))
            };
            if let Some(old) = before.task(&name) {
                gone.extend(old.all().filter(|old| !stays(old)).cloned());
            }
            match entry {
                Some(entry) => {
                    for served in entry.all() {
                        let evicted = self.shared.residency.admit(&served.slot, entry.routes.pinned);
                        self.shared.observer.evicted(evicted);
                    }
                    catalog.tasks.insert(name, entry);
                }
                None => drop(catalog.tasks.remove(&name)),
            }
        }
        self.store.publish(catalog);
        for served in gone {
            self.shared.residency.retire(&served.slot);
        }
    }

    /// Puts rows that were just loaded into memory, once their version has a place there.
    pub(super) fn keep_rows(&self, served: &Served, ready: &Arc<ReadyTask>) {
        let evicted = self.shared.residency.insert(&served.slot, Arc::clone(ready));
        self.shared.observer.evicted(evicted);
    }

    /// Reads the rows of pinned versions that are not in memory.
    pub(super) fn fetch_pinned(&self, name: &str) {
        let Some(entry) = self.store.task(name).filter(|entry| entry.routes.pinned) else { return };
        for served in entry.all().filter(|served| !self.shared.residency.contains(&served.slot)) {
            // told by the observer and the log; a request tries again
            drop(self.shared.read_rows(served));
        }
    }

    /// The routes that a task's state asks for. Versions that answered before are taken over, others are loaded;
    /// one that cannot be gets no requests, and the active one has its share. `None` if the engine is stopping.
    pub(super) fn routes(&self, name: &Arc<str>, active: Option<&Arc<Served>>) -> Option<Routes> {
        let state = self.states.get(name).map(|held| held.state.clone()).unwrap_or_default();
        let before = self.store.task(name);
        let is_active = |version: &str| active.is_some_and(|active| active.task.version() == version);
        let find = |version: &String| -> Option<Option<Arc<Served>>> {
            if is_active(version) {
                return Some(None);
            }
            let known = before.as_ref().and_then(|entry| entry.version(version)).cloned();
            if known.is_some() {
                return Some(known);
            }
            self.load_kept(name, version)
        };
        let mut routes = Routes::default();
        for (version, &percent) in &state.traffic {
            if let Some(served) = find(version)? {
                routes.traffic.push((served, percent));
            }
        }
        if let Some(version) = &state.shadow {
            let routed = routes.traffic.iter().find(|(served, _)| served.task.version() == version);
            routes.shadow = match routed {
                Some((served, _)) => Some(Arc::clone(served)),
                None => find(version)?,
            };
        }
        routes.pinned = state.pinned || self.options.preload.contains(&**name);
        routes.versions = state.versions;
        Some(routes)
    }

    /// Loads a kept version. The outer `None` if the engine is stopping.
    pub(super) fn load_kept(&self, name: &Arc<str>, version: &str) -> Option<Option<Arc<Served>>> {
        let source = Source::Kept(Arc::clone(name), version.to_owned());
        let candidate = Candidate { source, served: None };
        let loaded = self.shared.loader.load(&*self.shared.storage, &[candidate])?.pop();
        Some(match loaded {
            Some(Ok(loaded)) => loaded.new.map(|ready| self.served(name, &ready, loaded.bytes)),
            Some(Err(error)) => {
                tracing::error!(task = %name, version, %error, "a kept version cannot be loaded");
                None
            }
            None => None,
        })
    }

    /// A version that is about to answer.
    pub(super) fn served(&self, name: &Arc<str>, ready: &Arc<ReadyTask>, file_bytes: u64) -> Arc<Served> {
        let kept = self.states.get(name).and_then(|held| held.state.find(ready.version()));
        Arc::new(Served {
            task: Arc::clone(ready.card()),
            file_bytes,
            since: kept.map_or_else(SystemTime::now, |kept| kept.since()),
            name: Arc::clone(name),
            slot: Slot::new(),
        })
    }
}

/// The reason to note beside what is served; the one that is known if it is the same.
pub(super) fn failure(entry: Option<&Entry>, reason: String) -> (Arc<Failure>, bool) {
    match entry.and_then(|entry| entry.failure.as_ref()) {
        Some(known) if known.reason == reason => (Arc::clone(known), false),
        _ => (Arc::new(Failure { reason, at: SystemTime::now() }), true),
    }
}
