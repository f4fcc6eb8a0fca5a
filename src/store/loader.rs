//! From a file to a task that answers: every check before anything is served.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::golden::{MAX_GOLDEN, Replayed};
use super::listing::{prompt_key, version_key};
use super::parallel;
use super::storage::{Storage, StorageError, Tag};
use crate::engine::{Engine, EngineError, InputError, ReadyTask, Reply, Request, TaskCard, TaskError};
use crate::fingerprint;
use crate::prompt::{Base, Golden, Limits, PromptError, PromptFile};
use crate::runtime::Precision;
use crate::t5::Config;
use crate::task::{Tokenizer, TokenizerError};

/// How long to wait for room in a queue that requests fill.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// Why a file is not served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error(transparent)]
    Storage(StorageError),
    /// A kept file is not what it was.
    #[error("{key} is damaged: its content is version {got}; put the version again")]
    Damaged {
        /// The file's key.
        key: String,
        /// The version of what it holds.
        got: String,
    },
    /// The file is not a usable prompt for this model.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// Its task cannot be served.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Its inputs may be longer than the server computes.
    #[error("task.max_input_tokens is {got}, the server allows {limit}; raise --max-input-tokens")]
    InputLimit {
        /// By the file.
        got: usize,
        /// The server's limit.
        limit: usize,
    },
    /// A golden example is not an input of the task.
    #[error("golden example {index}: {source}")]
    GoldenInput {
        /// Which, from 0.
        index: usize,
        /// What is wrong with it.
        source: InputError,
    },
    /// A golden example gets another probability than in training.
    #[error(
        "golden example {index}: label {label:?} gets {got:.4} here and got {want:.4} in training, in {precision} it may \
         be {tolerance} off; was the file edited, or made with another version of the model?"
    )]
    GoldenScore {
        /// Which, from 0.
        index: usize,
        /// The label.
        label: String,
        /// The probability here.
        got: f32,
        /// The probability in the file.
        want: f32,
        /// How far they may be apart.
        tolerance: f32,
        /// What is computed in.
        precision: Precision,
    },
    /// A golden example gets another text than in training.
    #[error(
        "golden example {index}: the text is {got:?} here and was {want:?} in training; was the file edited?"
    )]
    GoldenText {
        /// Which, from 0.
        index: usize,
        /// The text here.
        got: String,
        /// The text in the file.
        want: String,
    },
    /// Most golden examples get other texts than in training, in less than f32.
    #[error(
        "{others} of {texts} golden examples get other texts in {precision} than in training, such as example {index}: \
         {got:?} here and {want:?} there; was the file edited? In --precision f32 they would have to be the same"
    )]
    GoldenTexts {
        /// How many are others.
        others: usize,
        /// How many there are.
        texts: usize,
        /// What is computed in.
        precision: Precision,
        /// The first of the others, from 0.
        index: usize,
        /// The text here.
        got: String,
        /// The text in the file.
        want: String,
    },
    /// The answer to a golden example is no text.
    #[error("golden example {index}: {source}")]
    GoldenDecode {
        /// Which, from 0.
        index: usize,
        /// What the tokenizer said.
        source: TokenizerError,
    },
    /// A golden example could not be computed.
    #[error("golden example {index}: {source}")]
    Engine {
        /// Which, from 0.
        index: usize,
        /// What the engine said.
        source: EngineError,
    },
}

/// Reads, checks and tries prompt files.
#[derive(Debug)]
pub struct Loader {
    /// Computes the golden examples, in the same queue as requests.
    pub engine: Arc<Engine>,
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The model's configuration.
    pub config: Config,
    /// The model and tokenizer that prompts have to be made for.
    pub base: Base,
    /// What a file may cost.
    pub limits: Limits,
    /// Longest input that a task may take, in tokens.
    pub max_input_tokens: usize,
}

/// Where a file to load is.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// In the store, as the active version of a task.
    Active(Arc<str>),
    /// In the store, as this kept version of a task.
    Kept(Arc<str>, String),
    /// Here.
    Bytes(Arc<[u8]>),
}

/// A file to load, and the version that is served under its name.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) source: Source,
    pub(super) served: Option<String>,
}

/// What came of a file.
#[derive(Debug)]
pub(super) struct Loaded {
    /// What may be served; `None` if it is the version that is served.
    pub(super) new: Option<Arc<ReadyTask>>,
    /// Size of the file.
    pub(super) bytes: u64,
    /// The tag of what was read, if it came from the store.
    pub(super) tag: Option<Tag>,
}

