//! Objects as files of a folder. A tag is the file's time, size and inode.

use std::fs::{DirEntry, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Condition, Listed, Object, Storage, StorageError, Tag};
use crate::prompt::{UNFINISHED, replace_atomically};

/// A file written so short a time ago may be written again without another tag.
const SETTLED: Duration = Duration::from_secs(2);

/// A file under a temporary name is being written no longer than this.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Held while a condition is checked and the file renamed or removed, so that two servers on a folder do not overwrite each
/// other's change. A file that is copied in by hand asks for no lock.
const LOCK: &str = ".xprompt/lock";

/// A folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderStorage {
    root: PathBuf,
}

// === impl FolderStorage ===

impl FolderStorage {
    /// Objects below a folder. It need not be there yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Makes the folders of a key below the top, one after the other. The top is never made, at whatever moment it is moved
    /// away: a folder that is lost comes back as it was.
    fn make_folders(&self, key: &str) -> io::Result<()> {
        for (end, _) in key.match_indices('/') {
            match std::fs::create_dir(self.path(&key[..end])) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The other writers' turn ends with the value that is returned.
    fn lock(&self) -> io::Result<File> {
        self.make_folders(LOCK)?;
        let file = File::options().create(true).truncate(false).write(true).open(self.path(LOCK))?;
        file.lock()?;
        Ok(file)
    }

    /// Whether a condition holds; within the lock it goes on to.
    fn check(&self, key: &str, condition: &Condition) -> Result<(), StorageError> {
        if *condition == Condition::Any || condition.holds(self.tag_of(key)?.as_ref()) {
            return Ok(());
        }
        Err(StorageError::Changed { key: key.to_owned() })
    }

    fn tag_of(&self, key: &str) -> Result<Option<Tag>, StorageError> {
        match std::fs::metadata(self.path(key)).map_err(|error| self.error(key, &error)) {
            Ok(metadata) => Ok(Some(tag(&metadata))),
            Err(StorageError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A file is missing only where the folder is there: of a folder that is away nothing is known.
    fn error(&self, key: &str, error: &io::Error) -> StorageError {
        if is_absent(error) && self.root.is_dir() {
            return StorageError::Missing { key: key.to_owned() };
        }
        unavailable(&self.path(key), error)
    }
}

impl Storage for FolderStorage {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn list(&self, folder: &str, suffix: &str) -> Result<Vec<Listed>, StorageError> {
        let path = self.path(folder);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if !folder.is_empty() && self.error(folder, &error).is_missing() => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(unavailable(&path, &error)),
        };
        let now = SystemTime::now();
        let mut listed = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| unavailable(&path, &error))?;
            let file = entry.file_name();
            let name = file.to_string_lossy();
            if name.starts_with(UNFINISHED) {
                remove_if_abandoned(&entry, now);
            }
            if name.starts_with('.') || !name.ends_with(suffix) {
                continue;
            }
            let (tag, bytes, settled) = match std::fs::metadata(path.join(&file)) {
                Ok(metadata) if metadata.is_file() => {
                    (Ok(tag(&metadata)), metadata.len(), is_settled(&metadata, now))
                }
                Ok(_) => (Err("not a regular file".into()), 0, true),
                // still in the folder that was opened, but not by its path: the folder itself was moved away
                Err(error) if is_absent(&error) && is_file(&entry) => return Err(unavailable(&path, &error)),
                // removed since it was listed, or a link to nothing
                Err(error) if is_absent(&error) => continue,
                Err(error) => (Err(format!("{}: {error}", path.join(&file).display())), 0, true),
            };
            listed.push(Listed { name: name.into_owned(), tag, bytes, settled });
        }
        Ok(listed)
    }

    fn folders(&self) -> Result<Vec<String>, StorageError> {
        let failed = |error: io::Error| unavailable(&self.root, &error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // links are followed; what is a file costs no look behind it
            let may_be = entry.file_type().is_ok_and(|kind| !kind.is_file());
            if may_be && !name.starts_with('.') && entry.path().is_dir() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read(&self, key: &str, limit: u64) -> Result<Object, StorageError> {
        let io = |error: io::Error| self.error(key, &error);
        let path = self.path(key);
        // opening a pipe would wait for its writer
        if !std::fs::metadata(&path).map_err(io)?.is_file() {
            return Err(StorageError::Irregular { key: key.to_owned() });
        }
        let file = File::open(path).map_err(io)?;
        let tag = tag(&file.metadata().map_err(io)?);
        let mut bytes = Vec::new();
        // one byte more than allowed tells a file that is too large, even if it grows meanwhile
        (&file).take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > limit {
            let bytes = file.metadata().map_err(io)?.len();
            return Err(StorageError::TooLarge { key: key.to_owned(), bytes, limit });
        }
        Ok(Object { bytes, tag })
    }

    fn write(&self, key: &str, bytes: &[u8], condition: &Condition) -> Result<Tag, StorageError> {
        let path = self.path(key);
        let failed = |error: io::Error| unavailable(&path, &error);
        let lock = self.lock().map_err(failed)?;
        self.check(key, condition)?;
        self.make_folders(key).map_err(failed)?;
        let written = replace_atomically(&path, bytes).map_err(failed)?;
        drop(lock);
        Ok(tag(&written))
    }

    fn remove(&self, key: &str, condition: &Condition) -> Result<(), StorageError> {
        let path = self.path(key);
        let lock = self.lock();
        // without a condition a folder that takes no lock may be cleared all the same
        if *condition != Condition::Any {
            lock.as_ref().map_err(|error| unavailable(&path, error))?;
            self.check(key, condition)?;
        }
        let removed = std::fs::remove_file(&path).and_then(|()| match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        });
        drop(lock);
        match removed {
            Err(error) if !is_absent(&error) => Err(unavailable(&path, &error)),
            _ => Ok(()),
        }
    }
}

/// Whether there is no such file, also because a folder above it is none.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether a listed name is a file's, links not followed.
fn is_file(entry: &DirEntry) -> bool {
    entry.metadata().is_ok_and(|metadata| metadata.is_file())
}

/// Clears away what a writer left that was killed. That it cannot be removed is nobody's problem.
fn remove_if_abandoned(entry: &DirEntry, now: SystemTime) {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|modified| now.duration_since(modified).ok());
    if age.is_some_and(|age| age >= ABANDONED) {
        drop(std::fs::remove_file(entry.path()));
    }
}

fn unavailable(path: &Path, error: &io::Error) -> StorageError {
    StorageError::Unavailable { what: path.display().to_string(), reason: error.to_string() }
}

fn tag(metadata: &Metadata) -> Tag {
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    let inode = 0;
    let modified = metadata.modified().ok();
    let since = modified.and_then(|modified| modified.duration_since(SystemTime::UNIX_EPOCH).ok());
    Tag(format!("{:x}-{:x}-{inode:x}", since.map_or(0, |since| since.as_nanos()), metadata.len()))
}

/// Whether a change from now on must show in the file's tag.
fn is_settled(metadata: &Metadata, now: SystemTime) -> bool {
    let age = metadata.modified().ok().and_then(|modified| now.duration_since(modified).ok());
    // a time that is missing or lies ahead never becomes old; the tag is all there is
    age.is_none_or(|age| age >= SETTLED)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_listing_takes_files_with_the_suffix_and_passes_over_hidden_ones() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["a.safetensors", ".writing-1.safetensors", "notes.txt"] {
            std::fs::write(folder.path().join(file), "x").unwrap();
        }
        std::fs::create_dir(folder.path().join("dir.safetensors")).unwrap();
        let storage = FolderStorage::new(folder.path());
        let mut listed = storage.list("", ".safetensors").unwrap();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<&str> = listed.iter().map(|listed| listed.name.as_str()).collect();
        assert_eq!(names, ["a.safetensors", "dir.safetensors"]);
        assert!(listed[0].tag.is_ok() && listed[1].tag.is_err());
        assert_eq!(storage.list("nowhere", ".json"), Ok(Vec::new()));
        std::fs::create_dir(folder.path().join(".hidden")).unwrap();
        assert_eq!(storage.folders().unwrap(), ["dir.safetensors"]);
        assert!(FolderStorage::new(folder.path().join("nowhere")).list("", ".json").unwrap_err().is_outage());
    }

    #[test]
    fn a_listing_clears_away_what_a_killed_writer_left_an_hour_ago() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, age: u64| {
            let path = folder.path().join(name);
            let file = File::create(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
            path
        };
        let (left, fresh) = (at(".writing-old", 3700), at(".writing-new", 60));
        let others = at(".hidden", 3700);
        FolderStorage::new(folder.path()).list("", ".safetensors").unwrap();
        assert!(!left.exists() && fresh.exists() && others.exists());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_not_waited_for_and_may_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let storage = FolderStorage::new(folder.path());
        let made = std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap();
        assert!(made.success());
        let irregular = StorageError::Irregular { key: "pipe".into() };
        assert_eq!(storage.read("pipe", 9), Err(irregular));
        storage.write("pipe", b"1", &Condition::Any).unwrap();
        assert_eq!(storage.read("pipe", 9).unwrap().bytes, b"1");
    }

    #[test]
    fn of_a_folder_that_is_away_nothing_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("prompts");
        std::fs::create_dir(&root).unwrap();
        let storage = FolderStorage::new(&root);
        assert!(storage.read("a", 9).unwrap_err().is_missing());
        std::fs::rename(&root, folder.path().join("away")).unwrap();
        assert!(storage.read("a", 9).unwrap_err().is_outage());
        assert!(storage.write("a", b"1", &Condition::Absent).unwrap_err().is_outage());
        assert!(storage.list(".xprompt/versions/a", ".safetensors").unwrap_err().is_outage());
    }

