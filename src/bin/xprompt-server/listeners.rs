//! Where the server listens, and who may come in: checked before the model is loaded.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use xprompt::server::{Keys, Listener, Service, Tls};

use crate::arguments::Arguments;

/// Open listeners, with what guards them.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) listeners: Vec<Listener>,
    keys: Option<Arc<Keys>>,
    tls: Option<Arc<Tls>>,
}

/// Opens what the settings ask for.
pub(crate) async fn open(arguments: &Arguments) -> anyhow::Result<Doors> {
    let keys = arguments.keys.as_deref().map(Keys::open).transpose().map_err(anyhow::Error::msg)?;
    let tls = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::open(certificate, key).map_err(anyhow::Error::msg)?),
        _ => None,
    };
    let (keys, tls) = (keys.map(Arc::new), tls.map(Arc::new));
    let mut listeners = Vec::new();
    let asked = [("--listen", Some(&arguments.listen)), ("--admin-listen", arguments.admin_listen.as_ref())];
    for (flag, address) in asked {
        let Some(address) = address else { continue };
        let socket = bind(flag, address).await?;
        let is_open = keys.is_none() && !socket.local_addr()?.ip().is_loopback();
        if is_open && !arguments.no_auth {
            bail!(
                "{flag} {address} can be reached from other machines, and there are no keys: name a file of keys \
                 with --keys (`xprompt-server keygen --help` says how to make one), or let everybody in with --no-auth"
            );
        }
        if is_open {
            tracing::warn!(address, "everybody who reaches this address may call the server: --no-auth");
        }
        let listener = Listener::new(socket);
        let listener = if flag == "--listen" && arguments.admin_listen.is_some() {
            listener.without_admin()
        } else {
            listener
        };
        listeners.push(match &tls {
            Some(tls) => listener.with_tls(Arc::clone(tls)),
            None => listener,
        });
    }
    if keys.is_none() && !arguments.no_auth {
        tracing::info!(
            "there are no keys: every program on this machine may call the server and change what it serves"
        );
    }
    Ok(Doors { listeners, keys, tls })
}

async fn bind(flag: &str, address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; free it, or choose another with {flag}"))
}

// === impl Doors ===

impl Doors {
    /// Gives the service its keys, and follows the files of keys and certificates from now on.
    pub(crate) fn guard(&self, service: Service) -> Service {
        if let Some(tls) = &self.tls {
            tls.follow(service.metrics());
        }
        let Some(keys) = &self.keys else { return service };
        keys.follow(service.metrics());
        tracing::info!(keys = keys.count(), "calls need a key");
        service.with_keys(Arc::clone(keys))
    }
}
