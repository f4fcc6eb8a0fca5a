//! A server that speaks the hub's protocol, and fails on request.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong, once for each.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The connection ends in the middle of a file, so many bytes after the first that was asked for.
    BreakOff { file: &'static str, after: usize },
    /// A bit of a file is another.
    Flip { file: &'static str },
    /// More bytes come than were said.
    Longer { file: &'static str },
    /// Addresses with this part are refused.
    Refuse { part: &'static str, status: u16, code: &'static str },
    /// A range is answered with the whole file.
    NoRanges,
    /// Large files are at another host, for all requests.
    Elsewhere,
}

/// The running server.
pub(super) struct FakeHub {
    shared: Arc<Shared>,
    address: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    name: String,
    files: BTreeMap<String, Vec<u8>>,
    faults: Mutex<Vec<Fault>>,
    requests: Mutex<Vec<String>>,
    ranges: Mutex<Vec<String>>,
    port: u16,
}

/// Files of this size and more are large: their ETag is a SHA-256 and not git's hash.
const LARGE: usize = 100_000;

// === impl FakeHub ===

impl FakeHub {
    pub(super) fn start(name: &str, files: Vec<(String, Vec<u8>)>, faults: Vec<Fault>) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            files: files.into_iter().collect(),
            faults: Mutex::new(faults),
            requests: Mutex::default(),
            ranges: Mutex::default(),
            port,
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    served = axum::serve(listener, app) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        let address = format!("http://127.0.0.1:{port}");
        Self { shared, address, stop: Some(stop), thread: Some(thread) }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Method, path and who asks.
    pub(super) fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The ranges that were asked for.
    pub(super) fn ranges(&self) -> Vec<String> {
        self.shared.ranges.lock().unwrap().clone()
    }

    pub(super) fn etag(&self, file: &str) -> String {
        self.shared.etag(file)
    }

    pub(super) fn stop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.stop();
    }
}

// === impl Shared ===

impl Shared {
    /// The first fault of a kind, which is used up.
    fn fault<T>(&self, wanted: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let mut faults = self.faults.lock().unwrap();
        let at = faults.iter().position(|fault| wanted(fault).is_some())?;
        wanted(&faults.remove(at))
    }

    fn etag(&self, file: &str) -> String {
        let bytes = &self.files[file];
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if bytes.len() >= LARGE {
            return hex(&Sha256::digest(bytes));
        }
        let mut hash = sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
        hash.update(bytes);
        hex(&hash.finalize())
    }

    fn is_elsewhere(&self) -> bool {
        self.faults.lock().unwrap().iter().any(|fault| matches!(fault, Fault::Elsewhere))
    }

    fn respond(&self, request: &Request) -> Response {
        let path = request.uri().path().to_owned();
        let refused = self.fault(|fault| match *fault {
            Fault::Refuse { part, status, code } if path.contains(part) => Some((status, code)),
            _ => None,
        });
        if let Some((status, code)) = refused {
            let status = StatusCode::from_u16(status).unwrap();
            let code = Some(("x-error-code", code)).filter(|(_, code)| !code.is_empty());
            return code.map_or_else(|| status.into_response(), |code| (status, [code]).into_response());
        }
        if path.starts_with(&format!("/api/models/{}/revision/", self.name)) {
            let siblings: Vec<_> = self.files.keys().map(|name| json!({"rfilename": name})).collect();
            let info = json!({"id": self.name, "sha": COMMIT, "private": false, "siblings": siblings});
            return (StatusCode::OK, info.to_string()).into_response();
        }
        if let Some(file) = path.strip_prefix("/elsewhere/") {
            return self.file(request, file);
        }
        match path.strip_prefix(&format!("/{}/resolve/{COMMIT}/", self.name)) {
            Some(file) if self.files.contains_key(file) => self.file(request, file),
            _ => (StatusCode::NOT_FOUND, [("x-error-code", "RepoNotFound")]).into_response(),
        }
    }

    fn file(&self, request: &Request, file: &str) -> Response {
        let (whole, etag) = (&self.files[file], self.etag(file));
        let is_large = whole.len() >= LARGE;
        let mut response = Response::builder().header("x-repo-commit", COMMIT);
        if is_large && self.is_elsewhere() && !request.uri().path().starts_with("/elsewhere/") {
            response = response
                .status(StatusCode::FOUND)
                .header("x-linked-etag", format!("\"{etag}\""))
                .header("x-linked-size", whole.len())
                // another name of the same machine is another host
                .header(header::LOCATION, format!("http://localhost:{}/elsewhere/{file}", self.port));
            return response.body(Body::empty()).unwrap();
        }
        response = response.header(header::ETAG, format!("\"{etag}\""));
        if request.method() == Method::HEAD {
            return response.header(header::CONTENT_LENGTH, whole.len()).body(Body::empty()).unwrap();
        }
        let mut bytes = whole.clone();
        if self
            .fault(|fault| matches!(fault, Fault::Flip { file: other } if *other == file).then_some(()))
            .is_some()
        {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        if self
            .fault(|fault| matches!(fault, Fault::Longer { file: other } if *other == file).then_some(()))
            .is_some()
        {
            bytes.extend(b"\n\n");
        }
        let range = request.headers().get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
        if let Some(range) = range {
            self.ranges.lock().unwrap().push(range.clone());
            if self.fault(|fault| matches!(fault, Fault::NoRanges).then_some(())).is_none() {
                let from: usize =
                    range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
                response = response.status(StatusCode::PARTIAL_CONTENT).header(
                    header::CONTENT_RANGE,
                    format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
                );
                bytes.drain(..from);
            }
        }
        let broken = self.fault(|fault| match *fault {
            Fault::BreakOff { file: other, after } if other == file => Some(after),
            _ => None,
        });
        response = response.header(header::CONTENT_LENGTH, bytes.len());
        let Some(after) = broken else { return response.body(Body::from(bytes)).unwrap() };
        let sent = Ok(Bytes::copy_from_slice(&bytes[..after]));
        let cut = futures_util::stream::unfold(Some(sent), |next| async {
            match next {
                Some(sent) => Some((sent, None)),
                None => {
                    // what was sent is on its way
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    Some((Err(std::io::Error::other("cut")), None))
                }
            }
        });
        response.body(Body::from_stream(cut)).unwrap()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let who = request.headers().get(header::AUTHORIZATION).map_or("nobody", |who| who.to_str().unwrap());
    let line = format!("{} {} {who}", request.method(), request.uri().path());
    shared.requests.lock().unwrap().push(line);
    shared.respond(&request)
}
