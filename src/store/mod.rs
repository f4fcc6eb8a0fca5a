//! Where prompts live, and which version of a task answers.
//!
//! # Layers
//!
//! - [`Storage`]: objects by key, listed, read, written and removed, each with a tag. [`FolderStorage`] is a folder,
//!   [`S3Storage`] a bucket. A reader sees an object's old content or its new one.
//! - [`Loader`]: from bytes to a task that answers. Every check is made before anything is served: the file, its base
//!   model, its task, its golden examples.
//! - [`Store`]: what is served, for any number of readers without a lock. A request [leases](Store::lease) a version
//!   with its rows and keeps it to its end. Rows come into memory on first use and leave it by last use, within a
//!   number of bytes.
//! - [`Keeper`]: one thread owns all change. It looks at the prompts, and makes the [`Change`]s that clients ask for.
//!
//! # What is stored
//!
//! | key | what it is |
//! | --- | --- |
//! | `TASK.safetensors` | the active version: the only thing that decides what answers |
//! | `TASK/adapter_config.json` | beside the adapter's tensors and a `task.toml`: a folder that PEFT saved, which stands for `TASK.safetensors` where that is not |
//! | `.xprompt/versions/TASK/VERSION.safetensors` | kept versions, the active one among them |
//! | `.xprompt/state/TASK.json` | [`State`]: the order of the versions, their shares, the pin |
//!
//! A file that is copied to `TASK.safetensors` and one that is uploaded take the same way and end the same: an upload
//! writes that file, and so does a rollback. The history follows what is active; if it is cut off, by a kill or by a
//! store that fails, the next look makes it up. Of every change one write decides, so a kill at any moment leaves the
//! old state or the new one. Servers that share a store agree through it.
//!
//! A file that fails a check changes nothing that is served, and its reason stands beside it; after a new start the
//! last good version is taken from the history. While the store cannot be reached, what is served stays, and rows
//! that are in memory answer. Nothing here knows HTTP.

mod adapters;
mod catalog;
mod change;
mod golden;
mod keeper;
mod lease;
mod listing;
mod loader;
mod parallel;
mod residency;
mod state;
mod storage;

pub use catalog::{Catalog, Choice, Entry, Failure, Routes, Served};
pub use change::{Action, Change, ChangeError, Done, Precondition};
pub use keeper::{Keeper, Keeping, Observer, Options, open};
pub use lease::{LeaseError, Store};
pub use loader::{LoadError, Loader};
pub use residency::Resident;
pub use state::{KeptVersion, State};
pub use storage::{Condition, FolderStorage, Listed, Object, S3Error, S3Storage, Storage, StorageError, Tag};
