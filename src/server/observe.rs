//! Around every request: its id, its metrics, its span, its line in the log. A stream is observed to its end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use opentelemetry::Context;
use opentelemetry::trace::FutureExt as _;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::{Metrics, Service, trace};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LONGEST_ID: usize = 128;

/// The status that stands for a client that left before its answer, or within a stream.
const CLIENT_LEFT: u16 = 499;

/// A request being answered; it is counted when this is dropped, also if the client left.
struct Observed {
    metrics: Arc<Metrics>,
    route: String,
    method: Method,
    start: Instant,
    status: u16,
    context: Context,
    span: Span,
}

/// The body of a stream; the request is answered when all of it is taken.
struct Streaming {
    body: Body,
    status: u16,
    observed: Option<Observed>,
}

pub(super) async fn observe(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let id = given_id(request.headers()).unwrap_or_else(new_id);
    let context = trace::begin(&method, &route, &id, request.headers());
    // whatever is logged on the way has the id, at any level
    let span = tracing::error_span!("request", id, trace = trace::id(&context), key = Empty);
    let metrics = Arc::clone(&service.metrics);
    metrics.request_began();
    let start = Instant::now();
    let observed =
        Observed { metrics, route, method, start, status: CLIENT_LEFT, context, span: span.clone() };
    let answer = async move {
        let mut response = next.run(request).with_context(observed.context.clone()).await;
        let status = response.status().as_u16();
        if response.body().size_hint().exact().is_some() {
            observed.answered(status);
        } else {
            let stream = |body| Body::new(Streaming { body, status, observed: Some(observed) });
            response = response.map(stream);
        }
        let id = HeaderValue::from_str(&id).expect("invariant: ids are made of a header's characters");
        response.headers_mut().insert(REQUEST_ID, id);
        response
    };
    answer.instrument(span).await
}

/// The id that the client gave, if it is one: short, and of characters that no log or shell reads as its own.
fn given_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(&REQUEST_ID)?.to_str().ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/+=@".contains(c);
    (!id.is_empty() && id.len() <= LONGEST_ID && id.chars().all(plain)).then(|| id.to_owned())
}

/// An id that no other request has, of this process or another.
fn new_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static FIRST: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        now ^ u64::from(std::process::id()) << 48
    });
    format!("{:016x}-{:x}", *FIRST, NEXT.fetch_add(1, Ordering::Relaxed))
}

// === impl Observed ===

impl Observed {
    fn answered(mut self, status: u16) {
        self.status = status;
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let _in_span = self.span.enter();
        let elapsed = self.start.elapsed();
        self.metrics.request_ended(&self.route, self.status, elapsed);
        trace::end(&self.context, self.status);
        let milliseconds = elapsed.as_secs_f64() * 1e3;
        let (method, route, status) = (&self.method, &self.route, self.status);
        // a probe that hears no asks again in a moment
        let is_probe = route.contains("/health/");
        if status >= 500 && !is_probe {
            tracing::warn!(%method, route, status, milliseconds, "request failed");
        } else {
            tracing::debug!(%method, route, status, milliseconds, "request");
        }
    }
}

// === impl Streaming ===

impl HttpBody for Streaming {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None) = frame
            && let Some(observed) = self.observed.take()
        {
            observed.answered(self.status);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_if_it_is_short_and_plain() {
        let of =
            |id: &str| given_id(&HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_str(id).unwrap())]));
        assert_eq!(of("abc-1/x=@Z").as_deref(), Some("abc-1/x=@Z"));
        assert_eq!(of(&"a".repeat(128)).map(|id| id.len()), Some(128));
        for id in ["", "a b", "\"", "a\tb", "$(x)", "<b>", &"a".repeat(129)] {
            assert_eq!(of(id), None, "{id:?}");
        }
        assert!(HeaderValue::from_str(&new_id()).is_ok() && new_id() != new_id());
    }
}
