//! A model from the hub, or from the cache.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::cache::{Cache, is_commit};
use super::client::{Client, Info};
use super::download::{Download, Tell};
use super::{Hub, HubError, Repository};
use crate::t5::{Checkpoint, Config};
use crate::task::Tokenizer;

/// What happens while a model is fetched.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A file has so many bytes, of so many if that is known.
    Bytes {
        /// The file.
        file: &'a str,
        /// Bytes that are there.
        done: u64,
        /// Bytes of the whole.
        size: Option<u64>,
    },
    /// The file is whole and in its place.
    Done {
        /// The file.
        file: &'a str,
    },
    /// A download broke off, and goes on.
    Again {
        /// The file.
        file: &'a str,
        /// What broke it.
        reason: &'a str,
    },
    /// Another process downloads the file; it is waited for.
    Waiting {
        /// The file.
        file: &'a str,
    },
    /// The hub does not answer, and the cache has what it had last.
    Cached {
        /// Why there is no answer.
        reason: &'a HubError,
    },
}

/// Files that are needed before any weight, if the model has them.
const SMALL: [&str; 3] = ["config.json", "tokenizer.json", "tokenizer_config.json"];
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

// === impl Hub ===

impl Hub {
    /// The folder of a model, fetched as far as the cache lacks it. If the hub cannot be reached, the revision that the
    /// cache has.
    ///
    /// # Errors
    /// If the model is not to be had, or is not one that can be used.
    pub fn fetch(&self, repository: &Repository, tell: Tell<'_>) -> Result<PathBuf, HubError> {
        let cache = Cache::new(&self.cache, repository);
        let known = match cache.commit(repository.revision()) {
            Some(commit) => {
                let folder = cache.snapshot(&commit);
                usable(&folder).map(|()| folder)
            }
            None => Err("it was never fetched".to_owned()),
        };
        if self.offline {
            let what = repository.to_string();
            return known.map_err(|reason| HubError::Offline { what, cache: self.cache.clone(), reason });
        }
        // a commit never changes
        if is_commit(repository.revision())
            && let Ok(folder) = &known
        {
            return Ok(folder.clone());
        }
        let fetching = Fetching { client: Client::new(self, repository)?, cache };
        match (on_a_thread(&fetching, tell), known) {
            (Err(error @ HubError::Unreachable { .. }), Ok(folder)) => {
                tell(Event::Cached { reason: &error });
                Ok(folder)
            }
            (fetched, _) => fetched,
        }
    }
}

/// Runs on a thread of its own, because the caller's may drive futures already.
fn on_a_thread(fetching: &Fetching<'_>, tell: Tell<'_>) -> Result<PathBuf, HubError> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            fetching.client.unreachable(&fetching.client.repository.to_string(), error.to_string())
        })?;
        runtime.block_on(fetching.run(tell))
    };
    let joined = std::thread::scope(|scope| scope.spawn(run).join());
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What is wrong with a model's folder, if something is.
fn usable(folder: &Path) -> Result<(), String> {
    readable(folder)?;
    Checkpoint::open(folder).map(drop).map_err(|error| error.to_string())
}

/// The same, but for the weights.
fn readable(folder: &Path) -> Result<(), String> {
    let config = Config::read(folder).map_err(|error| error.to_string())?;
    let tokenizer = Tokenizer::open(folder, config.vocab_size, config.eos_token_id);
    tokenizer.map(drop).map_err(|error| error.to_string())
}

struct Fetching<'a> {
    client: Client<'a>,
    cache: Cache,
}

// === impl Fetching ===

