//! The hub's protocol: what a revision is, what a file is, and its bytes.

use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, LOCATION, RANGE};
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::cache::is_commit;
use super::{Hub, HubError, Repository};

/// Tries of a request that gets no answer, or one that says "later".
const TRIES: u32 = 5;
const CONNECT: Duration = Duration::from_secs(10);
/// The longest silence in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(60);
const REDIRECTS: usize = 5;

/// A hub as one repository is fetched from it.
#[derive(Debug)]
pub(super) struct Client<'a> {
    pub(super) hub: &'a Hub,
    pub(super) repository: &'a Repository,
    /// Follows to wherever the bytes are.
    following: reqwest::Client,
    /// Stays at the hub.
    staying: reqwest::Client,
}

/// What a revision is.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    /// The commit.
    pub(super) sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
}

/// What a file is.
#[derive(Debug)]
pub(super) struct Described {
    /// The name of its bytes: their SHA-256, or git's hash.
    pub(super) etag: String,
    pub(super) size: Option<u64>,
}

// === impl Info ===

impl Info {
    pub(super) fn has(&self, file: &str) -> bool {
        self.siblings.iter().any(|sibling| sibling.rfilename == file)
    }
}

// === impl Client ===

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a Hub, repository: &'a Repository) -> Result<Self, HubError> {
        let client = |policy| {
            reqwest::Client::builder()
                .user_agent(concat!("xprompt/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT)
                .read_timeout(SILENCE)
                .redirect(policy)
                .build()
                .map_err(|error| HubError::Unreachable {
                    what: repository.to_string(),
                    endpoint: hub.endpoint.clone(),
                    reason: reason(&error),
                })
        };
        let (following, staying) = (client(Policy::limited(REDIRECTS))?, client(Policy::none())?);
        Ok(Self { hub, repository, following, staying })
    }

    /// What the revision is.
    pub(super) async fn info(&self) -> Result<Info, HubError> {
        let what = self.repository.to_string();
        let revision = encode(self.repository.revision(), "");
        let url = format!("{}/api/models/{}/revision/{revision}", self.hub.endpoint, self.repository.name());
        let response = self.ask(&what, || self.following.get(&url)).await?;
        let info: Info = match response.text().await {
            Ok(text) => serde_json::from_str(&text).map_err(|error| self.odd(&what, error.to_string()))?,
            Err(error) => return Err(self.unreachable(&what, reason(&error))),
        };
        if is_commit(&info.sha) {
            return Ok(info);
        }
        Err(self.odd(&what, format!("the commit is {:?}", info.sha)))
    }

    /// What a commit's file is.
    pub(super) async fn describe(&self, commit: &str, file: &str) -> Result<Described, HubError> {
        let what = self.what(file);
        let mut url = self.resolve(commit, file);
        let mut left = REDIRECTS;
        let response = loop {
            let head = || self.staying.head(&url).header(ACCEPT_ENCODING, "identity");
            let response = self.ask(&what, head).await?;
            // a renamed model is elsewhere at the hub; large files are elsewhere, and the hub says what they are
            let Some(next) = inner_redirect(&response) else { break response };
            if left == 0 {
                return Err(self.odd(&what, "it redirects without an end".into()));
            }
            left -= 1;
            url = next.into();
        };
        let headers = response.headers();
        let etag = text(headers, "x-linked-etag").or_else(|| text(headers, ETAG.as_str()));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned());
        let is_name = |etag: &String| {
            (1..=128).contains(&etag.len())
                && etag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let Some(etag) = etag.filter(is_name) else {
            return Err(self.odd(&what, "there is no ETag that names the file's bytes".into()));
        };
        let length = || text(headers, CONTENT_LENGTH.as_str()).filter(|_| response.status().is_success());
        let size = text(headers, "x-linked-size").or_else(length).and_then(|size| size.parse().ok());
        Ok(Described { etag, size })
    }

    /// The bytes of a commit's file, from one on.
    pub(super) async fn bytes(&self, commit: &str, file: &str, from: u64) -> Result<Response, HubError> {
        let url = self.resolve(commit, file);
        let get = || {
            let get = self.following.get(&url).header(ACCEPT_ENCODING, "identity");
            if from > 0 { get.header(RANGE, format!("bytes={from}-")) } else { get }
        };
        self.ask(&self.what(file), get).await
    }

    fn resolve(&self, commit: &str, file: &str) -> String {
        let name = self.repository.name();
        format!("{}/{name}/resolve/{commit}/{}", self.hub.endpoint, encode(file, "/"))
    }

    /// Asks again after silence, and after answers that say "later".
    async fn ask(&self, what: &str, make: impl Fn() -> RequestBuilder) -> Result<Response, HubError> {
        let mut tried = 1;
        loop {
            let mut request = make();
            if let Some(token) = &self.hub.token {
                request = request.bearer_auth(token);
            }
            let sent = request.send().await;
            let later = match &sent {
                Ok(response) => {
                    response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS
                }
                Err(error) => !error.is_builder(),
            };
            if later && tried < TRIES {
                self.pause(tried).await;
                tried += 1;
                continue;
            }
            return match sent {
                Err(error) => Err(self.unreachable(what, reason(&error))),
                Ok(response) if response.status() == StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
                Ok(response)
                    if response.status().is_client_error() || response.status().is_server_error() =>
                {
                    Err(self.refused(what, &response))
                }
                Ok(response) => Ok(response),
            };
        }
    }

    /// Waits, longer with each try.
    pub(super) async fn pause(&self, tried: u32) {
        tokio::time::sleep(self.hub.pause * 2_u32.pow(tried.min(5) - 1)).await;
    }

    pub(super) fn what(&self, file: &str) -> String {
        format!("{}, {file}", self.repository)
    }

    pub(super) fn odd(&self, what: &str, reason: String) -> HubError {
        HubError::Answer { what: what.to_owned(), endpoint: self.hub.endpoint.clone(), reason }
    }

    pub(super) fn unreachable(&self, what: &str, reason: String) -> HubError {
        HubError::Unreachable { what: what.to_owned(), endpoint: self.hub.endpoint.clone(), reason }
    }

    fn refused(&self, what: &str, response: &Response) -> HubError {
        let status = response.status();
        let page = format!("{}/{}", self.hub.endpoint, self.repository.name());
        let remedy = match (text(response.headers(), "x-error-code").as_deref(), status.as_u16()) {
            (Some("GatedRepo"), _) => format!(
                "the model is gated; accept its conditions at {page}, and set HF_TOKEN to a token of that account"
            ),
            (Some("RevisionNotFound"), _) => {
                format!("the model has no such branch, tag or commit; {page} shows those that it has")
            }
            (Some("EntryNotFound"), _) => "the revision has no such file".into(),
            (Some("RepoNotFound"), _) | (None, 401 | 404) if self.hub.token.is_none() => {
                "there is no such model, or only for some; look at the name, or set HF_TOKEN".into()
            }
            (Some("RepoNotFound"), _) | (None, 404) => {
                "there is no such model for the account of HF_TOKEN; look at the name".into()
            }
            (_, 401 | 403) => {
                format!("HF_TOKEN is not a token that may read it; {page} says what it takes")
            }
            (_, 429) => "too many requests; wait a while, or set HF_TOKEN".into(),
            _ => format!("{}; try again later", status.canonical_reason().unwrap_or("no known status")),
        };
        HubError::Refused { what: what.to_owned(), status: status.as_u16(), remedy }
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// Where the hub sends to, if that is the hub.
fn inner_redirect(response: &Response) -> Option<Url> {
    let location =
        text(response.headers(), LOCATION.as_str()).filter(|_| response.status().is_redirection())?;
    let next = response.url().join(&location).ok()?;
    let says_what_it_is = response.headers().contains_key("x-linked-etag");
    (next.origin() == response.url().origin() && !says_what_it_is).then_some(next)
}

/// An error with its causes, without the address, which may have a signature in it.
pub(super) fn reason(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}{}{error}", if text.is_empty() { "" } else { ": " });
        cause = error.source();
    }
    if text.is_empty() {
        if error.is_timeout() { "it is silent".into() } else { "no answer".into() }
    } else {
        text
    }
}

/// A part of an address; letters, digits and `kept` stay as they are.
fn encode(part: &str, kept: &str) -> String {
    let byte = |byte: u8| {
        let c = char::from(byte);
        if byte.is_ascii_alphanumeric() || "-_.".contains(c) || kept.contains(c) {
            c.to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    part.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_no_characters_that_mean_something_else() {
        assert_eq!(encode("refs/pr/3", ""), "refs%2Fpr%2F3");
        assert_eq!(encode("a b/ü.json", "/"), "a%20b/%C3%BC.json");
    }
}
