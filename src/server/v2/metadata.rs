//! What the protocol's clients can ask about the server and its models. A model is a task, its version a prompt.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{InferError, LiveErrors, ModelErrors, ReadyErrors, VersionErrors};
use crate::engine::{Answers, TaskCard};
use crate::server::inference::{card, cards};
use crate::server::{Code, Problem, Service, health};

/// The server.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::server) struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: Vec<&'static str>,
}

/// A model: a task.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::server) struct ModelMetadata {
    name: String,
    versions: Vec<String>,
    platform: &'static str,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
}

/// A tensor of a model.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::server) struct TensorMetadata {
    name: String,
    datatype: &'static str,
    /// -1 is the number of inputs.
    shape: Vec<i64>,
}

/// Whether a server or a model is ready.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::server) struct Ready {
    ready: bool,
}

/// Whether the server lives.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::server) struct Live {
    live: bool,
}

/// Names the server and the extensions of the protocol that it speaks.
#[utoipa::path(get, path = "/v2", tag = "Open Inference Protocol", responses((status = 200, body = ServerMetadata)))]
pub(in crate::server) async fn server() -> Json<ServerMetadata> {
    let extensions = vec!["binary_tensor_data"];
    Json(ServerMetadata { name: "xprompt-server", version: env!("CARGO_PKG_VERSION"), extensions })
}

/// The process answers, and its engine works.
#[utoipa::path(
    get, path = "/v2/health/live", tag = "Open Inference Protocol",
    responses((status = 200, body = Live), LiveErrors)
)]
pub(in crate::server) async fn live(state: State<Arc<Service>>) -> Result<Json<Live>, InferError> {
    health::live(state).await?;
    Ok(Json(Live { live: true }))
}

/// The server takes calls.
#[utoipa::path(
    get, path = "/v2/health/ready", tag = "Open Inference Protocol",
    responses((status = 200, body = Ready), ReadyErrors)
)]
pub(in crate::server) async fn ready(state: State<Arc<Service>>) -> Result<Json<Ready>, InferError> {
    health::ready(state).await?;
    Ok(Json(Ready { ready: true }))
}

/// A task as a model.
#[utoipa::path(
    get, path = "/v2/models/{model}", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "The task.")),
    responses((status = 200, body = ModelMetadata), ModelErrors)
)]
pub(in crate::server) async fn model(
    State(service): State<Arc<Service>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<ModelMetadata>, InferError> {
    let Path(name) = path(name)?;
    let versions = cards(&service, &name)?;
    let versions = versions.iter().map(|card| card.version().to_owned()).collect();
    let task = card(&service, &name, None)?;
    Ok(Json(ModelMetadata::of(&task, name, versions)))
}

/// A version of a task as a model.
#[utoipa::path(
    get, path = "/v2/models/{model}/versions/{version}", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "The task."), ("version" = String, Path, description = "The version of its prompt.")),
    responses((status = 200, body = ModelMetadata), ModelErrors, VersionErrors)
)]
pub(in crate::server) async fn model_version(
    State(service): State<Arc<Service>>,
    path_parts: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<ModelMetadata>, InferError> {
    let Path((name, version)) = path(path_parts)?;
    let task = card(&service, &name, Some(&version))?;
    Ok(Json(ModelMetadata::of(&task, name, vec![version])))
}

/// Whether a task answers.
#[utoipa::path(
    get, path = "/v2/models/{model}/ready", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "The task.")),
    responses((status = 200, body = Ready), ModelErrors)
)]
pub(in crate::server) async fn model_ready(
    State(service): State<Arc<Service>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Ready>, InferError> {
    let Path(name) = path(name)?;
    card(&service, &name, None)?;
    Ok(Json(Ready { ready: true }))
}

/// Whether a version of a task answers.
#[utoipa::path(
    get, path = "/v2/models/{model}/versions/{version}/ready", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "The task."), ("version" = String, Path, description = "The version of its prompt.")),
    responses((status = 200, body = Ready), ModelErrors, VersionErrors)
)]
pub(in crate::server) async fn version_ready(
    State(service): State<Arc<Service>>,
    path_parts: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Ready>, InferError> {
    let Path((name, version)) = path(path_parts)?;
    card(&service, &name, Some(&version))?;
    Ok(Json(Ready { ready: true }))
}

pub(super) fn path<T>(path: Result<Path<T>, PathRejection>) -> Result<Path<T>, InferError> {
    path.map_err(|error| Problem::new(Code::BadRequest, error.body_text()).into())
}

// === impl ModelMetadata ===

impl ModelMetadata {
    fn of(task: &TaskCard, name: String, versions: Vec<String>) -> Self {
        let tensor = |name: &str, datatype, shape| TensorMetadata { name: name.to_owned(), datatype, shape };
        let inputs = task.template().fields().iter().map(|field| tensor(field, "BYTES", vec![-1])).collect();
        let outputs = match task.answers() {
            Answers::Labels { names, .. } => vec![
                tensor("label", "BYTES", vec![-1]),
                tensor("score", "FP32", vec![-1]),
                tensor("scores", "FP32", vec![-1, names.len() as i64]),
                tensor("truncated", "BOOL", vec![-1]),
            ],
            Answers::Text { .. } => vec![
                tensor("text", "BYTES", vec![-1]),
                tensor("finish_reason", "BYTES", vec![-1]),
                tensor("truncated", "BOOL", vec![-1]),
            ],
        };
        Self { name, versions, platform: "xprompt_t5", inputs, outputs }
    }
}
