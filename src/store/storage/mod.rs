//! Objects by key, each with a tag that changes with its content: what a store asks of a folder or a bucket.
//!
//! Keys are names below one place, with `/` between their parts. An object is whole at any moment: a reader sees the
//! old one or the new one, also when a writer is killed. All calls block; they are made from threads that may wait.

mod folder;
mod s3;

use std::fmt;

pub use folder::FolderStorage;
pub use s3::{S3Error, S3Storage};

/// Tells one state of an object from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub String);

/// An object as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name within the listed folder.
    pub name: String,
    /// Its tag, or why it cannot be read.
    pub tag: Result<Tag, String>,
    /// Its size.
    pub bytes: u64,
    /// Whether a later change is sure to show in the tag. A file written a moment ago may be written again within
    /// the same tick of its clock.
    pub settled: bool,
}

/// An object that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// All of it.
    pub bytes: Vec<u8>,
    /// The tag of these bytes.
    pub tag: Tag,
}

/// What has to hold for a write or a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Any,
    /// There is no such object.
    Absent,
    /// The object has this tag.
    Is(Tag),
}

/// Why an object is not read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// There is none.
    #[error("{key} does not exist")]
    Missing {
        /// Its key.
        key: String,
    },
    /// The condition does not hold: someone else wrote.
    #[error("{key} was changed by someone else at the same time")]
    Changed {
        /// Its key.
        key: String,
    },
    /// It is something that holds no bytes of its own, such as a folder or a pipe.
    #[error("{key} is not a regular file")]
    Irregular {
        /// Its key.
        key: String,
    },
    /// It stands for a prompt and does not make one.
    #[error("{key}: {reason}")]
    Unusable {
        /// Its key.
        key: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// It is larger than the reader takes.
    #[error("{key} has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Its key.
        key: String,
        /// Its size.
        bytes: u64,
        /// The reader's limit.
        limit: u64,
    },
    /// The place cannot be used, now or at all.
    #[error("{what}: {reason}")]
    Unavailable {
        /// What was to be used.
        what: String,
        /// What went wrong.
        reason: String,
    },
}

/// A place for objects.
pub trait Storage: fmt::Debug + Send + Sync {
    /// For people: which place this is.
    fn place(&self) -> String;

    /// The objects of a folder (`""` is the top) whose names end with `suffix` and do not begin with a dot, in any
    /// order. A folder that is not there is empty, except the top.
    ///
    /// # Errors
    /// If the listing is not complete: then nothing is known about any object.
    fn list(&self, folder: &str, suffix: &str) -> Result<Vec<Listed>, StorageError>;

    /// Names of the folders at the top that do not begin with a dot, in any order. A place that tells none apart has
    /// none.
    ///
    /// # Errors
    /// If the listing is not complete.
    fn folders(&self) -> Result<Vec<String>, StorageError> {
        Ok(Vec::new())
    }

    /// An object of `limit` bytes at most.
    ///
    /// # Errors
    /// If it is missing or too large, or the place cannot be used.
    fn read(&self, key: &str, limit: u64) -> Result<Object, StorageError>;

    /// Writes a whole object, durably. Returns its tag.
    ///
    /// # Errors
    /// [`StorageError::Changed`] if the condition does not hold; nothing is written then. If the place fails, the
    /// old object or the new one is there.
    fn write(&self, key: &str, bytes: &[u8], condition: &Condition) -> Result<Tag, StorageError>;

    /// Removes an object. Without a condition it is no error if there is none.
    ///
    /// # Errors
    /// [`StorageError::Changed`] if the condition does not hold; nothing is removed then. If the place fails, the object
    /// is there or not.
    fn remove(&self, key: &str, condition: &Condition) -> Result<(), StorageError>;
}

// === impl Condition ===

impl Condition {
    /// Whether it holds for an object with this tag, or for none.
    #[must_use]
    pub fn holds(&self, tag: Option<&Tag>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => tag.is_none(),
            Self::Is(wanted) => tag == Some(wanted),
        }
    }
}

// === impl Tag ===

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl StorageError ===

impl StorageError {
    /// Whether there is no such object.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// Whether the object may be there and only the place fails.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
