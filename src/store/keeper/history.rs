//! Keeping versions and states in the store, beside the active files.
//!
//! The active file is the truth, and the history follows it: what is cut off between two writes is made up for at the
//! next look.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Held, Keeper};
use crate::fingerprint;
use crate::store::listing::{Listing, list_versions, prompt_key, state_key, version_key};
use crate::store::parallel;
use crate::store::state::State;
use crate::store::storage::{Condition, Storage, StorageError};

/// Histories that are stored between two looks; a first start on many prompts takes several.
const SAVES: usize = 64;

/// How long that may take: changes that clients ask for wait meanwhile.
const SAVE_TIME: Duration = Duration::from_millis(500);

/// Bytes of a state: more is not one.
const MAX_STATE_BYTES: u64 = 1 << 20;

// === impl Keeper ===

impl Keeper {
    /// The tasks whose stored state is not the one that is known here.
    pub(super) fn changed_states(&self, listing: &Listing) -> Vec<Arc<str>> {
        let known = |name: &str| self.states.get(name).and_then(|held| held.tag.as_ref());
        let changed = listing
            .states
            .iter()
            .filter(|&(name, tag)| listing.prompts.contains_key(name) && known(name) != Some(tag));
        changed.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Takes over the stored states of tasks.
    pub(super) fn read_states(&mut self, names: &[Arc<str>]) {
        let storage = &*self.shared.storage;
        let states = parallel::map(names, |name| stored_state(storage, name));
        for (name, stored) in names.iter().zip(states) {
            match stored {
                Ok(Some(held)) => self.adopt(name, held),
                Ok(None) => {}
                Err(error) => tracing::warn!(task = %name, %error, "a task's state cannot be read"),
            }
        }
    }

    /// Goes by what is stored from now on, but not behind the active file: another server may not have seen it yet.
    pub(super) fn adopt(&mut self, name: &Arc<str>, held: Held) {
        if held.is_broken {
            self.unsaved.insert(Arc::clone(name));
        } else {
            self.unsaved.remove(name);
        }
        self.states.insert(Arc::clone(name), held);
        if let Some(active) = self.store.task(name).and_then(|entry| entry.served) {
            self.activated(name, active.task.version(), active.file_bytes);
        }
    }

    /// Stores histories that are not stored yet, some at a time.
    pub(super) fn save_histories(&mut self) {
        let end = Instant::now() + SAVE_TIME;
        let names: Vec<Arc<str>> = self.unsaved.iter().take(SAVES).cloned().collect();
        for name in names.into_iter().take_while(|_| Instant::now() < end) {
            match self.save_history(&name) {
                Ok(()) => {}
                Err(StorageError::Changed { .. }) => self.read_states(&[name]),
                Err(error) => {
                    let text = error.to_string();
                    if self.save_error.as_ref() != Some(&text) {
                        tracing::warn!(error = text, "versions are not kept: the store cannot be written");
                        self.save_error = Some(text);
                    }
                    return;
                }
            }
        }
        if self.unsaved.is_empty() {
            self.save_error = None;
        }
    }

    /// Stores a task's history: the active file as a kept version, then the state, then what the state dropped goes.
    pub(super) fn save_history(&mut self, name: &Arc<str>) -> Result<(), StorageError> {
        let Some(held) = self.states.get(name) else { return Ok(()) };
        let storage = &*self.shared.storage;
        let stored = list_versions(storage, name)?;
        let mut state = held.state.clone();
        if let Some(latest) = state.latest().map(|latest| latest.version.clone())
            && !stored.contains(&latest)
        {
            let read = storage.read(&prompt_key(name), self.shared.loader.limits.bytes);
            match read {
                Ok(object) if fingerprint::of_bytes(&object.bytes) == latest => {
                    storage.write(&version_key(name, &latest), &object.bytes, &Condition::Any)?;
                }
                Err(error) if error.is_outage() => return Err(error),
                // replaced already: the next look shows by what
                _ => {
                    self.unsaved.remove(name);
                    return Ok(());
                }
            }
        }
        let lost: Vec<String> = (state.versions.iter().skip(1))
            .map(|kept| kept.version.clone())
            .filter(|version| !stored.contains(version))
            .collect();
        for version in &lost {
            tracing::warn!(task = %name, version, "a kept version's file is gone");
            state.forget(version);
        }
        let condition = held.tag.clone().map_or(Condition::Absent, Condition::Is);
        let tag = storage.write(&state_key(name), &state.to_json(), &condition)?;
        for version in stored.iter().filter(|version| state.find(version).is_none()) {
            storage.remove(&version_key(name, version), &Condition::Any)?;
        }
        let rerouted = !lost.is_empty();
        self.states.insert(Arc::clone(name), Held { state, tag: Some(tag), is_broken: false });
        self.unsaved.remove(name);
        if rerouted {
            self.reroute(name);
        }
        Ok(())
    }
}

/// What is stored of a task's history. Of a state that cannot be understood the versions are left.
pub(super) fn stored_state(storage: &dyn Storage, name: &str) -> Result<Option<Held>, StorageError> {
    let object = match storage.read(&state_key(name), MAX_STATE_BYTES) {
        Ok(object) => object,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error),
    };
    let (state, is_broken) = match State::from_json(&object.bytes) {
        Ok(state) => (state, false),
        Err(reason) => {
            tracing::error!(task = name, reason, "a task's state is not understood; its versions are kept");
            let stored = list_versions(storage, name)?;
            (State::of_versions(stored.iter().map(String::as_str)), true)
        }
    };
    Ok(Some(Held { state, tag: Some(object.tag), is_broken }))
}
