//! Making the changes that clients ask for.
//!
//! Of every change one write decides: for a version that becomes active and for a removal it is the task's own file,
//! for shares and pins it is the task's state. What is written before is invisible without it, what comes after is
//! made up for at the next look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::history::stored_state;
use super::publish::Edits;
use super::{Held, Keeper, Seen};
use crate::engine::ReadyTask;
use crate::fingerprint;
use crate::store::catalog::Entry;
use crate::store::change::{Action, Change, ChangeError, Done, Precondition};
use crate::store::listing::{Found, is_task_name, list_versions, prompt_key, state_key, version_key};
use crate::store::loader::{Candidate, LoadError, Source};
use crate::store::state::KeptVersion;
use crate::store::storage::{Condition, StorageError, Tag};

/// Versions of a task with shares: none of them is dropped, so their number is bounded.
const MAX_SHARES: usize = 16;

/// A task as a change finds it.
struct Current {
    name: Arc<str>,
    /// What the next write of its file has to find.
    condition: Condition,
    /// What is served of it.
    entry: Option<Entry>,
}

// === impl Keeper ===

impl Keeper {
    /// Makes a change, or leaves everything as it is.
    ///
    /// # Errors
    /// Why nothing was changed. If the store failed, the change may have been made or not; the next look shows.
    pub fn apply(&mut self, change: Change) -> Result<Done, ChangeError> {
        let Change { task, precondition, action } = change;
        if !is_task_name(&task) {
            return Err(ChangeError::BadName(task));
        }
        let name: Arc<str> = task.into();
        let outcome = self.make(Arc::clone(&name), &precondition, action);
        if self.store.task(&name).is_none() {
            self.states.remove(&name);
            self.unsaved.remove(&name);
        }
        outcome
    }

    fn make(
        &mut self,
        name: Arc<str>,
        precondition: &Precondition,
        action: Action,
    ) -> Result<Done, ChangeError> {
        let current = self.current(name)?;
        let active = current.active();
        if !precondition.holds(current.exists(), active.as_deref()) {
            return Err(ChangeError::Precondition { active });
        }
        match action {
            Action::Put { file, activate: true } => self.put(&current, &file.into()),
            Action::Put { file, activate: false } => self.add(&current, &file.into()),
            Action::Delete => {
                let condition = match precondition {
                    Precondition::None => &Condition::Any,
                    Precondition::Absent | Precondition::Present | Precondition::OneOf(_) => {
                        &current.condition
                    }
                };
                self.delete(&current, condition)
            }
            Action::Rollback { version } => self.rollback(&current, version.as_deref()),
            Action::Route { traffic, shadow } => self.route(&current, traffic, shadow),
            Action::Pin(pinned) => self.pin(&current, pinned),
        }
    }

    /// Looks at one task, so that a change goes by what is stored at this moment: a file that was just copied in is
    /// loaded first.
    fn current(&mut self, name: Arc<str>) -> Result<Current, ChangeError> {
        let object = self.shared.storage.read(&prompt_key(&name), self.shared.loader.limits.bytes);
        let found = |tag: Result<Tag, String>| vec![(Arc::clone(&name), Found { tag, settled: false })];
        let condition = match object {
            Ok(object) => {
                self.take_over_state(&name)?;
                if self.seen.get(&name).is_none_or(|seen| seen.tag.as_ref() != Ok(&object.tag))
                    && !self.load(&found(Ok(object.tag.clone())))
                {
                    return Err(ChangeError::Stopped);
                }
                Condition::Is(object.tag)
            }
            Err(error) if error.is_missing() => {
                self.remove(&[Arc::clone(&name)]);
                self.take_over_state(&name)?;
                Condition::Absent
            }
            Err(error) if error.is_outage() => return Err(error.into()),
            // something that is no prompt may be replaced
            Err(error) => {
                if !self.load(&found(Err(error.to_string()))) {
                    return Err(ChangeError::Stopped);
                }
                Condition::Any
            }
        };
        if self.unsaved.contains(&name) {
            self.note_unsaved(&name);
        }
        let entry = self.store.task(&name);
        Ok(Current { name, condition, entry })
    }

