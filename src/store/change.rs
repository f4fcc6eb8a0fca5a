//! Changes that clients ask for, and what comes of them.

use std::collections::BTreeMap;

use super::listing::NAMES;
use super::loader::LoadError;
use super::storage::StorageError;

/// What has to hold for a change, as `If-Match` and `If-None-Match` say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// There is no such task.
    Absent,
    /// There is such a task.
    Present,
    /// One of these versions is active.
    OneOf(Vec<String>),
}

/// What to change of a task.
#[derive(Clone, Debug)]
pub struct Change {
    /// The task.
    pub task: String,
    /// What has to hold.
    pub precondition: Precondition,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Take a new version.
    Put {
        /// The prompt file.
        file: Vec<u8>,
        /// Whether it becomes active; if not, it is only kept.
        activate: bool,
    },
    /// Remove the task with all its versions.
    Delete,
    /// Make a kept version active: this one, or the one that was active before.
    Rollback {
        /// Which.
        version: Option<String>,
    },
    /// Set who gets which version.
    Route {
        /// Percent of the requests by version; the active version gets the rest.
        traffic: BTreeMap<String, u8>,
        /// A version to compare with the one that answers.
        shadow: Option<String>,
    },
    /// Set whether the rows stay in memory.
    Pin(bool),
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The version that the change is about.
    pub version: String,
    /// The version that is active now; `None` if the task is gone.
    pub active: Option<String>,
    /// The version that was active before.
    pub previous: Option<String>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The precondition does not hold.
    #[error("{}", match .active {
        Some(active) => format!("version {active} is active; look at it and send the request again with its version"),
        None => "there is no such task; leave If-Match out to create it".to_owned(),
    })]
    Precondition {
        /// The version that is active.
        active: Option<String>,
    },
    /// Someone else changed the task at the same moment.
    #[error("{0}; look at the task and send the request again")]
    Conflict(StorageError),
    /// There is no such task.
    #[error("there is no task {0:?}")]
    UnknownTask(String),
    /// The version is not kept.
    #[error("{0}")]
    UnknownVersion(String),
    /// The name cannot be a task's.
    #[error("{0:?} cannot name a task; {NAMES}")]
    BadName(String),
    /// The shares cannot be.
    #[error("{0}")]
    BadRoutes(String),
    /// There are as many tasks as allowed.
    #[error("there are {limit} tasks already; delete one, or raise --max-prompts")]
    Full {
        /// How many.
        limit: usize,
    },
    /// The file did not pass.
    #[error(transparent)]
    Rejected(LoadError),
    /// The place of the prompts fails.
    #[error("the store fails: {0}")]
    Storage(StorageError),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopped,
}

// === impl Precondition ===

impl Precondition {
    /// Whether it holds for a task that is there or not, and its active version.
    #[must_use]
    pub fn holds(&self, exists: bool, active: Option<&str>) -> bool {
        match self {
            Self::None => true,
            Self::Absent => !exists,
            Self::Present => exists,
            Self::OneOf(versions) => active.is_some_and(|active| versions.iter().any(|one| one == active)),
        }
    }
}

// === impl Action ===

impl Action {
    /// Its name in metrics and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Put { .. } => "put",
            Self::Delete => "delete",
            Self::Rollback { .. } => "rollback",
            Self::Route { .. } => "route",
            Self::Pin(_) => "pin",
        }
    }
}

// === impl ChangeError ===

impl From<StorageError> for ChangeError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Changed { .. } => Self::Conflict(error),
            error => Self::Storage(error),
        }
    }
}

impl From<LoadError> for ChangeError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Storage(error) if error.is_outage() => Self::Storage(error),
            error => Self::Rejected(error),
        }
    }
}
