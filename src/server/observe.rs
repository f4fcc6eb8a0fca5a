//! Around every request: its id, its metrics, its line in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;

use super::{Metrics, Service};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LONGEST_ID: usize = 128;

/// The status that stands for a client that left before its answer.
const CLIENT_LEFT: u16 = 499;

/// A request being answered; it is counted when this is dropped, also if the client left.
struct Observed<'a> {
    metrics: &'a Metrics,
    route: String,
    method: Method,
    id: HeaderValue,
    start: Instant,
    status: u16,
}

pub(super) async fn observe(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
    let given = request.headers().get(&REQUEST_ID).filter(|id| id.len() <= LONGEST_ID && id.to_str().is_ok());
    let id = given.cloned().unwrap_or_else(new_id);
    service.metrics.request_began();
    let mut observed = Observed {
        metrics: &service.metrics,
        route: route.to_owned(),
        method: request.method().clone(),
        id: id.clone(),
        start: Instant::now(),
        status: CLIENT_LEFT,
    };
    let mut response = next.run(request).await;
    observed.status = response.status().as_u16();
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// An id that no other request has, of this process or another.
fn new_id() -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static FIRST: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        now ^ u64::from(std::process::id()) << 48
    });
    let id = format!("{:016x}-{:x}", *FIRST, NEXT.fetch_add(1, Ordering::Relaxed));
    HeaderValue::from_str(&id).expect("invariant: hexadecimal digits are a header's value")
}

// === impl Observed ===

impl Drop for Observed<'_> {
    fn drop(&mut self) {
        let elapsed = self.start.elapsed();
        self.metrics.request_ended(&self.route, self.status, elapsed);
        tracing::debug!(
            id = self.id.to_str().unwrap_or_default(),
            method = %self.method,
            route = self.route,
            status = self.status,
            milliseconds = elapsed.as_secs_f64() * 1e3,
            "request"
        );
    }
}
