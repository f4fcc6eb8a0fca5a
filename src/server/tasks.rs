//! `GET /tasks` and `GET /tasks/{task}`: what is served.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::admin::etag;
use super::auth::View;
use super::lease::{not_loaded, unknown};
use super::openapi::problems;
use super::time::rfc3339;
use super::{Code, Problem, Service};
use crate::prompt::OutputSpec;
use crate::store::{Entry, Served};

problems!(ListProblems: BadRequest);
problems!(ShowProblems: BadRequest, UnknownTask, NotReady);

/// Tasks of a page where nothing is said, and at most.
const PAGE: usize = 100;
const LONGEST_PAGE: usize = 1000;

/// Which page of the tasks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Tasks of a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A page of the tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskPage {
    /// In the order of their names.
    #[schema(value_type = Vec<Object>)]
    tasks: Vec<Value>,
    /// All tasks.
    total: usize,
    /// Asks for the next page; none on the last.
    #[schema(required)]
    next_cursor: Option<String>,
    /// Files that cannot be a task, with the reason; on the first page.
    #[schema(value_type = Vec<Object>)]
    refused_files: Vec<Value>,
}

/// The tasks in short, and the files that cannot be one.
///
/// Pages follow the order of names: a task that is there all the time is on exactly one of them. A key sees the tasks
/// that it may predict on, one for changes sees all and the files that cannot be a task.
#[utoipa::path(
    get, path = "/tasks", tag = "Tasks", params(ListQuery),
    responses((status = 200, description = "A page of the tasks.", body = TaskPage), ListProblems)
)]
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<TaskPage>, Problem> {
    let Query(query) = query.map_err(|error| Problem::new(Code::BadRequest, error.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        return Err(Problem::new(Code::BadRequest, format!("limit is {limit}; ask for 1 to {LONGEST_PAGE}")));
    }
    let (catalog, view) = (service.store.catalog(), View::of_caller());
    let visible = || catalog.tasks().filter(|(name, _)| view.sees(name));
    let is_before = |name: &str| query.cursor.as_deref().is_some_and(|cursor| name <= cursor);
    let mut rest = visible().skip_while(|(name, _)| is_before(name)).peekable();
    let page: Vec<(&Arc<str>, &Entry)> = rest.by_ref().take(limit).collect();
    let next_cursor = rest.peek().and(page.last()).map(|(name, _)| name.to_string());
    let total = if view.is_all() { catalog.tasks().len() } else { visible().count() };
    let refused = catalog.refused().filter(|_| query.cursor.is_none() && view.is_all());
    Ok(Json(TaskPage {
        tasks: page.into_iter().map(|(name, entry)| Value::Object(summary(name, entry))).collect(),
        total,
        next_cursor,
        refused_files: refused.map(|(file, reason)| json!({"file": file, "reason": reason})).collect(),
    }))
}

/// One task in full.
#[utoipa::path(
    get, path = "/tasks/{task}", tag = "Tasks", params(("task" = String, Path, description = "The name of the task.")),
    responses((status = 200, description = "The task.", body = Object), ShowProblems)
)]
pub(super) async fn show(
    State(service): State<Arc<Service>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(name) = name.map_err(|error| Problem::new(Code::BadRequest, error.body_text()))?;
    let Some(entry) = service.store.task(&name) else {
        return Err(if service.store.is_scanned() { unknown(&name) } else { not_loaded(&name) });
    };
    let mut shown = summary(&name, &entry);
    if let Some(served) = &entry.served {
        let manifest = served.task.manifest();
        shown.extend(members(json!({
            "base_model": manifest.base_model,
            "tokenizer": manifest.tokenizer,
            "producer": manifest.producer,
            "seed": manifest.seed,
            "data": manifest.data,
            "history": manifest.history,
            "golden_examples": manifest.golden.len(),
        })));
    }
    let active = entry.served.as_ref().map(|served| served.task.version());
    Ok((etag(active), Json(Value::Object(shown))).into_response())
}

fn summary(name: &str, entry: &Entry) -> Map<String, Value> {
    let state = if entry.served.is_some() { "ready" } else { "failed" };
    let mut shown = members(json!({"task": name, "state": state}));
    if let Some(served) = &entry.served {
        shown.extend(of_version(served));
    }
    if let Some(failure) = &entry.failure {
        let error = json!({"reason": failure.reason, "at": rfc3339(failure.at)});
        shown.insert("load_error".into(), error);
    }
    shown
}

fn of_version(served: &Served) -> Map<String, Value> {
    let task = &served.task;
    let manifest = task.manifest();
    let parameters = task.kept_pieces() * (manifest.d_model / manifest.pieces);
    let mut shown = members(json!({
        "version": task.version(),
        "since": rfc3339(served.since),
    }));
    shown.extend(match &manifest.task.output {
        OutputSpec::Labels { labels } => members(json!({"output": "labels", "labels": labels})),
        OutputSpec::Text { max_new_tokens } => {
            members(json!({"output": "text", "max_new_tokens": max_new_tokens}))
        }
    });
    shown.extend(members(json!({
        "template": manifest.task.template,
        "fields": task.template().fields(),
        "max_input_tokens": manifest.task.max_input_tokens,
        "prompt": {
            "tokens": {"kept": task.kept_tokens(), "of": manifest.tokens},
            "pieces": {"kept": task.kept_pieces(), "of": manifest.tokens * manifest.pieces},
            "parameters": parameters,
            "file_bytes": served.file_bytes,
            "memory_bytes": task.row_bytes(),
        },
        "metrics": last_metrics(manifest),
    })));
    shown
}

/// The metrics of the last stage that has some.
fn last_metrics(manifest: &crate::prompt::Manifest) -> Value {
    let measured = |stage: &&crate::prompt::Stage| !stage.dev.is_empty() || !stage.test.is_empty();
    match manifest.history.iter().rev().find(measured) {
        Some(stage) => json!({"stage": stage.name, "dev": stage.dev, "test": stage.test}),
        None => Value::Null,
    }
}

fn members(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
