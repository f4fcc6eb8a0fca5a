//! Probes.

use std::sync::Arc;

use axum::extract::State;

use super::openapi::problems;
use super::pulse::Pulse;
use super::{Code, Problem, Service};

problems!(LiveProblems: Internal);
problems!(ReadyProblems: Draining, NotReady);

/// The process answers, and its engine works: if not, only a new start helps.
#[utoipa::path(
    get, path = "/health/live", tag = "Operation",
    responses((status = 200, description = "It lives.", body = String, content_type = "text/plain"), LiveProblems)
)]
pub(super) async fn live(State(service): State<Arc<Service>>) -> Result<&'static str, Problem> {
    if service.engine.is_running() || service.traffic.is_draining() {
        Ok("live\n")
    } else {
        Err(Problem::new(Code::Internal, "the engine's thread has ended; start the server again"))
    }
}

/// The server takes calls: the last trial pass of the model was right, the prompts are loaded (of a
/// `--preload` list those that it names), and it is not draining.
#[utoipa::path(
    get, path = "/health/ready", tag = "Operation",
    responses((status = 200, description = "It is ready.", body = String, content_type = "text/plain"), ReadyProblems)
)]
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
