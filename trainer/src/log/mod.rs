//! What a run reports as it goes: `log.jsonl`, one event a line, and the same numbers as a TensorBoard event file.
//!
//! Both files lie in the run's folder and are only ever appended to, so a run can be followed while it goes
//! (`tail -f RUN/log.jsonl`, `tensorboard --logdir RUN`). A run that was killed and resumed leaves the events of an
//! undisturbed one: what came after its last checkpoint is cut off before it goes on. (Times differ, and the line
//! that tells of the resumption is there.) What a person at the terminal sees is [`progress`](crate::progress), what
//! a run found in the end is [`summary`](crate::summary).

mod append;
mod event;
mod tensorboard;

pub use event::{Candidate, Event, TaskStarted};

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use append::AppendOnly;

/// Why the log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file of the log cannot be opened, or what came after the last checkpoint cannot be cut off.
    #[error("{path}: {source}; the run's log has to be a file that can be written")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An event could not be written; what was written before it is whole.
    #[error("{path}: {source}; free space or choose another folder for the run")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How much of the log is valid: what a checkpoint remembers, so that a resumed run can cut off what came later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Bytes of `log.jsonl`.
    lines: u64,
    /// Bytes of the TensorBoard event file.
    scalars: u64,
}

/// The log of a run.
#[derive(Debug)]
pub struct Log {
    lines: AppendOnly,
    scalars: AppendOnly,
}

/// An event with its time, as a line states it.
#[derive(Serialize)]
struct Line<'a> {
    time: f64,
    #[serde(flatten)]
    event: &'a Event,
}

// === impl Log ===

impl Log {
    /// Name of the file of events in the run's folder.
    pub const LINES: &'static str = "log.jsonl";
    /// Name of the TensorBoard event file there; its readers look for `tfevents`.
    pub const SCALARS: &'static str = "events.out.tfevents.xprompt";

    /// Opens the log in a run's folder, which is made if it is missing. Events up to `resume` are kept; without it the
    /// log starts anew. Should the files hold less than `resume` says (after a power failure), all whole events in
    /// them are kept.
    ///
    /// # Errors
    /// If a file cannot be opened, cut or written.
    pub fn open(folder: &Path, resume: Option<&Position>) -> Result<Self, LogError> {
        std::fs::create_dir_all(folder)
            .map_err(|source| LogError::Open { path: folder.to_owned(), source })?;
        let position = resume.copied().unwrap_or_default();
        let lines = AppendOnly::open(folder.join(Self::LINES), position.lines, whole_lines)?;
        let mut scalars =
            AppendOnly::open(folder.join(Self::SCALARS), position.scalars, tensorboard::whole_records)?;
        if scalars.length() == 0 {
            scalars.write(&tensorboard::start(now()))?;
        }
        Ok(Self { lines, scalars })
    }

    /// Appends an event to both files. No part of it stays in memory: what is written survives the process.
    ///
    /// # Errors
    /// If the system fails to write, such as on a full disk.
    pub fn write(&mut self, event: &Event) -> Result<(), LogError> {
        let time = now();
        let mut line =
            serde_json::to_vec(&Line { time, event }).expect("invariant: an event's keys are strings");
        line.push(b'\n');
        self.lines.write(&line)?;
        match event.scalars() {
            Some((step, values)) => self.scalars.write(&tensorboard::scalars(time, step, values)),
            None => Ok(()),
        }
    }

    /// How much of the log is valid now: to be kept in a checkpoint.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { lines: self.lines.length(), scalars: self.scalars.length() }
    }
}

/// Seconds since the epoch, to the millisecond.
fn now() -> f64 {
    // a clock before 1970 is no reason to end a run
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1000.0
}

/// How many bytes the complete lines are.
fn whole_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)
}
