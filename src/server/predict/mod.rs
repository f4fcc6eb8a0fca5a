//! `POST /tasks/{task}/predict`: from a body to answers, at once or as they are generated.

mod call;
mod stream;

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};

use self::call::Call;
use super::inference::{Answered, Run, Shadow, enter};
use super::lease::{answers, lease};
use super::openapi::problems;
use super::{Code, Problem, Service, body};

problems!(
    Problems: MalformedJson, BadRequest, UnknownTask, BodyTimeout, VersionConflict, BodyTooLarge, TooManyInputs,
    UnsupportedMediaType, BadInput, BadPrompt, Overloaded, Draining, NotReady, StoreUnavailable, Deadline,
);

/// Answers inputs, all by the version that is active at the start of the call.
///
/// A body of `text/plain` is one input. With `stream` the answer comes as server-sent events: `piece` events with
/// `{"text": …}`, and then `answer` with what a call without `stream` gets, or `error` with a problem document.
#[utoipa::path(
    post, path = "/tasks/{task}/predict", tag = "Tasks",
    params(("task" = String, Path, description = "The name of the task.")),
    request_body(content((call::PredictCall = "application/json"), (String = "text/plain"))),
    responses(
        (status = 200, description = "An answer for each input.", content(
            (Answered = "application/json"), (String = "text/event-stream"),
        )),
        Problems,
    )
)]
pub(super) async fn predict(
    State(service): State<Arc<Service>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let deadline = Instant::now() + service.limits.request_time;
    let entered = enter(&service)?;
    let Path(name) = name.map_err(|error| Problem::new(Code::BadRequest, error.body_text()))?;
    answers(&service, &name)?;
    let format = call::Format::of(headers.get(header::CONTENT_TYPE))?;
    let body = body::read(body, service.limits.body_bytes, service.limits.read_time).await?;
    let call = Call::parse(format, body, service.limits.inputs)?;
    let task = lease(&service, &name, call.version.as_deref(), &headers).await?;
    let ask = call.options.ask(&name, &task)?;
    let run = Run { service, name, task, ask, truncate: call.options.truncate, deadline };
    let shadow = Shadow::of(&run, || call.called());
    let mut encoded = run.encode(call.inputs, call.bytes).await?;
    if call.stream {
        let encoded = encoded.remove(0)?;
        return stream::stream(run, encoded, shadow, entered).await;
    }
    if let [Err(problem)] = encoded.as_slice()
        && !call.many
    {
        return Err(problem.clone());
    }
    let answered = run.answer(encoded).await?;
    if let Some(shadow) = shadow {
        shadow.compare_predictions(&answered.predictions);
    }
    Ok(Json(answered).into_response())
}
