//! Folders that PEFT saved, as prompts.
//!
//! A folder `TASK` that holds `adapter_config.json` stands for `TASK.safetensors` where there is no such file: it is
//! listed under that name, and reading it gives the prompt file that the adapter makes together with its `task.toml` and
//! the loaded model. So it is checked, kept and rolled back like any other. What writes `TASK.safetensors` takes the
//! folder's place, and what removes it removes the adapter too.

use std::collections::HashSet;
use std::sync::Arc;

use super::listing::{PROMPT, prompt_key};
use super::loader::Loader;
use super::parallel;
use super::storage::{Condition, Listed, Object, Storage, StorageError, Tag};
use crate::exchange::{
    ADAPTER_CONFIG, ADAPTER_PICKLE, ADAPTER_WEIGHTS, ExchangeError, Foreign, SETTINGS, Settings,
};
use crate::fingerprint;
use crate::prompt::Base;
use crate::t5::Config;

/// The files of an adapter; the first makes a folder one.
const FILES: [&str; 4] = [ADAPTER_CONFIG, ADAPTER_WEIGHTS, ADAPTER_PICKLE, SETTINGS];

/// Bytes of a configuration or settings; more are none.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// Begins the tag of an adapter, which is made of its files' tags.
const TAG: &str = "adapter-";

/// A place whose folders may be adapters.
#[derive(Debug)]
pub(super) struct WithAdapters {
    inner: Arc<dyn Storage>,
    base: Base,
    config: Config,
}

/// An adapter's files as listed.
struct Adapter {
    tag: Tag,
    bytes: u64,
    settled: bool,
    has_pickle: bool,
}

/// The task whose active version has this key.
fn task_of(key: &str) -> Option<&str> {
    key.strip_suffix(PROMPT).filter(|task| !task.is_empty() && !task.contains('/'))
}

fn part(task: &str, file: &str) -> String {
    format!("{task}/{file}")
}

// === impl WithAdapters ===

impl WithAdapters {
    pub(super) fn new(inner: Arc<dyn Storage>, loader: &Loader) -> Self {
        Self { inner, base: loader.base.clone(), config: loader.config.clone() }
    }

    /// The adapter in a task's folder, if there is one.
    fn adapter(&self, task: &str) -> Result<Option<Adapter>, StorageError> {
        let listed = self.inner.list(task, "")?;
        let of_adapter = |file: &&Listed| FILES.contains(&file.name.as_str());
        let mut files: Vec<&Listed> = listed.iter().filter(of_adapter).collect();
        if files.iter().all(|file| file.name != ADAPTER_CONFIG) {
            return Ok(None);
        }
        files.sort_unstable_by_key(|file| &file.name);
        let states: Vec<String> =
            files.iter().map(|file| format!("{} {:?}\n", file.name, file.tag)).collect();
        let hash = fingerprint::of_parts(states.iter().map(String::as_bytes));
        Ok(Some(Adapter {
            tag: Tag(format!("{TAG}{hash}")),
            bytes: files.iter().map(|file| file.bytes).sum(),
            settled: files.iter().all(|file| file.settled),
            has_pickle: files.iter().any(|file| file.name == ADAPTER_PICKLE),
        }))
    }

