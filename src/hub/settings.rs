//! Which hub, and which cache: by the variables that Python's `huggingface_hub` goes by.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A hub with its cache.
#[derive(Clone)]
pub struct Hub {
    pub(super) endpoint: String,
    pub(super) token: Option<String>,
    pub(super) cache: PathBuf,
    pub(super) offline: bool,
    /// Before the second try of a request that failed; it doubles with each.
    pub(super) pause: Duration,
}

const ENDPOINT: &str = "https://huggingface.co";
const PAUSE: Duration = Duration::from_secs(1);

// === impl Hub ===

impl Hub {
    /// By the environment: `HF_ENDPOINT`; `HF_TOKEN`, or the file that `huggingface-cli login` writes; `HF_HUB_CACHE`,
    /// `HF_HOME` or `~/.cache/huggingface`; `HF_HUB_OFFLINE`.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let path = |name: &str| variable(name).map(PathBuf::from);
        let home = path("HF_HOME").unwrap_or_else(|| {
            let caches = path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")));
            caches.unwrap_or_default().join("huggingface")
        });
        let is_on = |name: &str| {
            variable(name).is_some_and(|value| ["1", "on", "yes", "true"].contains(&&*value.to_lowercase()))
        };
        let token = || {
            let file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
            let said = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN"));
            said.or_else(|| std::fs::read_to_string(file).ok()).map(|token| token.trim().to_owned())
        };
        let token = if is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") { None } else { token() };
        Self {
            token: token.filter(|token| !token.is_empty()),
            cache: path("HF_HUB_CACHE")
                .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
                .unwrap_or_else(|| home.join("hub")),
            offline: is_on("HF_HUB_OFFLINE"),
            ..Self::new(&variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into()), Path::new(""))
        }
    }

    /// The hub at an address, with a cache in a folder and no token.
    #[must_use]
    pub fn new(endpoint: &str, cache: &Path) -> Self {
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: None,
            cache: cache.to_owned(),
            offline: false,
            pause: PAUSE,
        }
    }

    /// The same as somebody.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// The same, asked no more if it is offline: then models have to be in the cache.
    #[must_use]
    pub fn offline(self, offline: bool) -> Self {
        Self { offline: self.offline || offline, ..self }
    }

    /// The same with another pause before what failed is tried again.
    #[must_use]
    pub fn with_pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// The folder of the cache.
    #[must_use]
    pub fn cache(&self) -> &Path {
        &self.cache
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("token", &if self.token.is_some() { "(set)" } else { "(not set)" })
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .field("pause", &self.pause)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Hub {
        Hub::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        let cache = |variables: &[(&str, &str)]| hub(variables).cache.display().to_string();
        let home = ("HOME", "/home/a");
        assert_eq!(cache(&[home]), "/home/a/.cache/huggingface/hub");
        assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(cache(&[home, ("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), "/h/hub");
        assert_eq!(cache(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]), "/c");
    }

    #[test]
    fn settings_come_from_the_variables_of_python() {
        let set = hub(&[
            ("HF_ENDPOINT", "http://mirror:1/"),
            ("HF_TOKEN", "hf_secret\n"),
            ("HF_HUB_OFFLINE", "ON"),
        ]);
        assert_eq!((set.endpoint.as_str(), set.token.as_deref()), ("http://mirror:1", Some("hf_secret")));
        assert!(set.offline && !format!("{set:?}").contains("hf_secret"));
        let plain = hub(&[("HOME", "/nobody"), ("HF_HUB_OFFLINE", "0")]);
        assert_eq!((plain.endpoint.as_str(), plain.token, plain.offline), (ENDPOINT, None, false));
        let hidden = hub(&[("HF_TOKEN", "hf_secret"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]);
        assert_eq!(hidden.token, None);
    }
}
