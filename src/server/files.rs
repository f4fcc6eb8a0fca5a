//! Files that are read again when they change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Metrics;

/// Between two looks. Contents are compared, so that files that are swapped by links, or twice within the
/// resolution of their times, are seen.
const PAUSE: Duration = Duration::from_secs(1);

/// Bytes of a file that are read.
const MAX_BYTES: u64 = 1 << 20;

/// Some small files that belong together, with their contents as they were first read.
#[derive(Clone)]
pub(super) struct Files {
    paths: Vec<PathBuf>,
    contents: Vec<Vec<u8>>,
}

// === impl Files ===

impl Files {
    pub(super) fn open(paths: Vec<PathBuf>) -> Result<Self, String> {
        let contents = read_all(&paths)?;
        Ok(Self { paths, contents })
    }

    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    pub(super) fn contents(&self) -> &[Vec<u8>] {
        &self.contents
    }

    /// Hands on the contents whenever they change, for as long as the runtime runs. Contents that `take` refuses, or
    /// that cannot be read, are logged and counted once.
    pub(super) fn follow(
        &self,
        what: &'static str,
        metrics: &Arc<Metrics>,
        mut take: impl FnMut(&[Vec<u8>]) -> Result<(), String> + Send + 'static,
    ) {
        let (Self { paths, contents }, metrics) = (self.clone(), Arc::clone(metrics));
        tokio::spawn(async move {
            let mut known = Ok(contents);
            loop {
                tokio::time::sleep(PAUSE).await;
                let paths = paths.clone();
                let Ok(found) = tokio::task::spawn_blocking(move || read_all(&paths)).await else { return };
                if known == found {
                    continue;
                }
                let taken = found.as_ref().map_err(Clone::clone).and_then(|found| take(found));
                metrics.reloaded(what, taken.is_ok());
                if let Err(error) = taken {
                    tracing::error!(what, error, "a changed file is not taken; what was known stays");
                }
                known = found;
            }
        });
    }
}

impl fmt::Debug for Files {
    /// Without the contents: they may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Files").field(&self.paths).finish()
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let named = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let length = std::fs::metadata(path).map_err(named)?.len();
    if length > MAX_BYTES {
        return Err(format!("{} has {length} bytes, {MAX_BYTES} are allowed", path.display()));
    }
    std::fs::read(path).map_err(named)
}