/// A golden example that the engine is computing.
struct Replay<'a> {
    candidate: usize,
    index: usize,
    golden: &'a Golden,
    task: &'a ReadyTask,
    reply: oneshot::Receiver<Result<Reply, EngineError>>,
}

/// What has come of files so far.
struct Outcomes {
    loaded: Vec<Result<Loaded, LoadError>>,
    replayed: Vec<Replayed>,
}

// === impl Outcomes ===

impl Outcomes {
    fn fail(&mut self, candidate: usize, error: LoadError) {
        if self.loaded[candidate].is_ok() {
            self.loaded[candidate] = Err(error);
        }
    }
}

// === impl LoadError ===

impl LoadError {
    /// Whether there is no file any more.
    pub(super) fn is_missing_file(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_missing())
    }

    /// Whether the place of the files failed, so that nothing is known about the file.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_outage())
    }
}

impl From<StorageError> for LoadError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::TooLarge { bytes, limit, .. } => PromptError::TooLarge { bytes, limit }.into(),
            error => Self::Storage(error),
        }
    }
}

// === impl Loader ===

impl Loader {
    /// Loads files, their golden examples side by side. `None` if the engine is stopping: nothing is known then.
    pub(super) fn load(
        &self,
        storage: &dyn Storage,
        candidates: &[Candidate],
    ) -> Option<Vec<Result<Loaded, LoadError>>> {
        let loaded = parallel::map(candidates, |candidate| self.check(storage, candidate));
        let tasks: Vec<Option<Arc<ReadyTask>>> =
            loaded.iter().map(|loaded| loaded.as_ref().ok()?.new.clone()).collect();
        let mut running: VecDeque<Replay<'_>> = VecDeque::new();
        let replayed = candidates.iter().map(|_| Replayed::default()).collect();
        let mut outcomes = Outcomes { loaded, replayed };
        for (candidate, task) in tasks.iter().enumerate() {
            let Some(task) = task else { continue };
            for (index, golden) in task.manifest().golden.iter().take(MAX_GOLDEN).enumerate() {
                let text = match task.encode(&golden.input, &self.tokenizer, true) {
                    Ok((text, _)) => text,
                    Err(source) => {
                        outcomes.fail(candidate, LoadError::GoldenInput { index, source });
                        break;
                    }
                };
                while running.len() >= self.window() {
                    self.finish(&mut running, &mut outcomes)?;
                }
                let reply = loop {
                    let request = Request { task: Arc::clone(task), text: text.clone(), deadline: None };
                    match self.engine.submit(request) {
                        Ok(reply) => break reply,
                        Err(EngineError::Stopped) => return None,
                        Err(_) if running.is_empty() => std::thread::sleep(FULL_QUEUE_PAUSE),
                        Err(_) => self.finish(&mut running, &mut outcomes)?,
                    }
                };
                running.push_back(Replay { candidate, index, golden, task, reply });
            }
        }
        while !running.is_empty() {
            self.finish(&mut running, &mut outcomes)?;
        }
        let Outcomes { loaded, replayed } = outcomes;
        let precision = self.engine.precision();
        let with_verdict = loaded.into_iter().zip(replayed).map(|(loaded, replayed)| {
            let loaded = loaded?;
            replayed.verdict(precision).map(|()| loaded)
        });
        Some(with_verdict.collect())
    }

    /// The rows of a version that was checked before, for its card. Where its file stands depends on whether it is
    /// the active one, so both places are looked at.
    pub(super) fn reload(
        &self,
        storage: &dyn Storage,
        task: &str,
        card: &Arc<TaskCard>,
    ) -> Result<ReadyTask, LoadError> {
        let version = card.version();
        let check = |key: &str, bytes: &[u8]| self.check_version(key, bytes, version);
        Ok(self.find(storage, task, version, check)?.with_card(card))
    }

    /// The file of a version that was checked before.
    pub(super) fn file(
        &self,
        storage: &dyn Storage,
        task: &str,
        version: &str,
    ) -> Result<PromptFile, LoadError> {
        self.find(storage, task, version, |key, bytes| {
            is_version(key, bytes, version)?;
            Ok(PromptFile::from_bytes(bytes, &self.limits)?)
        })
    }

