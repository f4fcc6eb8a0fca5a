//! `GET /tasks/{task}/picture`: what is kept of a prompt, and how important it is.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Serialize;

use crate::server::lease::{not_loaded, unknown};
use crate::server::{Code, Problem, Service};

/// The active version's prompt, token by token.
#[derive(Serialize)]
pub(super) struct Picture {
    version: String,
    tokens: usize,
    pieces: usize,
    /// `[tokens][pieces]`: whether it is kept.
    piece_mask: Vec<Vec<bool>>,
    /// `[tokens]`, where the file says it.
    token_importance: Option<Vec<f32>>,
    /// `[tokens][pieces]`, where the file says it.
    piece_importance: Option<Vec<Vec<f32>>>,
}

pub(super) async fn show(
    State(service): State<Arc<Service>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Picture>, Problem> {
    let Path(name) = name.map_err(|error| Problem::new(Code::BadRequest, error.body_text()))?;
    let missing = || if service.store.is_scanned() { unknown(&name) } else { not_loaded(&name) };
    let entry = service.store.task(&name).ok_or_else(missing)?;
    let Some(served) = entry.served else {
        return Err(Problem::new(
            Code::BadPrompt,
            "no file of this task passed its checks, so there is no picture",
        ));
    };
    let file = service.store.file(&served).await;
    let file = file.map_err(|error| Problem::new(Code::StoreUnavailable, error.to_string()))?;
    let prompt = &file.prompt;
    let pieces = prompt.pieces();
    Ok(Json(Picture {
        version: served.task.version().to_owned(),
        tokens: prompt.tokens(),
        pieces,
        piece_mask: prompt.piece_mask().chunks(pieces).map(<[bool]>::to_vec).collect(),
        token_importance: file.token_importance,
        piece_importance: file
            .piece_importance
            .map(|importance| importance.chunks(pieces).map(<[f32]>::to_vec).collect()),
    }))
}
