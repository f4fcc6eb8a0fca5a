//! The shape of a route's errors: problem documents, or what the clients of its protocol read.

use axum::http::HeaderValue;
use axum::http::header::WWW_AUTHENTICATE;
use axum::response::{IntoResponse as _, Response};

use super::completions::CompletionError;
use super::v2::InferError;
use super::{Code, Problem};

/// How an error is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A problem document.
    Problem,
    /// As OpenAI's clients read it.
    Completion,
    /// As clients of the Open Inference Protocol read it.
    Infer,
}

// === impl Shape ===

impl Shape {
    /// That of a route, by its pattern.
    pub(super) fn of(route: &str) -> Self {
        match route.split('/').nth(1) {
            Some("v1") => Self::Completion,
            Some("v2") => Self::Infer,
            _ => Self::Problem,
        }
    }

    /// Media type and schema, as the description of the interface names them.
    pub(super) fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::Problem => ("application/problem+json", "ProblemDocument"),
            Self::Completion => ("application/json", "CompletionErrorBody"),
            Self::Infer => ("application/json", "InferErrorBody"),
        }
    }

    /// Writes a refusal of a request for its key.
    pub(super) fn refuse(self, problem: Problem) -> Response {
        let asks_for_key = problem.code == Code::Unauthorized;
        let mut response = match self {
            Self::Problem => problem.into_response(),
            Self::Completion => CompletionError::from(problem).into_response(),
            Self::Infer => InferError::from(problem).into_response(),
        };
        if asks_for_key {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
