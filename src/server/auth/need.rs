//! What a request needs by its route.

use axum::http::Method;

use crate::server::Code;

/// What a caller has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Need {
    /// Anybody may ask.
    Nothing,
    /// Any key.
    Key,
    /// A key for the task that the path names.
    Look,
    /// A key for predictions on a task, which the path or the body names.
    Predict,
    /// A key for metrics.
    Metrics,
    /// A key for changes.
    Admin,
}

/// Probes, and pages that hold nothing of what is served.
const OPEN: [&str; 6] =
    ["/", "/openapi.json", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"];

/// How routes begin that are files of such pages.
const OPEN_FILES: [&str; 2] = ["/docs", "/page/"];

/// How routes begin that tell about the task which they name.
const TASKS: [&str; 2] = ["/tasks/{task}", "/v2/models/{model}"];

/// How routes end that answer by POST and change nothing.
const ANSWERING: [&str; 4] = ["/predict", "/infer", "/generate", "/completions"];

// === impl Need ===

impl Need {
    /// By the pattern of the route, if there is one. A route that is not known here needs the most.
    pub(in crate::server) fn of(method: &Method, route: Option<&str>) -> Self {
        let Some(route) = route else { return Self::Nothing };
        let (reads, posts) = (matches!(*method, Method::GET | Method::HEAD), *method == Method::POST);
        if route == "/metrics" {
            Self::Metrics
        } else if reads && (OPEN.contains(&route) || OPEN_FILES.iter().any(|begin| route.starts_with(begin)))
        {
            Self::Nothing
        } else if reads && TASKS.iter().any(|begin| route.starts_with(begin)) {
            Self::Look
        } else if reads {
            Self::Key
        } else if posts && ANSWERING.iter().any(|end| route.ends_with(end)) {
            Self::Predict
        } else {
            Self::Admin
        }
    }

    /// What a caller who does not have it may get.
    pub(in crate::server) fn refusals(&self) -> &'static [Code] {
        match self {
            Self::Nothing => &[],
            Self::Key => &[Code::Unauthorized],
            Self::Look | Self::Predict | Self::Metrics | Self::Admin => {
                &[Code::Unauthorized, Code::Forbidden]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_needs_a_key_and_changing_needs_one_for_that() {
        for (method, route, need) in [
            (Method::GET, "/health/ready", Need::Nothing),
            (Method::GET, "/docs/{*rest}", Need::Nothing),
            (Method::GET, "/page/{file}", Need::Nothing),
            (Method::GET, "/tasks", Need::Key),
            (Method::GET, "/v2", Need::Key),
            (Method::GET, "/tasks/{task}/versions", Need::Look),
            (Method::GET, "/v2/models/{model}/ready", Need::Look),
            (Method::POST, "/tasks/{task}/predict", Need::Predict),
            (Method::POST, "/v2/models/{model}/infer", Need::Predict),
            (Method::POST, "/v1/completions", Need::Predict),
            (Method::GET, "/metrics", Need::Metrics),
            (Method::PUT, "/tasks/{task}", Need::Admin),
            (Method::DELETE, "/tasks/{task}", Need::Admin),
            (Method::POST, "/tasks/{task}/rollback", Need::Admin),
            (Method::POST, "/something/new", Need::Admin),
            (Method::DELETE, "/tasks/{task}/predict", Need::Admin),
        ] {
            assert_eq!(Need::of(&method, Some(route)), need, "{method} {route}");
        }
        assert_eq!(Need::of(&Method::PUT, None), Need::Nothing);
    }
}
