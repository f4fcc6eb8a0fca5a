//! The description of the HTTP interface, OpenAPI 3.1, made from the handlers themselves, and its viewer.

mod access;
mod responses;

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

pub(super) use self::access::with_keys;
pub(super) use self::responses::{errors, errors_as, problems};
use super::Service;

/// What the description says besides the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "xprompt-server",
        description = "Many text tasks on one frozen T5, each a pruned soft prompt. Errors are problem documents \
            (RFC 9457) with a stable `code`, but for the routes under /v1 and /v2, which have the errors of their \
            protocols. A failure of the server itself is a 500 with the code `internal`. A server with API keys says \
            here which operations ask for `Authorization: Bearer KEY`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(
        super::problem::ProblemDocument,
        super::completions::CompletionErrorBody,
        super::v2::InferErrorBody,
        super::v2::InferAnswer,
    )),
    tags(
        (name = "Tasks", description = "What is served, and its answers."),
        (name = "Prompts", description = "Changing what is served: uploads, versions, traffic, pins."),
        (name = "OpenAI", description = "The shape of OpenAI's completions, for tasks that answer with free text."),
        (name = "Open Inference Protocol", description = "KServe V2, REST: a model is a task."),
        (name = "Operation", description = "Probes and metrics."),
    ),
)]
pub(super) struct Interface;

/// `/openapi.json`, and its viewer at `/docs`, whose files are part of the program.
pub(super) fn routes(api: &utoipa::openapi::OpenApi) -> Router<Arc<Service>> {
    let text: Arc<str> = api.to_pretty_json().expect("invariant: the description is JSON").into();
    let json = move || async move { ([(CONTENT_TYPE, "application/json")], text.to_string()) };
    // nothing is asked of a validator on the internet
    let config = Config::from("/openapi.json").validator_url("none").try_it_out_enabled(true);
    Router::new().route("/openapi.json", get(json)).merge(SwaggerUi::new("/docs").config(config))
}
