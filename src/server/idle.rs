//! What a connection does: its requests, and how long it has had none.

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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests of a connection that are answered, and when the last one was.
#[derive(Debug)]
pub(super) struct Activity {
    in_flight: AtomicUsize,
    since: Mutex<Instant>,
}

/// A service that tells a connection's activity, and answers as many requests as there are places.
#[derive(Clone, Debug)]
pub(super) struct Watched<S> {
    service: S,
    activity: Arc<Activity>,
    places: Arc<Semaphore>,
}

/// A request that is answered, until this is dropped.
struct Working(Arc<Activity>);

/// A request that has a place among those of all connections.
struct Placed {
    _place: Option<OwnedSemaphorePermit>,
    _working: Working,
}

/// The body of an answer; the request is answered when all of it is taken.
struct Answering {
    body: Body,
    _placed: Placed,
}

// === impl Activity ===

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { in_flight: AtomicUsize::new(0), since: Mutex::new(Instant::now()) })
    }

    pub(super) fn watch<S>(self: &Arc<Self>, service: S, places: Arc<Semaphore>) -> Watched<S> {
        Watched { service, activity: Arc::clone(self), places }
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
    R: Send + 'static,
    S: Service<R, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn call(&self, request: R) -> Self::Future {
        self.activity.in_flight.fetch_add(1, Ordering::SeqCst);
        let working = Working(Arc::clone(&self.activity));
        let (service, places) = (self.service.clone(), Arc::clone(&self.places));
        Box::pin(async move {
            // the semaphore is never closed
            let placed = Placed { _place: places.acquire_owned().await.ok(), _working: working };
            let answer = service.call(request).await?;
            Ok(answer.map(|body| Body::new(Answering { body, _placed: placed })))
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

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;
    use hyper::service::service_fn;
    use std::convert::Infallible;

    async fn answer(_request: Request<Body>) -> Result<Response<Body>, Infallible> {
        Ok(Response::new(Body::from("answer")))
    }

    #[tokio::test]
    async fn an_answer_that_is_not_taken_keeps_its_place_and_its_connection_busy() {
        let activity = Activity::new();
        let limit = Duration::from_millis(50);
        let service = activity.watch(service_fn(answer), Arc::new(Semaphore::new(1)));
        let first = service.call(Request::new(Body::empty())).await.unwrap();
        let mut second = tokio::spawn(service.call(Request::new(Body::empty())));
        let early = tokio::time::timeout(2 * limit, &mut second).await;
        assert!(early.is_err(), "the only place is taken");
        let early = tokio::time::timeout(4 * limit, activity.idle(limit)).await;
        assert!(early.is_err(), "a request waits, another is answered");
        drop(first);
        drop(second.await.unwrap().unwrap());
        activity.idle(limit).await;
    }
}
