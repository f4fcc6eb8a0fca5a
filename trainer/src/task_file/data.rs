//! `[data]`: where the labelled rows are.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Wrong;

/// `[data]`: JSONL files, relative to the task file's folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Rows to tune on.
    pub train: PathBuf,
    /// Rows to choose by.
    pub dev: PathBuf,
    /// Rows to report on.
    pub test: Option<PathBuf>,
    /// The key of a row that holds the label or the target text.
    #[serde(default = "default_label")]
    pub label: String,
    /// Use only the first rows of train.
    pub train_rows: Option<usize>,
    /// Use only the first rows of dev.
    pub dev_rows: Option<usize>,
    /// Use only the first rows of test.
    pub test_rows: Option<usize>,
}

fn default_label() -> String {
    "label".into()
}

// === impl Data ===

impl Data {
    pub(super) fn check(&self) -> Result<(), Wrong> {
        match self.train_rows {
            Some(0) => Err(Wrong::new("data.train_rows", 0, "at least 1")),
            _ => Ok(()),
        }
    }
}
