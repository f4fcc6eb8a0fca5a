//! A run's folder: what it is a run of, what is finished, and what is under way.
//!
//! `run.json` says what the run is; only the same run goes on in the same folder. `state/NAME.done` holds the result of
//! a finished part, `state/NAME.underway` where a part stands. Every file is written under another name and renamed, so
//! a run that is killed at any moment finds each as it was or as it should be.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xprompt::fingerprint;
use xprompt::prompt::write_atomically;

use crate::log::Position;
use crate::summary::Timing;

/// Why a run's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system failed.
    #[error(
        "{path}: {source}; the last finished part is kept, run the same command again to go on from there"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process runs in the folder.
    #[error("{path}: another process runs here; wait for it, or choose another folder with --out")]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds another run.
    #[error(
        "{path}: the folder holds a run with other settings ({what} differs); choose another with --out, or remove it"
    )]
    Other {
        /// The folder.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// The folder holds files, but no run.
    #[error("{path}: the folder is not empty and holds no run; choose another with --out")]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// A file of the run is damaged.
    #[error("{path}: the file is damaged ({reason}); remove it to do this part again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A run's folder, locked for this process.
#[derive(Debug)]
pub struct Folder {
    path: Option<PathBuf>,
    /// Holds the lock while the folder is in use.
    _lock: Option<File>,
    parts: usize,
    times: Vec<Timing>,
    /// Time that earlier sittings spent in the part that is under way.
    earlier: f64,
    sitting: Instant,
}

/// A state file's content: what it holds, behind a hash of it.
#[derive(Serialize, Deserialize)]
struct Sealed {
    hash: String,
    seconds: f64,
    log: Position,
    content: Vec<u8>,
}

// === impl Folder ===

impl Folder {
    /// No folder: nothing is kept.
    #[must_use]
    pub fn none() -> Self {
        Self { path: None, _lock: None, parts: 0, times: Vec::new(), earlier: 0.0, sitting: Instant::now() }
    }

    /// Opens or makes the folder of the run that `run` describes. Returns it with the description that is in force: the
    /// one that the folder already holds, where `free` keys may differ.
    ///
    /// # Errors
    /// If the folder holds something else, another process uses it, or the system fails.
    pub fn open(path: &Path, run: &Value, free: &[&str]) -> Result<(Self, Value), FolderError> {
        let io = |source| FolderError::Io { path: path.to_owned(), source };
        let file = path.join("run.json");
        let holds_files = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        if holds_files && !file.exists() {
            return Err(FolderError::Foreign { path: path.to_owned() });
        }
        std::fs::create_dir_all(path.join("state")).map_err(io)?;
        let lock = File::create(path.join("state/lock")).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(FolderError::Busy { path: path.to_owned() });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(io(source)),
        }
        let run = if file.exists() {
            let text =
                std::fs::read(&file).map_err(|source| FolderError::Io { path: file.clone(), source })?;
            let known: Value = serde_json::from_slice(&text)
                .map_err(|error| FolderError::Damaged { path: file.clone(), reason: error.to_string() })?;
            match differs(&known, run, free, "") {
                Some(what) => return Err(FolderError::Other { path: path.to_owned(), what }),
                None => known,
            }
        } else {
            let text = format!("{run:#}\n");
            write_atomically(&file, text.as_bytes())
                .map_err(|source| FolderError::Io { path: file.clone(), source })?;
            run.clone()
        };
        let folder = Self { path: Some(path.to_owned()), _lock: Some(lock), ..Self::none() };
        Ok((folder, run))
    }

    /// Removes the folder of a run whose result lies elsewhere; files that are not the run's stay, and the folder then.
    ///
    /// # Errors
    /// If the system fails.
    pub fn remove(self) -> Result<(), FolderError> {
        let Self { path: Some(folder), _lock: lock, .. } = self else { return Ok(()) };
        drop(lock);
        let (state, run) = (folder.join("state"), folder.join("run.json"));
        std::fs::remove_dir_all(&state).map_err(|source| FolderError::Io { path: state, source })?;
        std::fs::remove_file(&run).map_err(|source| FolderError::Io { path: run, source })?;
        match std::fs::remove_dir(&folder) {
            Err(source) if source.kind() != std::io::ErrorKind::DirectoryNotEmpty => {
                Err(FolderError::Io { path: folder, source })
            }
            _ => Ok(()),
        }
    }

    /// Begins the next part of the run. Returns its result if it was finished before.
    ///
    /// # Errors
    /// If its file is damaged.
    pub fn begin<T: DeserializeOwned>(&mut self, part: &str) -> Result<Option<T>, FolderError> {
        self.parts += 1;
        self.sitting = Instant::now();
        self.earlier = 0.0;
        let Some((done, seconds)) = self.read(part, "done")? else { return Ok(None) };
        self.times.push(Timing { part: part.to_owned(), seconds });
        Ok(Some(done))
    }

    /// Keeps the result of the part that was begun, and how far the log is.
    ///
    /// # Errors
    /// If the system fails to write.
    pub fn finish<T: Serialize>(&mut self, part: &str, result: &T, log: Position) -> Result<(), FolderError> {
        let seconds = self.seconds();
        self.write(part, "done", log, result)?;
        self.times.push(Timing { part: part.to_owned(), seconds });
        if let Some(path) = self.file(part, "underway")
            && path.exists()
        {
            std::fs::remove_file(&path).map_err(|source| FolderError::Io { path, source })?;
        }
        Ok(())
    }

    /// Whether the part that was begun was under way before.
    #[must_use]
    pub fn is_under_way(&self, part: &str) -> bool {
        self.file(part, "underway").is_some_and(|path| path.exists())
    }

    /// Where the part that was begun stands, if it was under way before.
    ///
    /// # Errors
    /// If its file is damaged.
    pub fn under_way<T: DeserializeOwned>(&mut self, part: &str) -> Result<Option<T>, FolderError> {
        let Some((state, seconds)) = self.read(part, "underway")? else { return Ok(None) };
        self.earlier = seconds;
        Ok(Some(state))
    }

    /// Keeps where the part that was begun stands, and how far the log is.
    ///
    /// # Errors
    /// If the system fails to write; what was kept before stays.
    pub fn put_under_way<T: Serialize>(
        &self,
        part: &str,
        state: &T,
        log: Position,
    ) -> Result<(), FolderError> {
        self.write(part, "underway", log, state)
    }

    /// How far the log was when something was last kept; none if nothing was.
    ///
    /// # Errors
    /// If the file that says it is damaged.
    pub fn log_position(&self) -> Result<Option<Position>, FolderError> {
        let Some(folder) = self.path.as_ref().map(|path| path.join("state")) else { return Ok(None) };
        let entries =
            std::fs::read_dir(&folder).map_err(|source| FolderError::Io { path: folder, source })?;
        let kept = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "done" || kind == "underway"));
        // parts are numbered; of one part, what is done is later than what was under way
        let rank = |path: &PathBuf| {
            let done = path.extension().is_some_and(|kind| kind == "done");
            (path.file_stem().map(std::ffi::OsStr::to_owned), done)
        };
        kept.max_by_key(rank).map(|path| Ok(unseal(&path)?.log)).transpose()
    }

    /// Wall time that the part that was begun has taken, over all sittings.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.earlier + self.sitting.elapsed().as_secs_f64()
    }

    /// Wall time of the parts so far, over all sittings.
    #[must_use]
    pub fn times(&self) -> &[Timing] {
        &self.times
    }

    fn file(&self, part: &str, kind: &str) -> Option<PathBuf> {
        let name = part.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        self.path.as_ref().map(|path| path.join(format!("state/{:02}-{name}.{kind}", self.parts)))
    }

    fn read<T: DeserializeOwned>(&self, part: &str, kind: &str) -> Result<Option<(T, f64)>, FolderError> {
        let Some(path) = self.file(part, kind).filter(|path| path.exists()) else { return Ok(None) };
        let sealed = unseal(&path)?;
        let content = postcard::from_bytes(&sealed.content)
            .map_err(|error| FolderError::Damaged { path, reason: error.to_string() })?;
        Ok(Some((content, sealed.seconds)))
    }

    fn write<T: Serialize>(
        &self,
        part: &str,
        kind: &str,
        log: Position,
        value: &T,
    ) -> Result<(), FolderError> {
        let Some(path) = self.file(part, kind) else { return Ok(()) };
        let io = |source| FolderError::Io { path: path.clone(), source };
        let other = |error: postcard::Error| io(std::io::Error::other(error));
        let content = postcard::to_allocvec(value).map_err(other)?;
        let hash = fingerprint::of_bytes(&content);
        let sealed = Sealed { hash, seconds: self.seconds(), log, content };
        write_atomically(&path, &postcard::to_allocvec(&sealed).map_err(other)?).map_err(io)
    }
}

