//! `GET /tasks` and `GET /tasks/{task}`: what is served.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::admin::etag;
use super::lease::{not_loaded, unknown};
use super::time::rfc3339;
use super::{Code, Problem, Service};
use crate::prompt::OutputSpec;
use crate::store::{Entry, Served};

/// All tasks in short, and the files that cannot be one.
pub(super) async fn list(State(service): State<Arc<Service>>) -> Json<Value> {
    let catalog = service.store.catalog();
    let tasks: Vec<Value> =
        catalog.tasks().map(|(name, entry)| Value::Object(summary(name, entry))).collect();
    let refused: Vec<Value> =
        catalog.refused().map(|(file, reason)| json!({"file": file, "reason": reason})).collect();
    Json(json!({"tasks": tasks, "refused_files": refused}))
}

/// One task in full.
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
