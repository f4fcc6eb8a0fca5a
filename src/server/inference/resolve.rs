//! Which version of which task answers a call, and whether the call is let in.

use std::sync::Arc;

use crate::engine::ReadyTask;
use crate::server::traffic::{Call, Refused};
use crate::server::{Code, Problem, Service};
use crate::store::Entry;

/// Lets a call in, until what this returns is dropped.
pub(in crate::server) fn enter(service: &Service) -> Result<Call, Problem> {
    let limit = service.limits.requests;
    service.traffic.enter(limit).map_err(|refused| match refused {
        Refused::Draining => Problem::new(Code::Draining, "the server is stopping and takes no more calls"),
        Refused::Full => Problem::new(Code::Overloaded, format!("{limit} calls are in flight already")),
    })
}

/// The version of a task that answers now.
pub(in crate::server) fn active(service: &Service, name: &str) -> Result<Arc<ReadyTask>, Problem> {
    match service.store.task(name) {
        Some(Entry { served: Some(served), .. }) => Ok(Arc::clone(&served.task)),
        Some(Entry { failure, .. }) => {
            let reason = failure.map_or_else(String::new, |failure| failure.reason.clone());
            Err(Problem::new(Code::BadPrompt, format!("the file of task {name:?} was rejected: {reason}")))
        }
        None if service.store.is_scanned() => Err(unknown(name)),
        None => Err(Problem::new(Code::NotReady, format!("the prompts are being loaded, {name:?} not yet"))),
    }
}

/// The version that a call pins, where `active` is the one that would answer it.
pub(in crate::server) fn pinned(
    name: &str,
    active: Arc<ReadyTask>,
    version: Option<&str>,
) -> Result<Arc<ReadyTask>, Problem> {
    match version {
        Some(version) if version != active.version() => {
            let detail = format!(
                "task {name:?} is at version {}, the call asks for {version}; leave version out to take what is active",
                active.version()
            );
            Err(Problem::new(Code::VersionConflict, detail))
        }
        _ => Ok(active),
    }
}

/// The error of a name without a task.
pub(in crate::server) fn unknown(name: &str) -> Problem {
    let detail = format!(
        "there is no task {name:?}; GET /tasks lists what is served, and a task is a file NAME.safetensors in the \
         prompts folder"
    );
    Problem::new(Code::UnknownTask, detail)
}

/// The error of a call with more inputs than allowed.
pub(in crate::server) fn too_many(inputs: usize, limit: usize) -> Problem {
    let detail =
        format!("the call has {inputs} inputs, allowed are {limit}; split it, or raise --max-inputs");
    Problem::new(Code::TooManyInputs, detail)
}
