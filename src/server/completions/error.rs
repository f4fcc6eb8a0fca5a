//! Errors as OpenAI's clients read them.

use axum::Json;
use axum::http::HeaderValue;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::server::openapi::errors_as;
use crate::server::{Code, Problem};

errors_as!(
    Errors, Completion:
    MalformedJson, BadRequest, UnknownTask, BodyTimeout, BodyTooLarge, TooManyInputs,
    UnsupportedMediaType, BadInput, BadPrompt, Overloaded, Draining, NotReady, StoreUnavailable, Deadline,
);

/// An error, and which parameter it is about.
#[derive(Clone, Debug)]
pub(in crate::server) struct CompletionError {
    problem: Problem,
    param: Option<String>,
}

/// An error as it is written.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes what CompletionError is written as")]
pub(in crate::server) struct CompletionErrorBody {
    error: CompletionErrorDetail,
}

/// What went wrong.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes what CompletionError is written as")]
pub(in crate::server) struct CompletionErrorDetail {
    message: String,
    /// The class of the error.
    #[schema(example = "invalid_request_error")]
    r#type: String,
    /// The parameter that is wrong.
    #[schema(required)]
    param: Option<String>,
    /// The stable name of the kind of problem.
    #[schema(example = "bad_request")]
    code: String,
}

// === impl CompletionError ===

impl CompletionError {
    /// A parameter that is not as it has to be.
    pub(super) fn of(param: &str, detail: impl Into<String>) -> Self {
        Self { problem: Problem::new(Code::BadRequest, detail), param: Some(param.to_owned()) }
    }

    pub(super) fn body(&self) -> Value {
        let Problem { code, detail } = &self.problem;
        let (kind, code) = match code {
            Code::UnknownTask => ("invalid_request_error", "model_not_found"),
            Code::Overloaded => ("rate_limit_error", code.name()),
            code if code.status().is_server_error() => ("server_error", code.name()),
            code => ("invalid_request_error", code.name()),
        };
        json!({"error": {"message": detail, "type": kind, "param": self.param, "code": code}})
    }
}

impl From<Problem> for CompletionError {
    fn from(problem: Problem) -> Self {
        let param = (problem.code == Code::UnknownTask).then(|| "model".to_owned());
        Self { problem, param }
    }
}

impl IntoResponse for CompletionError {
    fn into_response(self) -> Response {
        let code = self.problem.code;
        let mut response = (code.status(), Json(self.body())).into_response();
        if let Some(seconds) = code.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response
    }
}
