//! Accepting connections, within limits and until told to stop.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::{Service, app};

/// Bytes of a request's head, and of a body that is read ahead.
const BUFFER: usize = 64 << 10;

/// How long to wait when the system has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long connections get to take the last answers once no call is in flight.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves until `stop`, then drains: readiness turns off and new calls are refused, calls in flight are answered
/// (within the limit for draining), and the connections are closed.
pub async fn serve(listener: TcpListener, service: Arc<Service>, stop: impl Future<Output = ()>) {
    let connections = GracefulShutdown::new();
    let drained = async {
        stop.await;
        tracing::info!(in_flight = service.traffic.in_flight(), "draining");
        let left = service.drain().await;
        if left > 0 {
            tracing::warn!(left, "the limit for draining passed; the calls that are left are cut off");
        }
    };
    tokio::select! {
        () = accept(&listener, &service, &connections) => {}
        () = drained => {}
    }
    drop(listener);
    if tokio::time::timeout(LAST_WORDS, connections.shutdown()).await.is_err() {
        tracing::warn!("connections were cut that did not take their answers");
    }
}

/// Accepts connections for ever.
async fn accept(listener: &TcpListener, service: &Arc<Service>, connections: &GracefulShutdown) {
    let slots = Arc::new(Semaphore::new(service.limits.connections));
    let router = app(Arc::clone(service));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(service.limits.read_time).max_buf_size(BUFFER);
    loop {
        // a connection over the limit waits in the system's queue until one is closed
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = next(listener).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        let connection =
            http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = connections.watch(connection);
        let metrics = Arc::clone(&service.metrics);
        tokio::spawn(async move {
            let open = metrics.connection();
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            drop((open, slot));
        });
    }
}

async fn next(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "connections cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether only this connection failed.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