fn unseal(path: &Path) -> Result<Sealed, FolderError> {
    let bytes = std::fs::read(path).map_err(|source| FolderError::Io { path: path.to_owned(), source })?;
    let damaged = |reason: String| FolderError::Damaged { path: path.to_owned(), reason };
    let sealed: Sealed = postcard::from_bytes(&bytes).map_err(|error| damaged(error.to_string()))?;
    if fingerprint::of_bytes(&sealed.content) != sealed.hash {
        return Err(damaged("its hash does not fit".into()));
    }
    Ok(sealed)
}

/// The first key, as a path, in which two descriptions of a run differ; keys of `free` may.
fn differs(known: &Value, given: &Value, free: &[&str], at: &str) -> Option<String> {
    match (known, given) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> =
                a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))).collect();
            keys.retain(|key| !free.contains(&key.as_str()));
            keys.into_iter().find_map(|key| {
                let place = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                differs(a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), free, &place)
            })
        }
        (a, b) => (a != b).then(|| at.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_same_run_goes_on_and_another_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("out");
        let run = json!({"seeds": [1], "tasks": {"a": {"tuning": {"learning_rate": 0.3}}}, "plan": 7});
        let (mut folder, _) = Folder::open(&path, &run, &["plan"]).unwrap();
        assert!(matches!(Folder::open(&path, &run, &[]), Err(FolderError::Busy { .. })));
        assert_eq!(folder.begin::<Vec<u32>>("first").unwrap(), None);
        folder.finish("first", &vec![1u32, 2], Position::default()).unwrap();
        assert_eq!(folder.begin::<u32>("second").unwrap(), None);
        folder.put_under_way("second", &9u32, Position::default()).unwrap();
        drop(folder);

        let mut later = run.clone();
        later["plan"] = json!(8);
        let (mut folder, in_force) = Folder::open(&path, &later, &["plan"]).unwrap();
        assert_eq!(in_force["plan"], 7, "what was planned first stays in force");
        assert_eq!(folder.begin::<Vec<u32>>("first").unwrap(), Some(vec![1, 2]));
        assert_eq!(folder.begin::<u32>("second").unwrap(), None);
        assert_eq!(folder.under_way::<u32>("second").unwrap(), Some(9));
        folder.finish("second", &10u32, Position::default()).unwrap();
        assert!(!path.join("state/02-second.underway").exists());
        drop(folder);

        let mut other = run.clone();
        other["tasks"]["a"]["tuning"]["learning_rate"] = json!(0.1);
        let error = Folder::open(&path, &other, &["plan"]).unwrap_err().to_string();
        assert!(error.contains("tasks.a.tuning.learning_rate differs"), "{error}");
    }

    #[test]
    fn a_folder_that_is_removed_leaves_only_what_is_not_the_runs() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("out");
        let done = || {
            let (mut folder, _) = Folder::open(&path, &json!({}), &[]).unwrap();
            folder.begin::<u32>("first").unwrap();
            folder.finish("first", &1u32, Position::default()).unwrap();
            folder
        };
        done().remove().unwrap();
        assert!(!path.exists());
        let folder = done();
        std::fs::write(path.join("letter.txt"), "dear").unwrap();
        folder.remove().unwrap();
        let left: Vec<_> =
            std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["letter.txt"]);
    }

    #[test]
    fn foreign_folders_and_damaged_files_are_named() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::write(parent.path().join("letter.txt"), "dear").unwrap();
        assert!(matches!(Folder::open(parent.path(), &json!({}), &[]), Err(FolderError::Foreign { .. })));

        let path = parent.path().join("out");
        let (mut folder, _) = Folder::open(&path, &json!({}), &[]).unwrap();
        folder.begin::<u32>("first").unwrap();
        folder.finish("first", &1u32, Position::default()).unwrap();
        drop(folder);
        let file = path.join("state/01-first.done");
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let (mut folder, _) = Folder::open(&path, &json!({}), &[]).unwrap();
        let error = folder.begin::<u32>("first").unwrap_err().to_string();
        assert!(error.contains("01-first.done") && error.contains("damaged"), "{error}");
    }
}
