//! TLS with a certificate that may be replaced while the server runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use super::Metrics;
use super::files::Files;

/// What connections may speak, as their handshake names it; the first is preferred.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
const HTTP2: &[u8] = b"h2";

/// A certificate with its private key, as their files have them at this moment.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    config: ArcSwap<ServerConfig>,
}

// === impl Tls ===

impl Tls {
    /// Reads a certificate chain and its private key, both in PEM.
    ///
    /// # Errors
    /// If a file cannot be read, holds no such thing, or the two do not belong together; the text names the file.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, String> {
        let files = Files::open(vec![certificate.to_owned(), key.to_owned()])?;
        let config = config(files.contents(), files.paths())?;
        Ok(Self { files, config: ArcSwap::from_pointee(config) })
    }

    /// Reads the files again whenever they change, for as long as the runtime runs. Files that are wrong leave the
    /// certificate that is known; connections that are open keep theirs.
    pub fn follow(self: &Arc<Self>, metrics: &Arc<Metrics>) {
        let (tls, paths) = (Arc::clone(self), self.files.paths().to_vec());
        self.files.follow("certificate", metrics, move |contents| {
            tls.config.store(Arc::new(config(contents, &paths)?));
            tracing::info!("the certificate was read again");
            Ok(())
        });
    }

    /// Shakes hands.
    pub(super) async fn accept<S>(&self, stream: S) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.config.load_full()).accept(stream).await
    }

    /// Whether a connection's handshake chose HTTP/2.
    pub(super) fn is_http2<S>(stream: &TlsStream<S>) -> bool {
        stream.get_ref().1.alpn_protocol() == Some(HTTP2)
    }
}

fn config(contents: &[Vec<u8>], paths: &[PathBuf]) -> Result<ServerConfig, String> {
    let ([certificate, key], [certificate_path, key_path]) = (contents, paths) else {
        return Err("a certificate and its key are two files".into());
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{}: no certificate in PEM: {error}", certificate_path.display()))?;
    if chain.is_empty() {
        return Err(format!("{}: holds no certificate in PEM", certificate_path.display()));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| format!("{}: no private key in PEM: {error}", key_path.display()))?;
    let unusable =
        |error| format!("{} and {} cannot be used: {error}", certificate_path.display(), key_path.display());
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}
