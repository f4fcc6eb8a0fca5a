//! Whether a call is let in, and what is known of a task before it is computed.

use std::sync::Arc;

use crate::engine::TaskCard;
use crate::server::lease::{answers, not_loaded, wrong_version};
use crate::server::traffic::{Call, Refused};
use crate::server::{Code, Problem, Service};

/// Lets a call in, until what this returns is dropped.
pub(in crate::server) fn enter(service: &Service) -> Result<Call, Problem> {
    let limit = service.limits.requests;
    service.traffic.enter(limit).map_err(|refused| match refused {
        Refused::Draining => Problem::new(Code::Draining, "the server is stopping and takes no more calls"),
        Refused::Full => Problem::new(Code::Overloaded, format!("{limit} calls are in flight already")),
    })
}

/// The versions of a task that can answer, the active one first.
pub(in crate::server) fn cards(service: &Service, name: &str) -> Result<Vec<Arc<TaskCard>>, Problem> {
    answers(service, name)?;
    let entry = service.store.task(name).ok_or_else(|| not_loaded(name))?;
    let mut cards: Vec<Arc<TaskCard>> = Vec::new();
    for served in entry.all() {
        if !cards.iter().any(|card| card.version() == served.task.version()) {
            cards.push(Arc::clone(&served.task));
        }
    }
    Ok(cards)
}

/// A version of a task that can answer, by default the active one.
pub(in crate::server) fn card(
    service: &Service,
    name: &str,
    version: Option<&str>,
) -> Result<Arc<TaskCard>, Problem> {
    let cards = cards(service, name)?;
    let active = cards.first().ok_or_else(|| not_loaded(name))?;
    let Some(version) = version else { return Ok(Arc::clone(active)) };
    let card = cards.iter().find(|card| card.version() == version);
    card.cloned().ok_or_else(|| wrong_version(name, active.version(), version))
}

/// The error of a call with more inputs than allowed.
pub(in crate::server) fn too_many(inputs: usize, limit: usize) -> Problem {
    let detail =
        format!("the call has {inputs} inputs, allowed are {limit}; split it, or raise --max-inputs");
    Problem::new(Code::TooManyInputs, detail)
}
