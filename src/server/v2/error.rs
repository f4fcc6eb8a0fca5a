//! Errors as clients of the Open Inference Protocol read them.

use axum::Json;
use axum::http::HeaderValue;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use utoipa::ToSchema;

use crate::server::openapi::errors_as;
use crate::server::{Code, Problem};

errors_as!(
    InferErrors, Infer:
    MalformedJson, BadRequest, UnknownTask, BodyTimeout, BodyTooLarge, TooManyInputs, BadInput, BadPrompt, Overloaded,
    Draining, NotReady, StoreUnavailable, Deadline,
);
errors_as!(ModelErrors, Infer: BadRequest, UnknownTask, BadPrompt, NotReady);
errors_as!(VersionErrors, Infer: VersionConflict);
errors_as!(LiveErrors, Infer: Internal);
errors_as!(ReadyErrors, Infer: Draining, NotReady);

/// An error of the protocol's routes.
#[derive(Clone, Debug)]
pub(in crate::server) struct InferError(Problem);

/// An error as it is written.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes what InferError is written as")]
pub(in crate::server) struct InferErrorBody {
    /// What exactly, and the remedy.
    error: String,
    /// The stable name of the kind of problem.
    #[schema(example = "bad_request")]
    code: String,
}

// === impl InferError ===

impl InferError {
    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Self(Problem::new(Code::BadRequest, detail))
    }
}

impl From<Problem> for InferError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for InferError {
    fn into_response(self) -> Response {
        let Problem { code, detail } = self.0;
        let mut response =
            (code.status(), Json(json!({"error": detail, "code": code.name()}))).into_response();
        if let Some(seconds) = code.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response
    }
}
