//! Changing what is served: uploads, removal, versions, rollback, shares of the traffic, pins.
//!
//! Handlers read requests and hand [`Change`]s to the store; nothing is decided here.

mod precondition;
mod shown;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) use self::precondition::etag;
use super::lease::unknown;
use super::openapi::problems;
use super::{Code, Problem, Service, body};
use crate::store::{Action, Change, ChangeError, Done};

/// Uploads that are read or checked at once; one more is answered 429.
pub(super) const MAX_UPLOADS: usize = 4;

/// Bytes of a body that says what to change: names and numbers.
const MAX_JSON_BYTES: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutOptions {
    #[serde(default = "yes")]
    activate: bool,
}

/// Which version to go back to.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RollbackCall {
    /// By default the one that was active before.
    version: Option<String>,
}

/// Who gets which version.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TrafficCall {
    /// Percent by version; the active one gets the rest.
    #[serde(default)]
    versions: BTreeMap<String, u8>,
    /// The version that is computed beside the one that answers.
    shadow: Option<String>,
}

type TaskPath = Result<Path<String>, PathRejection>;

/// The routes that change what is served.
pub(super) fn routes() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(upload, remove))
        .routes(routes!(versions))
        .routes(routes!(rollback))
        .routes(routes!(traffic))
        .routes(routes!(pin, unpin))
}

problems!(
    ChangeProblems: BadRequest, UnknownTask, VersionConflict, PreconditionFailed, Overloaded, Draining, StoreUnavailable,
    Deadline,
);
problems!(
    UploadProblems: BadRequest, UnknownTask, VersionConflict, PreconditionFailed, BodyTimeout, BodyTooLarge, BadPrompt, Overloaded,
    Draining, StoreUnavailable, Deadline, StoreFull,
);
problems!(
    RouteProblems: MalformedJson, BadRequest, UnknownTask, UnknownVersion, VersionConflict, PreconditionFailed,
    BodyTimeout, BodyTooLarge, BadPrompt, Overloaded, Draining, StoreUnavailable, Deadline,
);
problems!(VersionsProblems: BadRequest, UnknownTask, NotReady);

/// Takes a prompt file as a new version: read, check, replay, keep, swap.
#[utoipa::path(
    put, path = "/tasks/{task}", tag = "Prompts",
    params(("task" = String, Path, description = "The name of the task."), ("activate" = Option<bool>, Query, description = "Make it active; true where nothing is said."), ("If-Match" = Option<String>, Header, description = "The version that has to be active, in double quotes."), ("If-None-Match" = Option<String>, Header, description = "`*`: the task must not be there.")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "A new version.", body = Object), (status = 201, description = "A new task.", body = Object), UploadProblems)
)]
async fn upload(
    State(service): State<Arc<Service>>,
    task: TaskPath,
    options: Result<Query<PutOptions>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let task = name(task)?;
    let Query(PutOptions { activate }) =
        options.map_err(|error| Problem::new(Code::BadRequest, error.body_text()))?;
    let _place = service.uploads.try_acquire().map_err(|_| {
        Problem::new(Code::Overloaded, format!("{MAX_UPLOADS} uploads are worked on already"))
    })?;
    let limit = usize::try_from(service.store.max_prompt_bytes()).unwrap_or(usize::MAX);
    let file = body::read(body, limit, service.limits.read_time).await.map_err(|mut problem| {
        if problem.code == Code::BodyTooLarge {
            problem.detail =
                format!("the file has more than {limit} bytes; raise --max-prompt-bytes if it is a prompt");
        }
        problem
    })?;
    let done = change(&service, &task, &headers, Action::Put { file, activate }).await?;
    let status = if done.previous.is_none() { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answer(status, &task, &done))
}

/// Removes a task with all its versions.
#[utoipa::path(
    delete, path = "/tasks/{task}", tag = "Prompts",
    params(("task" = String, Path, description = "The name of the task."), ("If-Match" = Option<String>, Header, description = "The version that has to be active, in double quotes.")),
    responses((status = 204, description = "It is gone."), ChangeProblems)
)]
async fn remove(
    State(service): State<Arc<Service>>,
    task: TaskPath,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    change(&service, &name(task)?, &headers, Action::Delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a kept version active, by default the one that was active before.
#[utoipa::path(
    post, path = "/tasks/{task}/rollback", tag = "Prompts",
    params(("task" = String, Path, description = "The name of the task."), ("If-Match" = Option<String>, Header, description = "The version that has to be active, in double quotes.")),
    request_body = RollbackCall,
    responses((status = 200, description = "It is active.", body = Object), RouteProblems)
)]
async fn rollback(
    State(service): State<Arc<Service>>,
    task: TaskPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let task = name(task)?;
    let RollbackCall { version } = read_json(&service, body).await?.unwrap_or_default();
    let done = change(&service, &task, &headers, Action::Rollback { version }).await?;
    Ok(answer(StatusCode::OK, &task, &done))
}

