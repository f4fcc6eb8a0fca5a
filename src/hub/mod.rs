//! Models of the Hugging Face hub, fetched into the cache that Python's `huggingface_hub` has too.
//!
//! [`Repository`] is what `hf:NAME@REVISION` names, [`Hub`] which hub and which cache; [`Hub::fetch`] returns a folder
//! that the rest of the program reads like any other. A file is downloaded beside the cache's files, goes on where it
//! broke off, and gets its place only when its size and hash are right.
//!
//! The protocol is three kinds of requests, so it is spoken here and not by a client library: the hub's own for Rust
//! neither goes on with a broken download nor checks what it got.

mod cache;
mod client;
mod download;
mod error;
mod fetch;
mod repository;
mod settings;

use std::path::{Path, PathBuf};

pub use cache::name_of;
pub use error::HubError;
pub use fetch::Event;
pub use repository::Repository;
pub use settings::Hub;

/// The folder that `--model` names: a folder, or by `hf:NAME@REVISION` a model of the hub, which is fetched if the
/// cache lacks it.
///
/// # Errors
/// If the model cannot be had from the hub.
pub fn model_folder(
    model: &Path,
    hub: &Hub,
    tell: &mut (dyn FnMut(Event<'_>) + Send),
) -> Result<PathBuf, HubError> {
    match model.to_str().and_then(|text| text.strip_prefix("hf:")) {
        Some(name) => hub.fetch(&name.parse()?, tell),
        None => Ok(model.to_owned()),
    }
}
