//! `POST /v2/models/{model}/infer`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, PartialSchema as _};

use super::answer::{self, JSON_LENGTH, OF_LABELS, OF_TEXT};
use super::call::{Call, InferCall};
use super::error::{InferError, InferErrors, VersionErrors};
use super::metadata::path;
use crate::engine::Answers;
use crate::server::inference::{Called, Run, Shadow, enter};
use crate::server::lease::lease;
use crate::server::{Service, body};

/// What is read besides the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header")]
struct InferHeaders {
    /// Bytes of JSON before the tensors.
    #[param(rename = "Inference-Header-Content-Length")]
    json_length: Option<usize>,
}

/// What both routes answer.
struct Inferred;

/// Answers texts by the active version of a task.
///
/// Outputs: `label`, `score` and `scores` (in the order of the task), or `text` and `finish_reason`; `truncated` where
/// `parameters` allow it. A bad input fails the whole call.
#[utoipa::path(
    post, path = "/v2/models/{model}/infer", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "The task."), InferHeaders),
    request_body = InferCall, responses(Inferred)
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
        InferHeaders,
    ),
    request_body = InferCall, responses(Inferred, VersionErrors)
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
    let shadow = Shadow::of(&run, || Called {
        options: call.options.clone(),
        inputs: call.inputs.clone(),
        bytes: body.len(),
        samples: 1,
        stop: Vec::new(),
    });
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
        shadow.compare_predictions(&answered.predictions);
    }
    answer::write(answered, call.id, &call.wanted, &run.task)
}

// === impl Inferred ===

impl IntoResponses for Inferred {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let answer = ContentBuilder::new().schema(Some(Ref::from_schema_name("InferAnswer"))).build();
        let bytes = ContentBuilder::new().schema(Some(Vec::<u8>::schema())).build();
        let response = ResponseBuilder::new()
            .description("The outputs.")
            .content("application/json", answer)
            .content("application/octet-stream", bytes)
            .build();
        let mut responses = InferErrors::responses();
        responses.insert("200".into(), RefOr::T(response));
        responses
    }
}
