//! Probes.

use std::sync::Arc;

use axum::extract::State;

use super::{Code, Problem, Service};

/// The process answers.
pub(super) async fn live() -> &'static str {
    "live\n"
}

/// The server takes calls: the engine proved itself when it started, the prompts are loaded, and it is not
/// draining.
pub(super) async fn ready(State(service): State<Arc<Service>>) -> Result<&'static str, Problem> {
    if service.traffic.is_draining() {
        Err(Problem::new(Code::Draining, "the server is stopping and takes no more calls"))
    } else if service.store.is_scanned() {
        Ok("ready\n")
    } else {
        Err(Problem::new(Code::NotReady, "the prompts are being loaded"))
    }
}
