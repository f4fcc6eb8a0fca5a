//! A file that is only appended to, but for cutting off what is torn or no longer valid.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use super::LogError;

/// The file; it ends with a whole event whenever no write is under way.
#[derive(Debug)]
pub(super) struct AppendOnly {
    path: PathBuf,
    file: File,
    length: u64,
}

// === impl AppendOnly ===

impl AppendOnly {
    /// Opens a file and cuts off what comes after its first `valid` bytes, and of these what comes after the last
    /// whole event: `whole` says how many bytes the whole events at the start of some bytes are.
    pub(super) fn open(path: PathBuf, valid: u64, whole: fn(&[u8]) -> usize) -> Result<Self, LogError> {
        let open = || -> io::Result<(File, u64)> {
            let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            let mut kept = Vec::new();
            (&file).take(valid).read_to_end(&mut kept)?;
            let length = whole(&kept) as u64;
            if file.metadata()?.len() != length {
                file.set_len(length)?;
            }
            Ok((file, length))
        };
        match open() {
            Ok((file, length)) => Ok(Self { path, file, length }),
            Err(source) => Err(LogError::Open { path, source }),
        }
    }

    /// Appends one event, whole or not at all.
    pub(super) fn write(&mut self, event: &[u8]) -> Result<(), LogError> {
        if let Err(source) = self.file.write_all(event) {
            // if even this fails, the torn end is cut off when the run is resumed
            let _ = self.file.set_len(self.length);
            return Err(LogError::Write { path: self.path.clone(), source });
        }
        self.length += event.len() as u64;
        Ok(())
    }

    /// Bytes of all events.
    pub(super) fn length(&self) -> u64 {
        self.length
    }
}
