//! What is served, as one immutable table that is replaced whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::residency::Slot;
use super::state::KeptVersion;
use crate::engine::TaskCard;

/// A version of a task that answers requests. Its rows are in memory, or come there on first use.
#[derive(Debug)]
pub struct Served {
    /// The task without its rows.
    pub task: Arc<TaskCard>,
    /// Size of its file.
    pub file_bytes: u64,
    /// When it began to answer.
    pub since: SystemTime,
    pub(super) name: Arc<str>,
    pub(super) slot: Slot,
}

/// Why a task's newest file does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong with it.
    pub reason: String,
    /// When that was first seen.
    pub at: SystemTime,
}

/// Who gets which version of a task, beside the active one.
#[derive(Debug, Default)]
pub struct Routes {
    /// Versions with a share of the requests in percent; the active version gets the rest.
    pub traffic: Vec<(Arc<Served>, u8)>,
    /// The version that is computed beside the one that answers.
    pub shadow: Option<Arc<Served>>,
    /// Whether the rows stay in memory.
    pub pinned: bool,
    /// Kept versions, the active one first.
    pub versions: Vec<KeptVersion>,
}

/// One task: what answers, and what went wrong with a newer file. At least one of them is there.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The version that answers, if a file ever passed.
    pub served: Option<Arc<Served>>,
    /// Set while the newest file is a rejected one.
    pub failure: Option<Arc<Failure>>,
    /// The other versions.
    pub routes: Arc<Routes>,
}

/// All tasks at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    pub(super) tasks: BTreeMap<Arc<str>, Entry>,
    pub(super) refused: BTreeMap<String, String>,
}

/// What a request says about the version that it wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice<'a> {
    /// This version and no other.
    pub version: Option<&'a str>,
    /// Requests with the same key get the same version, as long as the shares stay.
    pub key: Option<&'a str>,
}

// === impl Entry ===

impl Entry {
    /// Every version that can answer, the active one first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Served>> {
        let routes = &self.routes;
        self.served.iter().chain(routes.traffic.iter().map(|(served, _)| served)).chain(&routes.shadow)
    }

    /// A version that can answer.
    #[must_use]
    pub fn version(&self, version: &str) -> Option<&Arc<Served>> {
        self.all().find(|served| served.task.version() == version)
    }

    /// The version for a request at `point` of the unit interval: the shares lie side by side from 0 on, so that a
    /// version whose share grows keeps the requests that it has.
    #[must_use]
    pub fn at(&self, point: f64) -> Option<&Arc<Served>> {
        let mut end = 0.0;
        for (served, percent) in &self.routes.traffic {
            end += f64::from(*percent) / 100.0;
            if point < end {
                return Some(served);
            }
        }
        self.served.as_ref()
    }
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
