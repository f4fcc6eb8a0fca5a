//! API keys: who calls, and what they may do.
//!
//! Keys come as `Authorization: Bearer KEY`. The file of keys has their hashes only; it is read again when it changes.
//! Without one everybody may do everything. What a request needs is decided by its route before its body is read,
//! but for the task that is predicted on: some routes name it in the body, so it is checked where its version is taken.
//! A key sees the tasks that it may predict on, or all if it is for changes.

mod file;
mod key;
mod need;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::{FromRequestParts as _, MatchedPath, RawPathParams, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use self::file::KeyRing;
use self::key::Key;
pub use self::key::{NewKey, Scopes};
pub(super) use self::need::Need;
use super::files::Files;
use super::metrics::Refusal;
use super::shape::Shape;
use super::{Code, Metrics, Problem, Service};

/// Keys that are taken, as their file has them at this moment.
#[derive(Debug)]
pub struct Keys {
    files: Files,
    ring: ArcSwap<KeyRing>,
}

/// The tasks that a caller may look at.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Without one they are all.
    key: Option<Arc<Key>>,
}

tokio::task_local! {
    /// The key of the request that is worked on.
    static CALLER: Arc<Key>;
}

// === impl Keys ===

impl Keys {
    /// Reads a file of keys.
    ///
    /// # Errors
    /// If the file cannot be read, or a line of it is no key; the text names file and line.
    pub fn open(path: &Path) -> Result<Self, String> {
        let files = Files::open(vec![path.to_owned()])?;
        let ring = ring(files.contents(), path)?;
        Ok(Self { files, ring: ArcSwap::from_pointee(ring) })
    }

    /// Number of keys.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ring.load().count()
    }

    /// Reads the file again whenever it changes, for as long as the runtime runs. A file with a mistake leaves the
    /// keys that are known.
    pub fn follow(self: &Arc<Self>, metrics: &Arc<Metrics>) {
        let (keys, path) = (Arc::clone(self), self.files.paths()[0].clone());
        self.files.follow("keys", metrics, move |contents| {
            let ring = ring(contents, &path)?;
            tracing::info!(keys = ring.count(), "the file of keys was read again");
            keys.ring.store(Arc::new(ring));
            Ok(())
        });
    }

    /// The key that a request has.
    fn caller(&self, headers: &HeaderMap) -> Result<Arc<Key>, (Refusal, Problem)> {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
        let Some(given) = given else {
            let detail = "the request has no key; send it as Authorization: Bearer KEY";
            return Err((Refusal::Missing, Problem::new(Code::Unauthorized, detail)));
        };
        self.ring.load().find(given).ok_or_else(|| {
            let detail = "the key is not known; ask who runs the server for one";
            (Refusal::Unknown, Problem::new(Code::Unauthorized, detail))
        })
    }
}

// === impl View ===

impl View {
    /// That of the caller.
    pub(super) fn of_caller() -> Self {
        Self { key: CALLER.try_with(Arc::clone).ok() }
    }

    pub(super) fn sees(&self, task: &str) -> bool {
        self.key.as_ref().is_none_or(|key| key.sees(task))
    }

    /// Whether it is every task, whatever its name.
    pub(super) fn is_all(&self) -> bool {
        self.key.as_ref().is_none_or(|key| key.administers())
    }
}

/// Refuses a request without the key that its route needs.
pub(super) async fn authenticate(
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(keys) = &service.keys else { return next.run(request).await };
    let (mut parts, body) = request.into_parts();
    let route = parts.extensions.get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    let task = task_of(&mut parts).await;
    match allowed(keys, &parts, route, task.as_deref()) {
        Ok(None) => next.run(Request::from_parts(parts, body)).await,
        Ok(Some(caller)) => {
            tracing::Span::current().record("key", caller.name());
            CALLER.scope(caller, next.run(Request::from_parts(parts, body))).await
        }
        Err((refusal, problem)) => {
            service.metrics.refused(refusal);
            Shape::of(route.unwrap_or_default()).refuse(problem)
        }
    }
}

/// The task that a path names. One that cannot be read is refused as such by its route.
async fn task_of(parts: &mut Parts) -> Option<String> {
    let named = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    let task = named.iter().find(|(name, _)| ["task", "model"].contains(name));
    task.map(|(_, task)| task.to_owned())
}

/// Refuses a prediction on a task that the caller's key is not for.
pub(super) fn may_predict(service: &Service, task: &str) -> Result<(), Problem> {
    if service.keys.is_none() || CALLER.try_with(|caller| caller.predicts(task)).unwrap_or(false) {
        return Ok(());
    }
    service.metrics.refused(Refusal::Forbidden);
    Err(Problem::new(Code::Forbidden, format!("the key is not for predictions on task {task:?}")))
}

fn allowed(
    keys: &Keys,
    Parts { method, headers, .. }: &Parts,
    route: Option<&str>,
    task: Option<&str>,
) -> Result<Option<Arc<Key>>, (Refusal, Problem)> {
    let need = Need::of(method, route);
    if need == Need::Nothing {
        return Ok(None);
    }
    let caller = keys.caller(headers)?;
    let (may, what) = match need {
        Need::Nothing | Need::Key | Need::Predict => (true, String::new()),
        Need::Look => match task {
            Some(task) => (caller.sees(task), format!("task {task:?}")),
            None => (true, String::new()),
        },
        Need::Metrics => (caller.reads_metrics(), "metrics".to_owned()),
        Need::Admin => (caller.administers(), "changes".to_owned()),
    };
    if may {
        return Ok(Some(caller));
    }
    Err((Refusal::Forbidden, Problem::new(Code::Forbidden, format!("the key is not for {what}"))))
}

fn ring(contents: &[Vec<u8>], path: &Path) -> Result<KeyRing, String> {
    let text = contents.first().map(Vec::as_slice).unwrap_or_default();
    KeyRing::parse(text).map_err(|problem| format!("{}:{problem}", path.display()))
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
