//! The web page at `/`: plain files in the binary, and the picture of a prompt that it draws.

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

const INDEX: (&str, &str) = (HTML, include_str!("index.html"));

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

/// The routes of the page.
pub(super) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/", get(async |headers: HeaderMap| answer(&headers, INDEX)))
        .route("/page/{file}", get(file))
        .route("/tasks/{task}/picture", get(picture::show))
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let found = FILES.iter().find(|(known, _)| *known == name);
    let missing = || Problem::new(Code::UnknownRoute, format!("the page has no file {name:?}"));
    found.map(|&(_, file)| answer(&headers, file)).ok_or_else(missing)
}

/// A file, or that the one which the browser has is still good.
fn answer(headers: &HeaderMap, (content_type, content): (&'static str, &'static str)) -> Response {
    let etag = format!("\"{}\"", fingerprint::of_bytes(content.as_bytes()));
    let known = headers.get(IF_NONE_MATCH).is_some_and(|tags| tags.as_bytes() == etag.as_bytes());
    let caching = [(ETAG, etag), (CACHE_CONTROL, "no-cache".to_owned())];
    if known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let kind = [(CONTENT_TYPE, content_type), (CONTENT_SECURITY_POLICY, POLICY)];
    (caching, kind, content).into_response()
}
