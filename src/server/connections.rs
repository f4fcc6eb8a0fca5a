//! Accepting connections, within limits and until told to stop.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};

use super::idle::{Activity, Watched};
use super::timed::Timed;
use super::{Listener, Service, Tls};

/// Bytes of a request's head, and of a body that is read ahead.
const BUFFER: usize = 64 << 10;

/// Requests at once on a connection that takes several, and bytes of their heads: all connections can have so many.
const MAX_STREAMS: u32 = 32;
const STREAM_HEAD: u32 = 16 << 10;

/// How long to wait when the system has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long connections get to take the last answers once no call is in flight.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a connection needs of its server.
#[derive(Clone)]
struct Host {
    service: Arc<Service>,
    router: Router,
    tls: Option<Arc<Tls>>,
    /// Requests that may be answered at once: as many as connections, also if one has several.
    places: Arc<Semaphore>,
    /// True when connections are to end.
    closing: watch::Receiver<bool>,
    /// Open as long as a connection is.
    open: mpsc::Sender<()>,
}

/// A connection that can be asked to end after what it is doing.
trait Conversation: Future<Output = hyper::Result<()>> {
    fn end(self: Pin<&mut Self>);
}

/// Serves until `stop`, then drains: readiness turns off and new calls are refused, calls in flight are answered
/// (within the limit for draining), and the connections are closed.
pub async fn serve(listeners: Vec<Listener>, service: Arc<Service>, stop: impl Future<Output = ()>) {
    let (close, closing) = watch::channel(false);
    let (open, mut all_closed) = mpsc::channel(1);
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let host = Host {
                service: Arc::clone(&service),
                router: listener.router(&service),
                tls: listener.tls.clone(),
                places: Arc::new(Semaphore::new(service.limits.connections)),
                closing: closing.clone(),
                open: open.clone(),
            };
            Accepting(tokio::spawn(accept(listener.socket, host)))
        })
        .collect();
    drop(open);
    tokio::select! {
        () = stop => {}
        () = beat(&service) => {}
    }
    tracing::info!(in_flight = service.in_flight(), "draining");
    let left = service.drain().await;
    if left > 0 {
        tracing::warn!(left, "the limit for draining passed; the calls that are left are cut off");
    }
    drop(accepting);
    close.send_replace(true);
    if tokio::time::timeout(LAST_WORDS, all_closed.recv()).await.is_err() {
        tracing::warn!("connections were cut that did not take their answers");
    }
}

/// Makes the trial passes that readiness depends on, if there are any.
async fn beat(service: &Service) {
    match &service.pulse {
        Some(pulse) => pulse.beat(service).await,
        None => std::future::pending().await,
    }
}

/// A listener at work, until it is dropped.
struct Accepting(tokio::task::JoinHandle<()>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Accepts connections for ever.
async fn accept(socket: TcpListener, host: Host) {
    let slots = Arc::new(Semaphore::new(host.service.limits.connections));
    loop {
        // a connection over the limit waits in the system's queue until one is closed
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let stream = next(&socket).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        let host = host.clone();
        tokio::spawn(async move {
            let counted = host.service.metrics.connection();
            host.welcome(stream).await;
            drop((counted, slot));
        });
    }
}

async fn next(socket: &TcpListener) -> TcpStream {
    loop {
        match socket.accept().await {
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

// === impl Host ===

impl Host {
    /// Serves a connection to its end.
    async fn welcome(self, stream: TcpStream) {
        let limit = self.service.limits.read_time;
        let stream = Timed::new(stream, limit);
        let Some(tls) = self.tls.clone() else { return self.speak(stream, false).await };
        let shaken = tokio::time::timeout(limit, tls.accept(stream)).await;
        match shaken.unwrap_or_else(|late| Err(io::Error::other(late))) {
            Ok(stream) => {
                let is_http2 = Tls::is_http2(&stream);
                self.speak(stream, is_http2).await;
            }
            Err(error) => {
                self.service.metrics.handshake_failed();
                tracing::debug!(%error, "a connection did not come to speak TLS");
            }
        }
    }

    async fn speak<S>(self, stream: S, is_http2: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (stream, limit) = (TokioIo::new(stream), self.service.limits.read_time);
        let activity = Activity::new();
        let service = activity.watch(TowerToHyperService::new(self.router.clone()), Arc::clone(&self.places));
        if is_http2 {
            let mut http = http2::Builder::new(TokioExecutor::new());
            http.timer(TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(STREAM_HEAD)
                .keep_alive_interval(limit)
                .keep_alive_timeout(limit);
            self.converse(http.serve_connection(stream, service), &activity).await;
        } else {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(limit)
                .max_header_size(BUFFER)
                .max_buf_size(BUFFER);
            self.converse(http.serve_connection(stream, service), &activity).await;
        }
    }

    async fn converse(mut self, conversation: impl Conversation, activity: &Activity) {
        let limit = self.service.limits.read_time;
        let mut conversation = pin!(conversation);
        let ended = tokio::select! {
            ended = &mut conversation => Some(ended),
            _ = self.closing.wait_for(|&closing| closing) => None,
            () = activity.idle(limit) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                conversation.as_mut().end();
                tokio::select! {
                    ended = &mut conversation => ended,
                    () = activity.idle(2 * limit) => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
        drop(self.open);
    }
}

type Served = Watched<TowerToHyperService<Router>>;

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Conversation for http1::Connection<TokioIo<S>, Served> {
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Conversation
    for http2::Connection<TokioIo<S>, Served, TokioExecutor>
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
