//! The web page at `/`: plain files in the binary, and the picture of a prompt that it draws.
//!
//! Where changes have a listener of their own, the page of the other one shows tasks and answers only.

mod picture;

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::{Code, Problem, Service};
use crate::fingerprint;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

const INDEX: &str = include_str!("index.html");

/// How the page is told that this listener takes changes, and that it does not.
const CHANGES_HERE: &str = "data-changes=\"here\"";
const CHANGES_ELSEWHERE: &str = "data-changes=\"elsewhere\"";

/// The files of the page, by name.
const FILES: [(&str, (&str, &str)); 7] = [
    ("style.css", (CSS, include_str!("style.css"))),
    ("api.js", (JAVASCRIPT, include_str!("api.js"))),
    ("build.js", (JAVASCRIPT, include_str!("build.js"))),
    ("live.js", (JAVASCRIPT, include_str!("live.js"))),
    ("page.js", (JAVASCRIPT, include_str!("page.js"))),
    ("picture.js", (JAVASCRIPT, include_str!("picture.js"))),
    ("upload.js", (JAVASCRIPT, include_str!("upload.js"))),
];

/// The page loads its own files and talks to its own server only.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The routes of the page, on a listener that takes changes or on one that does not.
pub(super) fn routes(takes_changes: bool) -> Router<Arc<Service>> {
    let index: Arc<str> = match takes_changes {
        true => INDEX.into(),
        false => INDEX.replace(CHANGES_HERE, CHANGES_ELSEWHERE).into(),
    };
    Router::new()
        .route("/", get(async move |headers: HeaderMap| answer(&headers, (HTML, &index))))
        .route("/page/{file}", get(file))
        .route("/tasks/{task}/picture", get(picture::show))
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let found = FILES.iter().find(|(known, _)| *known == name);
    let missing = || Problem::new(Code::UnknownRoute, format!("the page has no file {name:?}"));
    found.map(|&(_, file)| answer(&headers, file)).ok_or_else(missing)
}

/// A file, or that the one which the browser has is still good.
fn answer(headers: &HeaderMap, (content_type, content): (&'static str, &str)) -> Response {
    let etag = format!("\"{}\"", fingerprint::of_bytes(content.as_bytes()));
    let known = headers.get(IF_NONE_MATCH).is_some_and(|tags| tags.as_bytes() == etag.as_bytes());
    let caching = [(ETAG, etag), (CACHE_CONTROL, "no-cache".to_owned())];
    if known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let kind = [(CONTENT_TYPE, content_type), (CONTENT_SECURITY_POLICY, POLICY)];
    (caching, kind, content.to_owned()).into_response()
}
