//! From a file to a task that answers: every check before anything is served.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::engine::{Answer, Answers, Engine, EngineError, InputError, ReadyTask, Reply, Request, TaskError};
use crate::prompt::{Base, Golden, Limits, PromptError, PromptFile};
use crate::t5::Config;
use crate::task::{Tokenizer, TokenizerError};

/// How far a golden example's probability may be from what the trainer saw.
pub const GOLDEN_TOLERANCE: f32 = 1e-3;

/// Golden examples of a file that are replayed; more are ignored.
pub const MAX_GOLDEN: usize = 64;

/// How long to wait for room in a queue that requests fill.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// Why a file is not served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
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
        "golden example {index}: label {label:?} gets {got:.4} here and got {want:.4} in training; was the file \
         edited, or made with another version of the model?"
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

/// A file to load, and the version that is served under its name.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) served: Option<String>,
}

/// What came of a file.
#[derive(Debug)]
pub(super) enum Loaded {
    /// It may be served.
    New(Arc<ReadyTask>),
    /// It is the version that is served.
    Same,
}

/// A golden example that the engine is computing.
struct Replay<'a> {
    candidate: usize,
    index: usize,
    golden: &'a Golden,
    task: &'a ReadyTask,
    reply: oneshot::Receiver<Result<Reply, EngineError>>,
}

// === impl LoadError ===

impl LoadError {
    /// Whether there is no file any more.
    pub(super) fn is_missing_file(&self) -> bool {
        matches!(self, Self::Prompt(PromptError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound)
    }
}

// === impl Loader ===

impl Loader {
    /// Loads files, their golden examples side by side. `None` if the engine is stopping: nothing is known then.
    pub(super) fn load(&self, candidates: &[Candidate]) -> Option<Vec<Result<Loaded, LoadError>>> {
        let mut loaded: Vec<Result<Loaded, LoadError>> =
            candidates.iter().map(|candidate| self.check(candidate)).collect();
        let tasks: Vec<Option<Arc<ReadyTask>>> = loaded
            .iter()
            .map(|loaded| match loaded {
                Ok(Loaded::New(task)) => Some(Arc::clone(task)),
                Ok(Loaded::Same) | Err(_) => None,
            })
            .collect();
        let mut running: VecDeque<Replay<'_>> = VecDeque::new();
        let mut fail = |candidate: usize, error| {
            if loaded[candidate].is_ok() {
                loaded[candidate] = Err(error);
            }
        };
        for (candidate, task) in tasks.iter().enumerate() {
            let Some(task) = task else { continue };
            for (index, golden) in task.manifest().golden.iter().take(MAX_GOLDEN).enumerate() {
                let text = match task.encode(&golden.input, &self.tokenizer, true) {
                    Ok((text, _)) => text,
                    Err(source) => {
                        fail(candidate, LoadError::GoldenInput { index, source });
                        break;
                    }
                };
                while running.len() >= self.window() {
                    self.finish(&mut running, &mut fail)?;
                }
                let reply = loop {
                    let request = Request { task: Arc::clone(task), text: text.clone(), deadline: None };
                    match self.engine.submit(request) {
                        Ok(reply) => break reply,
                        Err(EngineError::Stopped) => return None,
                        Err(_) if running.is_empty() => std::thread::sleep(FULL_QUEUE_PAUSE),
                        Err(_) => self.finish(&mut running, &mut fail)?,
                    }
                };
                running.push_back(Replay { candidate, index, golden, task, reply });
            }
        }
        while !running.is_empty() {
            self.finish(&mut running, &mut fail)?;
        }
        Some(loaded)
    }

    /// All checks that need no computing.
    fn check(&self, candidate: &Candidate) -> Result<Loaded, LoadError> {
        let (file, version) = PromptFile::read(&candidate.path, &self.limits)?;
        if candidate.served.as_ref() == Some(&version) {
            return Ok(Loaded::Same);
        }
        file.verify(&self.base)?;
        let (got, limit) = (file.manifest.task.max_input_tokens, self.max_input_tokens);
        if got > limit {
            return Err(LoadError::InputLimit { got, limit });
        }
        Ok(Loaded::New(Arc::new(ReadyTask::new(file, version, &self.tokenizer, &self.config)?)))
    }

    /// Golden examples in the queue at once: a share of it, so that loading leaves room for requests.
    fn window(&self) -> usize {
        let options = self.engine.options();
        (options.max_queue / 4).clamp(1, options.max_batch.max(1))
    }

    /// Waits for the longest-running replay. `None` if the engine is stopping.
    fn finish(
        &self,
        running: &mut VecDeque<Replay<'_>>,
        fail: &mut impl FnMut(usize, LoadError),
    ) -> Option<()> {
        let Some(replay) = running.pop_front() else { return Some(()) };
        let (candidate, index) = (replay.candidate, replay.index);
        let outcome = match replay.reply.blocking_recv() {
            Ok(Ok(reply)) => self.compare(replay.golden, replay.task, index, &reply.answer),
            Ok(Err(EngineError::Stopped)) | Err(_) => return None,
            Ok(Err(source)) => Err(LoadError::Engine { index, source }),
        };
        if let Err(error) = outcome {
            fail(candidate, error);
        }
        Some(())
    }

    fn compare(
        &self,
        golden: &Golden,
        task: &ReadyTask,
        index: usize,
        answer: &Answer,
    ) -> Result<(), LoadError> {
        match (answer, task.answers()) {
            (Answer::Labels(scores), Answers::Labels { names, .. }) => {
                let pairs = scores.iter().zip(&golden.scores).zip(names);
                for ((&got, &want), label) in pairs {
                    // a probability that is not a number agrees with nothing
                    let agrees = (got - want).abs() <= GOLDEN_TOLERANCE;
                    if !agrees {
                        return Err(LoadError::GoldenScore { index, label: label.clone(), got, want });
                    }
                }
                Ok(())
            }
            (Answer::Text(generated), _) => {
                let Some(want) = &golden.text else { return Ok(()) };
                let got = self
                    .tokenizer
                    .decode(&generated.tokens)
                    .map_err(|source| LoadError::GoldenDecode { index, source })?;
                if got == *want {
                    Ok(())
                } else {
                    Err(LoadError::GoldenText { index, got, want: want.clone() })
                }
            }
            (Answer::Labels(_), Answers::Text { .. }) => Ok(()),
        }
    }
}
