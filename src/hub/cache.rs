//! The cache's folders, as Python's `huggingface_hub` has them:
//!
//! ```text
//! models--OWNER--NAME/blobs/ETAG              a file's bytes, whole
//! models--OWNER--NAME/blobs/ETAG.incomplete   what is there of a file
//! models--OWNER--NAME/snapshots/COMMIT/FILE   a link to ../../blobs/ETAG
//! models--OWNER--NAME/refs/REVISION           the commit
//! .locks/models--OWNER--NAME/ETAG.lock        held while a file is downloaded
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{HubError, Repository};

const PREFIX: &str = "models--";

/// A repository's part of the cache.
#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
    folder: String,
}

/// The model's name, if the folder is a snapshot in a cache.
#[must_use]
pub fn name_of(folder: &Path) -> Option<String> {
    let snapshots = folder.parent().filter(|parent| parent.ends_with("snapshots"))?;
    let repository = snapshots.parent()?.file_name()?.to_str()?;
    Some(repository.strip_prefix(PREFIX)?.replacen("--", "/", 1))
}

/// Whether a revision is a commit, which never means anything else.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, HubError> {
    result.map_err(|source| HubError::Cache { path: path.to_owned(), source })
}

// === impl Cache ===

impl Cache {
    pub(super) fn new(root: &Path, repository: &Repository) -> Self {
        let folder = format!("{PREFIX}{}", repository.name().replace('/', "--"));
        Self { root: root.to_owned(), folder }
    }

    fn path(&self, kind: &str, name: &str) -> PathBuf {
        self.root.join(&self.folder).join(kind).join(name)
    }

    /// The commit that a revision meant when it was last fetched.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.path("refs", revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Notes the commit of a revision.
    pub(super) fn set_commit(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if is_commit(revision) || self.commit(revision).is_some_and(|known| known == commit) {
            return Ok(());
        }
        let path = self.path("refs", revision);
        at(&path, replace(&path, |unfinished| File::create(unfinished)?.write_all(commit.as_bytes())))
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.path("snapshots", commit)
    }

    /// Where a file's bytes are or will be.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.path("blobs", etag)
    }

    /// Makes a whole blob a commit's file.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let path = self.snapshot(commit).join(file);
        let target = format!("../../blobs/{etag}");
        at(&path, replace(&path, |unfinished| std::os::unix::fs::symlink(&target, unfinished)))
    }

    /// Waits until no other process downloads the file; `wait` is called if there is one. Others wait until the file that
    /// comes back is dropped.
    pub(super) fn lock(&self, etag: &str, wait: impl FnOnce()) -> Result<File, HubError> {
        let path = self.root.join(".locks").join(&self.folder).join(format!("{etag}.lock"));
        let open = || {
            fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
            File::options().create(true).append(true).open(&path)
        };
        let file = at(&path, open())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                wait();
                at(&path, file.lock())?;
            }
            Err(TryLockError::Error(error)) => at(&path, Err(error))?,
        }
        Ok(file)
    }
}

/// Makes something at a path, in one step; what was there goes.
fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = folder.join(format!(".{name}.{}", std::process::id()));
    let made = make(&unfinished).and_then(|()| fs::rename(&unfinished, path));
    if made.is_err() {
        // the error that counts is the first
        let _ = fs::remove_file(&unfinished);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_knows_its_models_name() {
        let name = |path: &str| name_of(Path::new(path));
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let inside = name(&format!("/c/models--google--flan-t5-small/snapshots/{commit}"));
        assert_eq!(inside.as_deref(), Some("google/flan-t5-small"));
        assert_eq!(name("/c/models--t5-small/snapshots/1").as_deref(), Some("t5-small"));
        assert_eq!((name("/models/t5-nano"), name("snapshots/x"), name("/")), (None, None, None));
    }
}
