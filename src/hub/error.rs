//! Why a model cannot be had from the hub.

use std::io;
use std::path::PathBuf;

/// Why a model cannot be had from the hub. `what` is the model with its revision, and the file if it is about one.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// It is no model's name.
    #[error("hf:{text} names no model: {reason}")]
    Name {
        /// What was given, behind `hf:`.
        text: String,
        /// What would be one.
        reason: &'static str,
    },
    /// The cache lacks the model, and nothing else may be asked.
    #[error(
        "{what} is not whole in the cache {cache} ({reason}), and the hub is not asked (HF_HUB_OFFLINE or --offline); fetch \
         it once without that: xprompt-trainer fetch {what}"
    )]
    Offline {
        /// The model.
        what: String,
        /// The cache.
        cache: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// No answer.
    #[error(
        "{what}: the hub at {endpoint} cannot be reached ({reason}); look at the network and at HF_ENDPOINT, and run the \
         same again: it goes on where it stopped"
    )]
    Unreachable {
        /// The model.
        what: String,
        /// The hub.
        endpoint: String,
        /// What went wrong.
        reason: String,
    },
    /// The hub says no.
    #[error("{what}: the hub answers {status}: {remedy}")]
    Refused {
        /// The model.
        what: String,
        /// The status.
        status: u16,
        /// What it means, and what to do.
        remedy: String,
    },
    /// The hub's answer is not one that is known.
    #[error(
        "{what}: the hub at {endpoint} answers in a way that is not known: {reason}; look at HF_ENDPOINT"
    )]
    Answer {
        /// The model.
        what: String,
        /// The hub.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
    /// The repository has not what is needed.
    #[error("{what}: {reason}")]
    Lacks {
        /// The model.
        what: String,
        /// What is missing, and what to do.
        reason: String,
    },
    /// What was downloaded is not what the hub has.
    #[error(
        "{what}: {reason}; it was thrown away, run the same again. If it stays so, the hub or a proxy before it sends other \
         bytes than it says"
    )]
    Damaged {
        /// The model.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// The model is one that cannot be used.
    #[error("{what} cannot be used: {reason}")]
    Unusable {
        /// The model.
        what: String,
        /// Why.
        reason: String,
    },
    /// The cache cannot be read or written.
    #[error("{path}: {source}; the cache's folder is set by HF_HUB_CACHE")]
    Cache {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
