//! What is served, as one immutable table that is replaced whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use crate::engine::ReadyTask;

/// A version of a task that answers requests.
#[derive(Debug)]
pub struct Served {
    /// The task, ready to answer.
    pub task: Arc<ReadyTask>,
    /// Size of its file.
    pub file_bytes: u64,
    /// When it began to answer.
    pub since: SystemTime,
}

/// Why a task's newest file does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong with it.
    pub reason: String,
    /// When that was first seen.
    pub at: SystemTime,
}

/// One task: what answers, and what went wrong with a newer file. At least one of them is there.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The version that answers, if a file ever passed.
    pub served: Option<Arc<Served>>,
    /// Set while the newest file is a rejected one.
    pub failure: Option<Arc<Failure>>,
}

/// All tasks at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    pub(super) tasks: BTreeMap<Arc<str>, Entry>,
    pub(super) refused: BTreeMap<String, String>,
}

/// What is served now. Reading takes no lock.
#[derive(Debug, Default)]
pub struct Store {
    catalog: ArcSwap<Catalog>,
    scanned: AtomicBool,
}

// === impl Catalog ===

impl Catalog {
    /// The tasks by name, in order.
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Entry)> {
        self.tasks.iter()
    }

    /// A task by name.
    #[must_use]
    pub fn task(&self, name: &str) -> Option<&Entry> {
        self.tasks.get(name)
    }

    /// Files that cannot name a task, with the reason.
    pub fn refused(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.refused.iter().map(|(file, reason)| (file.as_str(), reason.as_str()))
    }
}

// === impl Store ===

impl Store {
    /// All tasks at this moment.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// A task by name, at this moment.
    #[must_use]
    pub fn task(&self, name: &str) -> Option<Entry> {
        self.catalog.load().task(name).cloned()
    }

    /// Whether the folder was gone through once, so that a task that is missing here has no file.
    #[must_use]
    pub fn is_scanned(&self) -> bool {
        self.scanned.load(Ordering::Acquire)
    }

    pub(super) fn publish(&self, catalog: Catalog) {
        self.catalog.store(Arc::new(catalog));
    }

    pub(super) fn set_scanned(&self) {
        self.scanned.store(true, Ordering::Release);
    }
}