    /// Reads a version at either of the places where it may stand.
    fn find<T>(
        &self,
        storage: &dyn Storage,
        task: &str,
        version: &str,
        read: impl Fn(&str, &[u8]) -> Result<T, LoadError>,
    ) -> Result<T, LoadError> {
        let mut failed = None;
        for key in [prompt_key(task), version_key(task, version)] {
            let object = storage.read(&key, self.limits.bytes).map_err(LoadError::from);
            match object.and_then(|object| read(&key, &object.bytes)) {
                Ok(found) => return Ok(found),
                // an outage tells more than what was found in the other place
                Err(error) if failed.as_ref().is_none_or(|known: &LoadError| !known.is_outage()) => {
                    failed = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(failed.expect("invariant: two places were looked at"))
    }

    /// All checks that need no computing.
    fn check(&self, storage: &dyn Storage, candidate: &Candidate) -> Result<Loaded, LoadError> {
        let read = |key: &str| storage.read(key, self.limits.bytes).map_err(LoadError::from);
        let (ready, bytes, tag) = match &candidate.source {
            Source::Active(task) => {
                let object = read(&prompt_key(task))?;
                let bytes = object.bytes.len() as u64;
                let version = fingerprint::of_bytes(&object.bytes);
                if candidate.served.as_ref() == Some(&version) {
                    return Ok(Loaded { new: None, bytes, tag: Some(object.tag) });
                }
                (self.check_bytes(&object.bytes, version)?, bytes, Some(object.tag))
            }
            Source::Kept(task, version) => {
                let key = version_key(task, version);
                let object = read(&key)?;
                let bytes = object.bytes.len() as u64;
                (self.check_version(&key, &object.bytes, version)?, bytes, Some(object.tag))
            }
            Source::Bytes(bytes) => {
                if bytes.len() as u64 > self.limits.bytes {
                    let (bytes, limit) = (bytes.len() as u64, self.limits.bytes);
                    return Err(PromptError::TooLarge { bytes, limit }.into());
                }
                (self.check_bytes(bytes, fingerprint::of_bytes(bytes))?, bytes.len() as u64, None)
            }
        };
        Ok(Loaded { new: Some(Arc::new(ready)), bytes, tag })
    }

    /// Checks bytes that have to be a known version.
    fn check_version(&self, key: &str, bytes: &[u8], version: &str) -> Result<ReadyTask, LoadError> {
        is_version(key, bytes, version)?;
        self.check_bytes(bytes, version.to_owned())
    }

    fn check_bytes(&self, bytes: &[u8], version: String) -> Result<ReadyTask, LoadError> {
        let file = PromptFile::from_bytes(bytes, &self.limits)?;
        file.verify(&self.base)?;
        let (got, limit) = (file.manifest.task.max_input_tokens, self.max_input_tokens);
        if got > limit {
            return Err(LoadError::InputLimit { got, limit });
        }
        Ok(ReadyTask::new(file, version, &self.tokenizer, &self.config)?)
    }

    /// Golden examples in the queue at once: a share of it, so that loading leaves room for requests.
    fn window(&self) -> usize {
        let options = self.engine.options();
        (options.max_queue / 4).clamp(1, options.max_batch.max(1))
    }

    /// Waits for the longest-running replay. `None` if the engine is stopping.
    fn finish(&self, running: &mut VecDeque<Replay<'_>>, outcomes: &mut Outcomes) -> Option<()> {
        let Some(replay) = running.pop_front() else { return Some(()) };
        let (candidate, index) = (replay.candidate, replay.index);
        let outcome = match replay.reply.blocking_recv() {
            Ok(Ok(reply)) => outcomes.replayed[candidate].compare(
                (index, replay.golden),
                replay.task.answers(),
                &reply.answer,
                self.engine.precision(),
                &self.tokenizer,
            ),
            Ok(Err(EngineError::Stopped)) | Err(_) => return None,
            Ok(Err(source)) => Err(LoadError::Engine { index, source }),
        };
        if let Err(error) = outcome {
            outcomes.fail(candidate, error);
        }
        Some(())
    }
}

/// Whether the bytes at a place are those of a version.
fn is_version(key: &str, bytes: &[u8], version: &str) -> Result<(), LoadError> {
    let got = fingerprint::of_bytes(bytes);
    if got == version { Ok(()) } else { Err(LoadError::Damaged { key: key.to_owned(), got }) }
}
