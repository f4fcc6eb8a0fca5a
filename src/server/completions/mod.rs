//! `POST /v1/completions`: free-text tasks in the shape of OpenAI's interface, where the model is a task.

mod answer;
mod call;
mod error;

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;

pub(super) use self::answer::Completion;
use self::answer::Writer;
pub(super) use self::call::CompletionCall;
use self::error::Errors;
pub(super) use self::error::{CompletionError, CompletionErrorBody};
use super::inference::{Called, Encoded, Following, Run, Shadow, enter};
use super::lease::lease;
use super::{Code, Problem, Service, body};

/// Completes prompts.
///
/// `model` is a task that answers with free text. `system_fingerprint` names the version that answered.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "OpenAI",
    request_body = CompletionCall,
    responses(
        (status = 200, description = "The texts; with `stream`, server-sent events.", content(
            (Completion = "application/json"),
            (String = "text/event-stream"),
        )),
        Errors,
    )
)]
pub(super) async fn complete(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, CompletionError> {
    let deadline = Instant::now() + service.limits.request_time;
    let entered = enter(&service)?;
    if let Some(kind) = headers.get(header::CONTENT_TYPE)
        && !kind.to_str().is_ok_and(|kind| kind.starts_with("application/json"))
    {
        let detail = "Content-Type has to be application/json";
        return Err(Problem::new(Code::UnsupportedMediaType, detail).into());
    }
    let body = body::read(body, service.limits.body_bytes, service.limits.read_time).await?;
    let call = CompletionCall::parse(&body)?;
    let name = call.model.clone();
    let task = lease(&service, &name, None, &headers).await?;
    let call = call.check(&task, service.limits.inputs)?;
    let run = Run { service, name, task, ask: call.ask, truncate: call.truncate, deadline };
    let shadow = Shadow::of(&run, || Called {
        options: call.options.clone(),
        inputs: call.prompts.clone(),
        bytes: body.len(),
        samples: call.samples,
        stop: call.stop.clone(),
    });
    let encoded = run.encode(call.prompts, body.len()).await?;
    let encoded: Vec<Encoded> = encoded.into_iter().collect::<Result<_, Problem>>()?;
    let following = Following::start(&run, &encoded, call.samples, &call.stop)?;
    let writer = Writer::new(&run, &encoded, call.samples, shadow);
    match call.stream {
        None => writer.whole(following.finish().await?),
        Some(options) => writer.stream(following, options.include_usage, entered).await,
    }
}
