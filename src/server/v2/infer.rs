//! `POST /v2/models/{model}/infer`.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;

use super::answer::{self, InferAnswer, JSON_LENGTH, OF_LABELS, OF_TEXT};
use super::call::{Call, InferCall};
use super::error::{InferError, InferErrors, VersionErrors};
use super::metadata::path;
use crate::engine::Answers;
use crate::server::inference::{Run, Shadow, enter};
use crate::server::lease::lease;
use crate::server::{Service, body};

/// Answers texts by the active version of a task.
///
/// Outputs: `label`, `score` and `scores` (in the order of the task), or `text` and `finish_reason`; `truncated` where
/// `parameters` allow it. A bad input fails the whole call.
#[utoipa::path(
    post, path = "/v2/models/{model}/infer", tag = "Open Inference Protocol",
    params(
        ("model" = String, Path, description = "The task."),
        ("Inference-Header-Content-Length" = Option<usize>, Header, description = "Bytes of JSON before the tensors."),
    ),
    request_body = InferCall,
    responses(
        (status = 200, description = "The outputs.", content(
            (InferAnswer = "application/json"), (Vec<u8> = "application/octet-stream"),
        )),
        InferErrors,
    )
)]
pub(in crate::server) async fn infer(
    State(service): State<Arc<Service>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, InferError> {
    let Path(name) = path(name)?;
    answer(service, name, None, &headers, body).await
}

/// Answers texts by a version of a task.
#[utoipa::path(
    post, path = "/v2/models/{model}/versions/{version}/infer", tag = "Open Inference Protocol",
    params(
        ("model" = String, Path, description = "The task."),
        ("version" = String, Path, description = "The version of its prompt."),
        ("Inference-Header-Content-Length" = Option<usize>, Header, description = "Bytes of JSON before the tensors."),
    ),
    request_body = InferCall,
    responses(
        (status = 200, description = "The outputs.", content(
            (InferAnswer = "application/json"), (Vec<u8> = "application/octet-stream"),
        )),
        InferErrors, VersionErrors,
    )
)]
pub(in crate::server) async fn infer_version(
    State(service): State<Arc<Service>>,
    path_parts: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, InferError> {
    let Path((name, version)) = path(path_parts)?;
    answer(service, name, Some(&version), &headers, body).await
}

async fn answer(
    service: Arc<Service>,
    name: String,
    version: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, InferError> {
    let deadline = Instant::now() + service.limits.request_time;
    let _entered = enter(&service)?;
    let task = lease(&service, &name, version, headers).await?;
    let header = match headers.get(JSON_LENGTH) {
        None => None,
        Some(value) => {
            let length = value.to_str().ok().and_then(|text| text.parse().ok());
            let bad = || InferError::bad("Inference-Header-Content-Length is not a number of bytes");
            Some(length.ok_or_else(bad)?)
        }
    };
    let limits = &service.limits;
    let body = body::read(body, limits.body_bytes, limits.read_time).await?;
    let outputs = match task.answers() {
        Answers::Labels { .. } => OF_LABELS,
        Answers::Text { .. } => OF_TEXT,
    };
    let call = Call::parse(&body, header, &task, outputs, limits.inputs)?;
    let ask = call.options.ask(&name, &task)?;
    let run = Run { service, name, task, ask, truncate: call.options.truncate, deadline };
    let shadow = Shadow::of(&run, &call.options, &call.inputs, body.len());
    let encoded = run.encode(call.inputs, body.len()).await?;
    // a bad input fails the call before the others are computed
    for (i, encoded) in encoded.iter().enumerate() {
        if let Err(problem) = encoded {
            let detail = format!("input {i}: {}", problem.detail);
            return Err(crate::server::Problem::new(problem.code, detail).into());
        }
    }
    let answered = run.answer(encoded).await?;
    if let Some(shadow) = shadow {
        shadow.compare(&answered.predictions);
    }
    answer::write(answered, call.id, &call.wanted, &run.task)
}
