//! Which version answers a call, and what calls without one are told.

use std::sync::Arc;

use axum::http::HeaderMap;

use super::{Code, Problem, Service, auth};
use crate::engine::ReadyTask;
use crate::store::{Choice, Entry, Failure, LeaseError};

/// Calls with the same value get the same version while shares are set: the name of a user, of a session, of a text.
pub(super) const ROUTE_KEY: &str = "x-route-key";

/// Refuses a call for a task that does not answer before its body is read.
pub(super) fn answers(service: &Service, name: &str) -> Result<(), Problem> {
    match service.store.task(name) {
        Some(Entry { served: None, failure: Some(failure), .. }) => Err(rejected(name, &failure)),
        Some(_) => Ok(()),
        None if service.store.is_scanned() => Err(unknown(name)),
        None => Err(not_loaded(name)),
    }
}

/// The version that answers a call, with its rows; the call keeps it to its end.
pub(super) async fn lease(
    service: &Service,
    name: &str,
    version: Option<&str>,
    headers: &HeaderMap,
) -> Result<Arc<ReadyTask>, Problem> {
    auth::may_predict(service, name)?;
    let key = headers.get(ROUTE_KEY).and_then(|key| key.to_str().ok());
    let leased = service.store.lease(name, Choice { version, key }).await;
    leased.map_err(|error| match error {
        LeaseError::UnknownTask => unknown(name),
        LeaseError::NotLoaded => not_loaded(name),
        LeaseError::Rejected(failure) => rejected(name, &failure),
        LeaseError::WrongVersion { active } => wrong_version(name, &active, version.unwrap_or_default()),
        LeaseError::Unavailable(reason) => {
            let detail = format!(
                "the prompt of task {name:?} is not in memory and cannot be read: {reason}; pin tasks that have to \
                 answer while the store is away"
            );
            Problem::new(Code::StoreUnavailable, detail)
        }
    })
}

/// The error of a version that does not answer.
pub(super) fn wrong_version(name: &str, active: &str, version: &str) -> Problem {
    let detail = format!(
        "task {name:?} is at version {active}, the call asks for {version}; leave version out to take what is active, \
         or give that version a share of the traffic, which may be 0"
    );
    Problem::new(Code::VersionConflict, detail)
}

/// The error of a name without a task.
pub(super) fn unknown(name: &str) -> Problem {
    let detail = format!(
        "there is no task {name:?}; GET /tasks lists what is served, and a task is a file NAME.safetensors in the \
         prompts folder"
    );
    Problem::new(Code::UnknownTask, detail)
}

fn rejected(name: &str, failure: &Failure) -> Problem {
    Problem::new(Code::BadPrompt, format!("the file of task {name:?} was rejected: {}", failure.reason))
}

/// The error of a name that may be a task's.
pub(super) fn not_loaded(name: &str) -> Problem {
    Problem::new(Code::NotReady, format!("the prompts are being loaded, {name:?} not yet"))
}
