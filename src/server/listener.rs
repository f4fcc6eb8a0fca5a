//! A listening socket, and what is served on it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;

use super::{Service, Tls, app, public_app};

/// A socket with what is served on it: everything, in the clear, unless told otherwise.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: TcpListener,
    pub(super) tls: Option<Arc<Tls>>,
    admin: bool,
}

// === impl Listener ===

impl Listener {
    /// Serves every route on a socket.
    #[must_use]
    pub fn new(socket: TcpListener) -> Self {
        Self { socket, tls: None, admin: true }
    }

    /// Leaves out changes and metrics.
    #[must_use]
    pub fn without_admin(self) -> Self {
        Self { admin: false, ..self }
    }

    /// Speaks TLS.
    #[must_use]
    pub fn with_tls(self, tls: Arc<Tls>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Whether changes and metrics are served.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.admin
    }

    /// The address that it has.
    ///
    /// # Errors
    /// If the system does not know it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(super) fn router(&self, service: &Arc<Service>) -> Router {
        let service = Arc::clone(service);
        if self.admin { app(service) } else { public_app(service) }
    }
}