/// Sets who gets which version.
#[utoipa::path(
    put, path = "/tasks/{task}/traffic", tag = "Prompts",
    params(("task" = String, Path, description = "The name of the task."), ("If-Match" = Option<String>, Header, description = "The version that has to be active, in double quotes.")),
    request_body = TrafficCall,
    responses((status = 200, description = "The versions.", body = Object), RouteProblems)
)]
async fn traffic(
    State(service): State<Arc<Service>>,
    task: TaskPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let task = name(task)?;
    let Some(TrafficCall { versions, shadow }) = read_json(&service, body).await? else {
        let detail = "send {\"versions\": {VERSION: PERCENT, …}, \"shadow\": VERSION}; {} ends all shares";
        return Err(Problem::new(Code::BadRequest, detail));
    };
    change(&service, &task, &headers, Action::Route { traffic: versions, shadow }).await?;
    shown::versions(&service, &task).map(|(etag, shown)| (etag, Json(shown)).into_response())
}

/// Keeps a task's rows in memory.
#[utoipa::path(
    put, path = "/tasks/{task}/pin", tag = "Prompts",
    params(("task" = String, Path, description = "The name of the task."), ("If-Match" = Option<String>, Header, description = "The version that has to be active, in double quotes.")),
    responses((status = 204, description = "It stays in memory."), ChangeProblems)
)]
async fn pin(
    State(service): State<Arc<Service>>,
    task: TaskPath,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    change(&service, &name(task)?, &headers, Action::Pin(true)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a task's rows leave the memory.
#[utoipa::path(
    delete, path = "/tasks/{task}/pin", tag = "Prompts",
    params(("task" = String, Path, description = "The name of the task."), ("If-Match" = Option<String>, Header, description = "The version that has to be active, in double quotes.")),
    responses((status = 204, description = "It may leave the memory."), ChangeProblems)
)]
async fn unpin(
    State(service): State<Arc<Service>>,
    task: TaskPath,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    change(&service, &name(task)?, &headers, Action::Pin(false)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The versions of a task, and who gets which.
#[utoipa::path(
    get, path = "/tasks/{task}/versions", tag = "Prompts",
    params(("task" = String, Path, description = "The name of the task.")),
    responses((status = 200, description = "The versions.", body = Object), VersionsProblems)
)]
async fn versions(State(service): State<Arc<Service>>, task: TaskPath) -> Result<Response, Problem> {
    let task = name(task)?;
    shown::versions(&service, &task).map(|(etag, shown)| (etag, Json(shown)).into_response())
}

fn yes() -> bool {
    true
}

fn name(task: TaskPath) -> Result<String, Problem> {
    match task {
        Ok(Path(name)) => Ok(name),
        Err(error) => Err(Problem::new(Code::BadRequest, error.body_text())),
    }
}

/// The body as JSON; `None` if it is empty.
async fn read_json<T: DeserializeOwned>(service: &Service, body: Body) -> Result<Option<T>, Problem> {
    let limit = service.limits.body_bytes.min(MAX_JSON_BYTES);
    let body = body::read(body, limit, service.limits.read_time).await?;
    if body.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&body).map(Some).map_err(|error| {
        let code = if error.is_data() { Code::BadRequest } else { Code::MalformedJson };
        Problem::new(code, error.to_string())
    })
}

fn answer(status: StatusCode, task: &str, done: &Done) -> Response {
    let shown = json!({
        "task": task,
        "version": done.version,
        "active": done.active,
        "previous": done.previous,
    });
    (status, etag(done.active.as_deref()), Json(shown)).into_response()
}

/// Hands a change to the store and waits for what comes of it.
async fn change(service: &Service, task: &str, headers: &HeaderMap, action: Action) -> Result<Done, Problem> {
    if service.traffic.is_draining() {
        return Err(Problem::new(Code::Draining, "the server is stopping and takes no more changes"));
    }
    let precondition = precondition::read(headers)?;
    let change = Change { task: task.to_owned(), precondition, action };
    let waiting = service.store.change(change);
    match tokio::time::timeout(service.limits.request_time, waiting).await {
        Ok(Some(outcome)) => outcome.map_err(|error| problem(task, &error)),
        Ok(None) => Err(Problem::new(Code::Overloaded, "too many changes wait already")),
        Err(_) => {
            let detail =
                "the change was not made in time; it may still be, so look at the task's version first";
            Err(Problem::new(Code::Deadline, detail))
        }
    }
}

fn problem(task: &str, error: &ChangeError) -> Problem {
    let code = match error {
        ChangeError::UnknownTask(_) => return unknown(task),
        ChangeError::Precondition { .. } => Code::PreconditionFailed,
        ChangeError::Conflict(_) => Code::VersionConflict,
        ChangeError::UnknownVersion(_) => Code::UnknownVersion,
        ChangeError::BadName(_) | ChangeError::BadRoutes(_) => Code::BadRequest,
        ChangeError::Full { .. } => Code::StoreFull,
        ChangeError::Rejected(_) => Code::BadPrompt,
        ChangeError::Storage(_) => Code::StoreUnavailable,
        ChangeError::Stopped => Code::Draining,
    };
    Problem::new(code, error.to_string())
}