    /// The prompt file that a task's folder makes, if it is an adapter.
    fn converted(&self, task: &str, limit: u64) -> Result<Option<Object>, StorageError> {
        let Some(adapter) = self.adapter(task)? else { return Ok(None) };
        let read = |file: &str, limit| match self.inner.read(&part(task, file), limit) {
            Ok(object) => Ok(Some(object.bytes)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        };
        let config = read(ADAPTER_CONFIG, MAX_TEXT_BYTES)?;
        let weights = read(ADAPTER_WEIGHTS, limit)?;
        let settings = read(SETTINGS, MAX_TEXT_BYTES)?;
        // removed since it was listed
        let Some(config) = config else { return Ok(None) };
        let made = self.prompt(&config, weights.as_deref(), settings.as_deref(), adapter.has_pickle);
        match made {
            Ok(bytes) => Ok(Some(Object { bytes, tag: adapter.tag })),
            Err(error) => {
                Err(StorageError::Unusable { key: format!("folder {task}"), reason: error.to_string() })
            }
        }
    }

    fn prompt(
        &self,
        config: &[u8],
        weights: Option<&[u8]>,
        settings: Option<&[u8]>,
        has_pickle: bool,
    ) -> Result<Vec<u8>, ExchangeError> {
        let weights = weights.ok_or_else(|| {
            if has_pickle {
                return ExchangeError::Pickle { file: ADAPTER_PICKLE.to_owned() };
            }
            let remedy = "copy it beside adapter_config.json";
            ExchangeError::Missing { file: ADAPTER_WEIGHTS, remedy }
        })?;
        let foreign = Foreign::from_peft(config, weights)?;
        let settings = Settings::parse(settings.ok_or(ExchangeError::Missing {
            file: SETTINGS,
            remedy: "an adapter does not say what its texts and labels are: write them into that file beside it, as [task] with \
                     template and labels",
        })?)?;
        foreign.fits(&self.base, &self.config, settings.base_model.as_deref())?;
        let origin = foreign.origin.clone();
        let file = foreign.into_file(settings.task, &self.base, origin);
        file.to_bytes().map_err(|error| ExchangeError::Malformed {
            file: ADAPTER_CONFIG.to_owned(),
            reason: error.to_string(),
        })
    }

    /// The tag of a task's file, if there is one.
    fn file_tag(&self, key: &str) -> Result<Option<Tag>, StorageError> {
        let listed = self.inner.list("", key)?;
        Ok(listed.into_iter().find(|file| file.name == key).and_then(|file| file.tag.ok()))
    }

    /// Removes what makes a folder an adapter, then the rest of it.
    fn remove_adapter(&self, task: &str) -> Result<(), StorageError> {
        FILES.iter().try_for_each(|file| self.inner.remove(&part(task, file), &Condition::Any))
    }
}

impl Storage for WithAdapters {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn list(&self, folder: &str, suffix: &str) -> Result<Vec<Listed>, StorageError> {
        let mut listed = self.inner.list(folder, suffix)?;
        if !folder.is_empty() || suffix != PROMPT {
            return Ok(listed);
        }
        let files: HashSet<String> = listed.iter().map(|file| file.name.clone()).collect();
        let mut folders = self.inner.folders()?;
        folders.retain(|task| !files.contains(&prompt_key(task)));
        for (task, adapter) in folders.iter().zip(parallel::map(&folders, |task| self.adapter(task))) {
            if let Some(Adapter { tag, bytes, settled, .. }) = adapter? {
                listed.push(Listed { name: prompt_key(task), tag: Ok(tag), bytes, settled });
            }
        }
        Ok(listed)
    }

    fn folders(&self) -> Result<Vec<String>, StorageError> {
        self.inner.folders()
    }

    fn read(&self, key: &str, limit: u64) -> Result<Object, StorageError> {
        match (self.inner.read(key, limit), task_of(key)) {
            (Err(error), Some(task)) if error.is_missing() => self.converted(task, limit)?.ok_or(error),
            (read, _) => read,
        }
    }

    fn write(&self, key: &str, bytes: &[u8], condition: &Condition) -> Result<Tag, StorageError> {
        let changed = || StorageError::Changed { key: key.to_owned() };
        let adapter = |task| Ok::<_, StorageError>(self.adapter(task)?.map(|adapter| adapter.tag));
        match (condition, task_of(key)) {
            (Condition::Is(wanted), Some(task)) if wanted.0.starts_with(TAG) => {
                if adapter(task)?.as_ref() != Some(wanted) {
                    return Err(changed());
                }
                self.inner.write(key, bytes, &Condition::Absent)
            }
            (Condition::Absent, Some(task)) if adapter(task)?.is_some() => Err(changed()),
            _ => self.inner.write(key, bytes, condition),
        }
    }

    fn remove(&self, key: &str, condition: &Condition) -> Result<(), StorageError> {
        let Some(task) = task_of(key) else { return self.inner.remove(key, condition) };
        let Some(adapter) = self.adapter(task)? else { return self.inner.remove(key, condition) };
        // a file lies over the folder, which would show when only the file went: so the folder goes first
        let file = self.file_tag(key)?;
        if !condition.holds(Some(file.as_ref().unwrap_or(&adapter.tag))) {
            return Err(StorageError::Changed { key: key.to_owned() });
        }
        self.remove_adapter(task)?;
        match file {
            Some(_) => self.inner.remove(key, condition),
            None => Ok(()),
        }
    }
}
