//! One queue for all tasks, and for each device one thread that owns its sessions.
//!
//! Whenever a thread is free it takes what waits: around the request that has waited longest, the requests of
//! similar length, until the batch's padded tokens reach the budget; where batches are packed, simply the first. It does
//! not linger for more. Scoring
//! batches and steps of generation take turns, so a long text does not hold up labels. Texts join those that are
//! under way after their first step, and leave them when they end.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::decoding::Decoding;
use super::generation::Generated;
use super::queue::{Job, Queue};
use super::ready::ReadyTask;
use super::worker::Worker;
use crate::runtime::{Device, Model, Paces, Precision, RuntimeError};

/// Limits of the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Requests that may wait; one more is [`EngineError::Overloaded`].
    pub max_queue: usize,
    /// Padded positions of a batch, prompts and label trees included; a longer request goes alone.
    pub max_batch_tokens: usize,
    /// Requests in a batch.
    pub max_batch: usize,
    /// Padding that a batch may have, in percent of its padded tokens. Packed batches have none.
    pub max_padding: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_queue: 1024, max_batch_tokens: 4096, max_batch: 64, max_padding: 10 }
    }
}

/// Why a request was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The queue is full, or what waits in it takes too long for the deadline.
    #[error("{waiting} requests are waiting already, another one would wait for about {expected:.1?}")]
    Overloaded {
        /// How many wait.
        waiting: usize,
        /// How long a new one would wait; zero as long as that is not known.
        expected: Duration,
    },
    /// The deadline passed before the request was computed.
    #[error("the deadline passed while the request waited")]
    Deadline,
    /// The engine is stopping.
    #[error("the engine is stopping")]
    Stopped,
    /// The run failed.
    #[error("{0}")]
    Failed(String),
}

/// A text to answer.
#[derive(Debug)]
pub struct Request {
    /// The task's version that answers, whatever is swapped in meanwhile.
    pub task: Arc<ReadyTask>,
    /// Token ids of the text, with the end token.
    pub text: Vec<u32>,
    /// When the answer is of no use any more.
    pub deadline: Option<Instant>,
}

/// What a request gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Probability of each label, in the order of the task.
    Labels(Vec<f32>),
    /// A generated text.
    Text(Generated),
}

/// An answer and how long it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The answer.
    pub answer: Answer,
    /// Time in the queue.
    pub queued: Duration,
    /// Time in the batch that answered.
    pub ran: Duration,
    /// When that batch ended.
    pub ended: Instant,
}

/// What a batch did, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchReport {
    /// What was run.
    pub kind: BatchKind,
    /// Where.
    pub device: Device,
    /// Requests in it.
    pub requests: usize,
    /// Encoder tokens, prompts included and padding not.
    pub tokens: usize,
    /// Encoder tokens with padding.
    pub padded_tokens: usize,
    /// Different tasks in it.
    pub tasks: usize,
    /// Wall time.
    pub elapsed: Duration,
}

/// What a batch was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// Label scoring.
    Score,
    /// Encoding sources before generation.
    Encode,
}

/// Sees what the scheduler does.
pub trait Observer: Send + Sync {
    /// A batch was run.
    fn batch(&self, report: &BatchReport);
    /// A request was dropped before it was computed: its client left, or its deadline passed.
    fn dropped(&self, reason: &'static str);
}

/// The handle on the engine's threads. Dropping it answers what waits and stops them.
pub struct Engine {
    queue: Arc<Queue>,
    options: Options,
    precision: Precision,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("options", &self.options).field("waiting", &self.waiting()).finish()
    }
}

// === impl Engine ===

impl Engine {
    /// Loads the sessions of every device, proves them by a pass of each, and starts the threads. `devices` is the
    /// model on each of them.
    ///
    /// # Errors
    /// If ONNX Runtime refuses a graph or fails to run it; with several devices the error names the one.
    ///
    /// # Panics
    /// If there is no device.
    pub fn start(
        devices: &[Model],
        options: Options,
        observer: &Arc<dyn Observer>,
    ) -> Result<Self, RuntimeError> {
        let several = devices.len() > 1;
        let packs = devices[0].arithmetic().kernels.are_packed();
        let queue = Arc::new(Queue::new(options, devices[0].config().d_model, packs));
        let paces = Arc::new(Mutex::new(Paces::new(devices.iter().map(Model::device))));
        let load = |(place, model): (usize, &Model)| {
            let worker =
                Worker::load(model, Arc::clone(&queue), Arc::clone(observer), Arc::clone(&paces), place);
            worker.map_err(|error| if several { error.on(model.device()) } else { error })
        };
        let workers = devices.iter().enumerate().map(load).collect::<Result<Vec<_>, _>>()?;
        let precision = devices[0].precision();
        let engine = Self { queue, options, precision, threads: Mutex::default() };
        for (worker, model) in workers.into_iter().zip(devices) {
            let thread = std::thread::Builder::new()
                .name(format!("engine {}", model.device()))
                .spawn(move || worker.work())
                .map_err(|error| ort::Error::new(format!("the engine's thread does not start: {error}")))?;
            engine.threads().push(thread);
        }
        Ok(engine)
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the queue takes a call of so many requests, for texts or for labels, and can be expected to answer them
    /// before their deadline.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`] if not.
    pub fn admits(&self, texts: bool, requests: usize, deadline: Instant) -> Result<(), EngineError> {
        self.queue.admits(texts, requests, deadline)
    }

    /// Queues a request. Free text is generated by the most likely tokens, as long as the task allows.
    ///
    /// # Errors
    /// If the queue is full or the engine is stopping. Other errors come with the reply.
    pub fn submit(
        &self,
        request: Request,
    ) -> Result<oneshot::Receiver<Result<Reply, EngineError>>, EngineError> {
        let decoding = request.task.decoding();
        self.submit_text(request, decoding, None)
    }

    /// As [`submit`](Self::submit), for free text that is generated in a way of its own. Its tokens also go to
    /// `tokens` as soon as they are certain; those of a beam search are not before its end.
    ///
    /// # Errors
    /// As of [`submit`](Self::submit).
    pub fn submit_text(
        &self,
        request: Request,
        decoding: Decoding,
        tokens: Option<mpsc::UnboundedSender<u32>>,
    ) -> Result<oneshot::Receiver<Result<Reply, EngineError>>, EngineError> {
        let (reply, receiver) = oneshot::channel();
        self.queue.push(Job { request, decoding, tokens, told: 0, since: Instant::now(), reply })?;
        Ok(receiver)
    }

    /// Whether every device's thread works. If one does not and nobody stopped it, it panicked or its device was given
    /// up: the other devices answer, if there are any.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let threads = self.threads();
        !threads.is_empty() && !threads.iter().any(JoinHandle::is_finished)
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// The limits.
    #[must_use]
    pub fn options(&self) -> Options {
        self.options
    }

    /// What it computes in.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Takes no more requests, answers those that wait, and returns when the threads have ended.
    pub fn stop(&self) {
        self.queue.close();
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            // a panic of the thread has reached its clients as closed replies
            drop(thread.join());
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}
