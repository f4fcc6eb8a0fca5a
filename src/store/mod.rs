//! Where prompts live: a folder of prompt files, watched for change.
//!
//! [`Store`] answers what is served, for any number of readers without a lock. One [`Watcher`] owns all change:
//! it lists the folder, has the [`Loader`] check what is new (the file, its base model, its task, its golden
//! examples) and publishes the outcome. A file that fails a check changes nothing that is served; its reason
//! stands beside it. Nothing here knows HTTP.

mod catalog;
mod folder;
mod loader;
mod watcher;

pub use catalog::{Catalog, Entry, Failure, Served, Store};
pub use loader::{GOLDEN_TOLERANCE, LoadError, Loader, MAX_GOLDEN};
pub use watcher::{Observer, Options, Watcher, Watching};