    fn take_over_state(&mut self, name: &Arc<str>) -> Result<(), ChangeError> {
        let known = self.states.get(name).and_then(|held| held.tag.clone());
        match stored_state(&*self.shared.storage, name)? {
            Some(held) if held.tag != known => {
                self.adopt(name, held);
                if !self.reroute(name) {
                    return Err(ChangeError::Stopped);
                }
            }
            None if known.is_some() => {
                if let Some(held) = self.states.get_mut(name) {
                    held.tag = None;
                }
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    fn put(&mut self, current: &Current, file: &Arc<[u8]>) -> Result<Done, ChangeError> {
        let version = fingerprint::of_bytes(file);
        let is_served = current.active().as_ref() == Some(&version);
        let is_bad = current.entry.as_ref().is_some_and(|entry| entry.failure.is_some());
        if is_served && !is_bad {
            return Ok(Done { active: Some(version.clone()), previous: Some(version.clone()), version });
        }
        if !current.exists() {
            self.check_room()?;
        }
        let start = Instant::now();
        let ready = self.check(Source::Bytes(Arc::clone(file)))?;
        self.activate(current, &ready, file, start)
    }

    /// Makes a version active that was checked since `start`.
    fn activate(
        &mut self,
        current: &Current,
        ready: &Arc<ReadyTask>,
        file: &[u8],
        start: Instant,
    ) -> Result<Done, ChangeError> {
        let (name, version) = (&current.name, ready.version().to_owned());
        // the version that goes may not be kept yet
        if self.unsaved.contains(name) {
            self.save_history(name)?;
        }
        self.shared.storage.write(&version_key(name, &version), file, &Condition::Any)?;
        // from here on it is done
        let tag = self.shared.storage.write(&prompt_key(name), file, &current.condition)?;
        self.seen.insert(Arc::clone(name), Seen { tag: Ok(tag), settled: false });
        let bytes = file.len() as u64;
        self.activated(name, &version, bytes);
        let served = self.served(name, ready, bytes);
        let routes = self.routes(name, Some(&served)).ok_or(ChangeError::Stopped)?;
        let entry = Entry { served: Some(Arc::clone(&served)), failure: None, routes: Arc::new(routes) };
        self.publish(Edits::from([(Arc::clone(name), Some(entry))]));
        self.keep_rows(&served, ready);
        self.shared.observer.loaded(name, start.elapsed());
        self.note_unsaved(name);
        Ok(Done { active: Some(version.clone()), previous: current.active(), version })
    }

    /// Keeps a checked version beside the active one.
    fn add(&mut self, current: &Current, file: &Arc<[u8]>) -> Result<Done, ChangeError> {
        let (name, active) = (&current.name, current.served()?);
        let ready = self.check(Source::Bytes(Arc::clone(file)))?;
        let version = ready.version().to_owned();
        self.shared.storage.write(&version_key(name, &version), file, &Condition::Any)?;
        let keep = self.options.keep_versions;
        let added = KeptVersion::new(&version, file.len() as u64, SystemTime::now());
        self.edit_state(name, |held| held.state.add(added, keep))?;
        Ok(Done { version, previous: Some(active.clone()), active: Some(active) })
    }

    /// Removes a task if its file is as `condition` says.
    fn delete(&mut self, current: &Current, condition: &Condition) -> Result<Done, ChangeError> {
        let (name, storage) = (&current.name, Arc::clone(&self.shared.storage));
        let held = self.states.get(name);
        if !current.exists() && held.is_none() {
            return Err(ChangeError::UnknownTask(name.to_string()));
        }
        let latest = held.and_then(|held| held.state.latest()).map(|kept| kept.version.clone());
        let version = current.active().or(latest).unwrap_or_default();
        storage.remove(&prompt_key(name), condition)?;
        // from here on it is done; what is left of the history hurts nobody, and goes with the next removal
        self.remove(&[Arc::clone(name)]);
        let sweep = || -> Result<(), StorageError> {
            storage.remove(&state_key(name), &Condition::Any)?;
            list_versions(&*storage, name)?
                .iter()
                .try_for_each(|version| storage.remove(&version_key(name, version), &Condition::Any))
        };
        if let Err(error) = sweep() {
            tracing::warn!(task = %name, %error, "the history of a task that was removed is still stored");
        }
        Ok(Done { version, active: None, previous: current.active() })
    }

    fn rollback(&mut self, current: &Current, version: Option<&str>) -> Result<Done, ChangeError> {
        let name = &current.name;
        let Some(held) = self.states.get(name) else {
            return Err(ChangeError::UnknownTask(name.to_string()));
        };
        let state = &held.state;
        let is_bad = current.entry.as_ref().is_none_or(|entry| entry.failure.is_some());
        let target = match version {
            Some(version) => state.find(version).ok_or_else(|| {
                format!("task {name:?} keeps no version {version}; GET /tasks/{name}/versions lists those it keeps")
            }),
            // beside a file that is bad or gone, the version before is the one that was active last
            None if is_bad => state.latest().ok_or_else(|| format!("task {name:?} keeps no version")),
            None => state.before_latest().ok_or_else(|| {
                format!("task {name:?} keeps no version that was active before; name the one to take")
            }),
        };
        let target = target.map_err(ChangeError::UnknownVersion)?.version.clone();
        if current.active().as_ref() == Some(&target) && !is_bad {
            return Ok(Done {
                active: Some(target.clone()),
                previous: Some(target.clone()),
                version: target,
            });
        }
        if !current.exists() {
            self.check_room()?;
        }
        let start = Instant::now();
        let ready = self.check(Source::Kept(Arc::clone(name), target.clone()))?;
        let file = self.shared.storage.read(&version_key(name, &target), self.shared.loader.limits.bytes)?;
        self.activate(current, &ready, &file.bytes, start)
    }

    fn route(
        &mut self,
        current: &Current,
        traffic: BTreeMap<String, u8>,
        shadow: Option<String>,
    ) -> Result<Done, ChangeError> {
        let (name, active) = (&current.name, current.served()?);
        let bad = |reason: String| Err(ChangeError::BadRoutes(reason));
        if traffic.len() > MAX_SHARES {
            return bad(format!(
                "{} versions are to get shares; give them to {MAX_SHARES} at most",
                traffic.len()
            ));
        }
        let sum: u32 = traffic.values().map(|&percent| u32::from(percent)).sum();
        if sum > 100 {
            return bad(format!(
                "the shares add up to {sum} percent; give 100 at most, the active version gets the rest"
            ));
        }
        let kept = self.states.get(name).map(|held| held.state.clone()).unwrap_or_default();
        for version in traffic.keys().chain(&shadow) {
            if *version == active {
                return bad(format!("version {version} is the active one: it gets what the others leave"));
            }
            if kept.find(version).is_none() {
                let detail =
                    format!("task {name:?} keeps no version {version}; upload it with ?activate=false first");
                return Err(ChangeError::UnknownVersion(detail));
            }
            let is_served = current.entry.as_ref().is_some_and(|entry| entry.version(version).is_some());
            if !is_served {
                self.check(Source::Kept(Arc::clone(name), version.clone()))?;
            }
        }
        self.edit_state(name, |held| (held.state.traffic, held.state.shadow) = (traffic, shadow))?;
        Ok(Done { version: active.clone(), previous: Some(active.clone()), active: Some(active) })
    }

    fn pin(&mut self, current: &Current, pinned: bool) -> Result<Done, ChangeError> {
        let active = current.served()?;
        self.edit_state(&current.name, |held| held.state.pinned = pinned)?;
        Ok(Done { version: active.clone(), previous: Some(active.clone()), active: Some(active) })
    }

    /// Changes a task's state in the store, and only then here.
    fn edit_state(&mut self, name: &Arc<str>, edit: impl FnOnce(&mut Held)) -> Result<(), ChangeError> {
        let before = self.states.get(name).cloned().unwrap_or_default();
        let mut held = before.clone();
        edit(&mut held);
        self.states.insert(Arc::clone(name), held);
        if let Err(error) = self.save_history(name) {
            self.states.insert(Arc::clone(name), before);
            return Err(error.into());
        }
        if self.reroute(name) { Ok(()) } else { Err(ChangeError::Stopped) }
    }

    /// Stores a history after the change is made; if that fails, the next look does.
    fn note_unsaved(&mut self, name: &Arc<str>) {
        if let Err(error) = self.save_history(name) {
            tracing::warn!(task = %name, %error, "the history is not stored yet");
        }
    }

    /// All checks of a file, its golden examples included.
    fn check(&self, source: Source) -> Result<Arc<ReadyTask>, ChangeError> {
        let candidate = Candidate { source, served: None };
        let loaded = self.shared.loader.load(&*self.shared.storage, &[candidate]);
        let mut loaded = loaded.ok_or(ChangeError::Stopped)?;
        let loaded = loaded.pop().unwrap_or_else(|| unreachable!("one candidate has one outcome"));
        match loaded {
            Ok(loaded) => Ok(loaded.new.expect("invariant: nothing is served that it could be the same as")),
            Err(error @ LoadError::Damaged { .. }) => Err(ChangeError::UnknownVersion(error.to_string())),
            Err(error) if error.is_missing_file() => Err(ChangeError::UnknownVersion(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    fn check_room(&self) -> Result<(), ChangeError> {
        let limit = self.options.max_prompts;
        if self.store.catalog().tasks().len() < limit { Ok(()) } else { Err(ChangeError::Full { limit }) }
    }
}

// === impl Current ===

impl Current {
    fn exists(&self) -> bool {
        self.condition != Condition::Absent
    }

    fn active(&self) -> Option<String> {
        let served = self.entry.as_ref()?.served.as_ref()?;
        Some(served.task.version().to_owned())
    }

    /// The active version of a task that answers.
    fn served(&self) -> Result<String, ChangeError> {
        self.active().ok_or_else(|| ChangeError::UnknownTask(self.name.to_string()))
    }
}
