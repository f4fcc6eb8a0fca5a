//! How long a connection has had nothing to do.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use hyper::Response;
use hyper::body::{Frame, SizeHint};
use hyper::service::Service;

/// Requests of a connection that are answered, and when the last one was.
#[derive(Debug)]
pub(super) struct Activity {
    in_flight: AtomicUsize,
    since: Mutex<Instant>,
}

/// A service that tells a connection's activity.
#[derive(Clone, Debug)]
pub(super) struct Watched<S> {
    service: S,
    activity: Arc<Activity>,
}

/// A request that is answered, until this is dropped.
struct Working(Arc<Activity>);

/// The body of an answer; the request is answered when all of it is taken.
struct Answering {
    body: Body,
    _working: Working,
}

// === impl Activity ===

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { in_flight: AtomicUsize::new(0), since: Mutex::new(Instant::now()) })
    }

    pub(super) fn watch<S>(self: &Arc<Self>, service: S) -> Watched<S> {
        Watched { service, activity: Arc::clone(self) }
    }

    /// Returns when no request was answered for so long.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let idle = if self.in_flight.load(Ordering::SeqCst) == 0 {
                self.last().elapsed()
            } else {
                Duration::ZERO
            };
            if idle >= limit {
                return;
            }
            tokio::time::sleep(limit - idle).await;
        }
    }

    fn last(&self) -> Instant {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Watched ===

impl<R, S> Service<R> for Watched<S>
where
    S: Service<R, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn call(&self, request: R) -> Self::Future {
        self.activity.in_flight.fetch_add(1, Ordering::SeqCst);
        let working = Working(Arc::clone(&self.activity));
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| Body::new(Answering { body, _working: working })))
        })
    }
}

// === impl Answering ===

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        *self.0.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}
