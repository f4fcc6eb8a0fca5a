//! Errors as clients see them: RFC 9457 problem documents with a stable code.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::engine::EngineError;

/// What went wrong, for programs. Codes are stable; titles and details are for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The body is not JSON.
    MalformedJson,
    /// The request is not what the route takes.
    BadRequest,
    /// The request has no key that is known.
    Unauthorized,
    /// The key is not for what the request asks.
    Forbidden,
    /// No file gives a task of this name.
    UnknownTask,
    /// No such route.
    UnknownRoute,
    /// The route is there, but not for this method.
    MethodNotAllowed,
    /// The client took too long to send its body.
    BodyTimeout,
    /// The version is not kept.
    UnknownVersion,
    /// The version that is asked for does not answer, or the task was changed at the same moment.
    VersionConflict,
    /// `If-Match` or `If-None-Match` does not hold.
    PreconditionFailed,
    /// The body has more bytes than allowed.
    BodyTooLarge,
    /// The call has more inputs than allowed.
    TooManyInputs,
    /// The body is of a type that the route does not read.
    UnsupportedMediaType,
    /// The input does not fit the task's template, or is too long.
    BadInput,
    /// The task's file never passed its checks.
    BadPrompt,
    /// The queue is full.
    Overloaded,
    /// The server failed.
    Internal,
    /// The server is stopping.
    Draining,
    /// The server has not loaded its prompts yet.
    NotReady,
    /// The place of the prompts cannot be read or written.
    StoreUnavailable,
    /// The answer was not there in time.
    Deadline,
    /// There are as many tasks as allowed.
    StoreFull,
}

/// An error of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which kind.
    pub code: Code,
    /// What exactly, and the remedy.
    pub detail: String,
}

/// An error as it is written (RFC 9457).
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes what Problem serializes to")]
pub(super) struct ProblemDocument {
    /// A URN of the code.
    #[schema(rename = "type", example = "urn:xprompt:problem:bad_input")]
    kind: String,
    /// The code for people.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What exactly, and the remedy.
    detail: String,
    /// The stable name of the kind of problem, for programs.
    #[schema(example = "bad_input")]
    code: String,
}

// === impl Code ===

impl Code {
    /// Every code.
    pub const ALL: [Self; 23] = [
        Self::MalformedJson,
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::UnknownTask,
        Self::UnknownRoute,
        Self::MethodNotAllowed,
        Self::BodyTimeout,
        Self::UnknownVersion,
        Self::VersionConflict,
        Self::PreconditionFailed,
        Self::BodyTooLarge,
        Self::TooManyInputs,
        Self::UnsupportedMediaType,
        Self::BadInput,
        Self::BadPrompt,
        Self::Overloaded,
        Self::Internal,
        Self::Draining,
        Self::NotReady,
        Self::StoreUnavailable,
        Self::Deadline,
        Self::StoreFull,
    ];

    /// Its HTTP status, its stable name, and its title.
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::MalformedJson => (StatusCode::BAD_REQUEST, "malformed_json", "The body is not JSON"),
            Self::BadRequest => (StatusCode::BAD_REQUEST, "bad_request", "The request is malformed"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "The request needs a key"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "The key is not for this"),
            Self::UnknownTask => (StatusCode::NOT_FOUND, "unknown_task", "There is no such task"),
            Self::UnknownRoute => (StatusCode::NOT_FOUND, "unknown_route", "There is no such route"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "The route has no such method")
            }
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "body_timeout", "The body came too slowly"),
            Self::UnknownVersion => (StatusCode::NOT_FOUND, "unknown_version", "There is no such version"),
            Self::VersionConflict => (StatusCode::CONFLICT, "version_conflict", "Another version is active"),
            Self::PreconditionFailed => (
                StatusCode::PRECONDITION_FAILED,
                "precondition_failed",
                "The task is not as the request expects",
            ),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large"),
            Self::TooManyInputs => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_many_inputs", "The call has too many inputs")
            }
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body's type is not supported",
            ),
            Self::BadInput => {
                (StatusCode::UNPROCESSABLE_ENTITY, "bad_input", "The input does not fit the task")
            }
            Self::BadPrompt => {
                (StatusCode::UNPROCESSABLE_ENTITY, "bad_prompt", "The task's prompt file was rejected")
            }
            Self::Overloaded => (StatusCode::TOO_MANY_REQUESTS, "overloaded", "The server is overloaded"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining", "The server is stopping"),
            Self::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not_ready", "The server is starting"),
            Self::StoreUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "The store of the prompts fails")
            }
            Self::StoreFull => {
                (StatusCode::INSUFFICIENT_STORAGE, "store_full", "There are as many tasks as allowed")
            }
            Self::Deadline => (StatusCode::GATEWAY_TIMEOUT, "deadline", "The answer was not there in time"),
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.parts().0
    }

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.parts().1
    }

    /// Seconds after which the same request may succeed, for conditions that pass by themselves.
    pub(super) fn retry_after(self) -> Option<&'static str> {
        matches!(self, Self::Overloaded | Self::Draining | Self::NotReady | Self::StoreUnavailable)
            .then_some("1")
    }
}

// === impl Problem ===

impl Problem {
    /// A problem.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (status, name, title) = self.code.parts();
        let mut document = serializer.serialize_struct("Problem", 5)?;
        document.serialize_field("type", &format!("urn:xprompt:problem:{name}"))?;
        document.serialize_field("title", title)?;
        document.serialize_field("status", &status.as_u16())?;
        document.serialize_field("detail", &self.detail)?;
        document.serialize_field("code", name)?;
        document.end()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        const TYPE: (HeaderName, HeaderValue) =
            (CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let (status, retry_after) = (self.code.status(), self.code.retry_after());
        let mut response = (status, Json(self)).into_response();
        response.headers_mut().insert(TYPE.0, TYPE.1);
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let code = match error {
            EngineError::Overloaded { .. } => Code::Overloaded,
            EngineError::Deadline => Code::Deadline,
            EngineError::Stopped => Code::Draining,
            EngineError::Failed(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_has_its_own_name_and_an_error_status() {
        let names: HashSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
        }
        let failed = Problem::from(EngineError::Failed("no memory".into()));
        assert_eq!((failed.code, failed.detail.as_str()), (Code::Internal, "no memory"));
    }
}
