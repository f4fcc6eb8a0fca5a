//! Probes.

use std::sync::Arc;

use axum::extract::State;

use super::pulse::Pulse;
use super::{Code, Problem, Service};

/// The process answers, and its engine works: if not, only a new start helps.
pub(super) async fn live(State(service): State<Arc<Service>>) -> Result<&'static str, Problem> {
    if service.engine.is_running() || service.traffic.is_draining() {
        Ok("live\n")
    } else {
        Err(Problem::new(Code::Internal, "the engine's thread has ended; start the server again"))
    }
}

/// The server takes calls: the last trial pass of the model was right, the prompts are loaded (of a
/// `--preload` list those that it names), and it is not draining.
pub(super) async fn ready(State(service): State<Arc<Service>>) -> Result<&'static str, Problem> {
    if service.traffic.is_draining() {
        Err(Problem::new(Code::Draining, "the server is stopping and takes no more calls"))
    } else if let Some(reason) = service.pulse.as_ref().and_then(Pulse::failure) {
        Err(Problem::new(Code::NotReady, format!("the model does not compute: {reason}")))
    } else if service.store.is_ready() {
        Ok("ready\n")
    } else {
        Err(Problem::new(Code::NotReady, "the prompts are being loaded"))
    }
}