    #[test]
    fn a_folder_that_is_moved_while_it_is_written_to_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (root, away) = (folder.path().join("prompts"), folder.path().join("away"));
        std::fs::create_dir(&root).unwrap();
        let storage = FolderStorage::new(&root);
        let written = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !written.load(Ordering::Relaxed) {
                    std::fs::rename(&root, &away).unwrap();
                    std::thread::sleep(Duration::from_micros(20));
                    // another folder of that name with something in it would stand in the way
                    std::fs::rename(&away, &root).unwrap();
                }
            });
            for i in 0..3000 {
                match storage.write(&format!(".xprompt/versions/{i}/a"), b"1", &Condition::Any) {
                    Ok(_) => {}
                    Err(error) => assert!(error.is_outage(), "{error}"),
                }
            }
            written.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_folder_that_is_moved_while_it_is_listed_is_listed_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let (root, away) = (folder.path().join("prompts"), folder.path().join("away"));
        std::fs::create_dir(&root).unwrap();
        for i in 0..50 {
            std::fs::write(root.join(format!("{i}.safetensors")), "x").unwrap();
        }
        let storage = FolderStorage::new(&root);
        std::thread::scope(|scope| {
            let moving = scope.spawn(|| {
                for _ in 0..2000 {
                    std::fs::rename(&root, &away).unwrap();
                    std::fs::rename(&away, &root).unwrap();
                }
            });
            while !moving.is_finished() {
                match storage.list("", ".safetensors") {
                    Ok(listed) => assert_eq!(listed.len(), 50),
                    Err(error) => assert!(error.is_outage(), "{error}"),
                }
            }
        });
    }

    #[test]
    fn a_write_happens_only_where_its_condition_holds() {
        let folder = tempfile::tempdir().unwrap();
        let storage = FolderStorage::new(folder.path());
        let first = storage.write("a/b", b"1", &Condition::Absent).unwrap();
        assert!(matches!(storage.write("a/b", b"2", &Condition::Absent), Err(StorageError::Changed { .. })));
        let second = storage.write("a/b", b"22", &Condition::Is(first.clone())).unwrap();
        assert!(matches!(
            storage.write("a/b", b"3", &Condition::Is(first)),
            Err(StorageError::Changed { .. })
        ));
        assert_eq!(storage.read("a/b", 2), Ok(Object { bytes: b"22".to_vec(), tag: second }));
        assert!(matches!(storage.read("a/b", 1), Err(StorageError::TooLarge { bytes: 2, limit: 1, .. })));
    }

    #[test]
    fn a_removal_happens_only_where_its_condition_holds() {
        let folder = tempfile::tempdir().unwrap();
        let storage = FolderStorage::new(folder.path());
        let first = storage.write("a/b", b"1", &Condition::Absent).unwrap();
        let second = storage.write("a/b", b"22", &Condition::Any).unwrap();
        for condition in [Condition::Is(first), Condition::Absent] {
            let refused = storage.remove("a/b", &condition);
            assert!(matches!(refused, Err(StorageError::Changed { .. })), "{refused:?}");
        }
        assert_eq!(storage.read("a/b", 2), Ok(Object { bytes: b"22".to_vec(), tag: second.clone() }));
        storage.remove("a/b", &Condition::Is(second.clone())).unwrap();
        assert!(storage.read("a/b", 2).unwrap_err().is_missing());
        assert!(matches!(storage.remove("a/b", &Condition::Is(second)), Err(StorageError::Changed { .. })));
        storage.remove("a/b", &Condition::Any).unwrap();
        FolderStorage::new(folder.path().join("nowhere")).remove("a/b", &Condition::Any).unwrap();
    }
}
