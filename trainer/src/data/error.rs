//! Why data cannot be used, and where.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xprompt::task::{TemplateError, TokenizerError};

use super::Files;

/// Where a row stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: Arc<Path>,
    /// The row's first line or, where a file has no lines, the row; from 1.
    pub number: usize,
    /// Whether the number is that of a line.
    pub is_line: bool,
}

/// Why data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file's name does not tell its format.
    #[error(
        "{path}: the name does not end in .jsonl, .csv, .tsv or .parquet; name the format with data.format"
    )]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The file is not of its format.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A table lacks a column.
    #[error("{path}: there is no column {column:?}; the columns are {columns}")]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What the table has, and a remedy.
        columns: String,
    },
    /// A row is not of its file's format.
    #[error("{place}: {reason}")]
    Malformed {
        /// The row.
        place: Place,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A row does not fit the template.
    #[error("{place}: {source}")]
    Row {
        /// The row.
        place: Place,
        /// What is wrong.
        source: TemplateError,
    },
    /// A row's label is missing or unknown.
    #[error("{place}: {key} is {got}; the task's labels are {labels}")]
    Label {
        /// The row.
        place: Place,
        /// The key that holds the label.
        key: String,
        /// What is there.
        got: String,
        /// The names of the labels.
        labels: String,
    },
    /// A free-text row has no target text.
    #[error("{place}: no text under the key {key:?}; name the key with data.label")]
    Target {
        /// The row.
        place: Place,
        /// The key that should hold the text.
        key: String,
    },
    /// A row does not say which group it belongs to.
    #[error("{place}: no text or number under the key {key:?}, which data.group names")]
    Group {
        /// The row.
        place: Place,
        /// The key that should hold the group.
        key: String,
    },
    /// No row at all.
    #[error("{files}: no rows")]
    Empty {
        /// The file, or several.
        files: String,
    },
    /// There are not enough rows to draw from.
    #[error("{0}")]
    Draw(String),
    /// The template is malformed.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

// === impl DataError ===

impl DataError {
    /// The row that is wrong, if it is one row.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Malformed { place, .. }
            | Self::Row { place, .. }
            | Self::Label { place, .. }
            | Self::Target { place, .. }
            | Self::Group { place, .. } => Some(place),
            _ => None,
        }
    }

    /// The file that is wrong, if it is one file.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::Format { path }
            | Self::File { path, .. }
            | Self::Column { path, .. } => Some(path),
            _ => self.place().map(|place| &*place.path),
        }
    }

    /// The field of the row or the column of the table that is wrong, if it is one.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Row { source: TemplateError::Missing { field, .. }, .. }
            | Self::Row { source: TemplateError::NotText { field, .. }, .. }
            | Self::Column { column: field, .. }
            | Self::Label { key: field, .. }
            | Self::Target { key: field, .. }
            | Self::Group { key: field, .. } => Some(field),
            _ => None,
        }
    }

    pub(crate) fn empty(files: Files<'_>) -> Self {
        let names = files.paths.iter().map(|path| path.display().to_string());
        Self::Empty { files: names.collect::<Vec<_>>().join(", ") }
    }
}

// === impl Place ===

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.is_line { ":" } else { ", row " };
        write!(f, "{}{separator}{}", self.path.display(), self.number)
    }
}