impl Fetching<'_> {
    async fn run(&self, tell: Tell<'_>) -> Result<PathBuf, HubError> {
        let repository = self.client.repository;
        let unusable = |reason| HubError::Unusable { what: repository.to_string(), reason };
        let info = self.client.info().await?;
        let folder = self.cache.snapshot(&info.sha);
        self.check_contents(&info)?;
        for file in SMALL.into_iter().filter(|file| info.has(file)) {
            self.file(&info.sha, file, tell).await?;
        }
        // before gigabytes of a model that cannot be used
        readable(&folder).map_err(unusable)?;
        if info.has(SINGLE) {
            self.file(&info.sha, SINGLE, tell).await?;
        } else {
            self.file(&info.sha, INDEX, tell).await?;
            for shard in self.shards(&folder.join(INDEX), &info)? {
                self.file(&info.sha, &shard, tell).await?;
            }
        }
        usable(&folder).map_err(unusable)?;
        self.cache.set_commit(repository.revision(), &info.sha)?;
        Ok(folder)
    }

    /// Refuses a repository that lacks what cannot be made of the rest.
    fn check_contents(&self, info: &Info) -> Result<(), HubError> {
        let repository = self.client.repository;
        let lacks = |reason| HubError::Lacks { what: repository.to_string(), reason };
        if !info.has("config.json") {
            return Err(lacks("there is no config.json, so it is no model of transformers".into()));
        }
        let slow = ["spiece.model", "vocab.json"].into_iter().find(|file| info.has(file));
        let missing = if !info.has(SINGLE) && !info.has(INDEX) {
            SINGLE
        } else if let Some(slow) = slow.filter(|_| !info.has("tokenizer.json")) {
            slow
        } else {
            return Ok(());
        };
        let what = if missing == SINGLE {
            "there are no safetensors, and other weights are not read".to_owned()
        } else {
            format!("there is no tokenizer.json, and {missing} is not read")
        };
        let (name, revision) = (repository.name(), repository.revision());
        let folder = name.rsplit('/').next().unwrap_or(name);
        Err(lacks(format!(
            "{what}. The hub's own conversion may be among its pull requests: fetch it with --revision refs/pr/N. Or \
             convert it once: python3 -m pip install torch transformers sentencepiece protobuf, then python3 -c \"from \
             transformers import AutoModelForSeq2SeqLM as M, AutoTokenizer as T; n, r, d = '{name}', '{revision}', \
             '{folder}'; M.from_pretrained(n, revision=r).save_pretrained(d); T.from_pretrained(n, \
             revision=r).save_pretrained(d)\", and name --model {folder}"
        )))
    }

    /// The files that the index names.
    fn shards(&self, index: &Path, info: &Info) -> Result<BTreeSet<String>, HubError> {
        let lacks = |reason| HubError::Lacks { what: self.client.what(INDEX), reason };
        let text = std::fs::read_to_string(index)
            .map_err(|source| HubError::Cache { path: index.to_owned(), source })?;
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| lacks(error.to_string()))?;
        let map = json["weight_map"].as_object().ok_or_else(|| lacks("there is no weight_map".into()))?;
        let shards: BTreeSet<String> =
            map.values().filter_map(serde_json::Value::as_str).map(str::to_owned).collect();
        match shards.iter().find(|shard| shard.contains(['/', '\\']) || !info.has(shard)) {
            Some(shard) => Err(lacks(format!("it names {shard}, which the revision does not have"))),
            None => Ok(shards),
        }
    }

    /// Fetches a file, unless it is there.
    async fn file(&self, commit: &str, file: &str, tell: Tell<'_>) -> Result<(), HubError> {
        if self.cache.snapshot(commit).join(file).exists() {
            return Ok(());
        }
        let described = self.client.describe(commit, file).await?;
        let blob = self.cache.blob(&described.etag);
        let lock = self.cache.lock(&described.etag, || tell(Event::Waiting { file }))?;
        if !blob.exists() {
            let download = Download { client: &self.client, commit, file, described: &described };
            download.to(&blob, tell).await?;
        }
        drop(lock);
        self.cache.link(commit, file, &described.etag)?;
        tell(Event::Done { file });
        Ok(())
    }
}
