//! One queue for all tasks, and one thread that owns the sessions.
//!
//! Whenever the thread is free it takes what waits: around the request that has waited longest, the requests of
//! similar length, until the batch's padded tokens reach the budget. It does not linger for more. Scoring
//! batches and steps of generation take turns, so a long text does not hold up labels.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::choose::choose;
use super::decoding::Decoding;
use super::generator::{Generated, Generation, Generator};
use super::ready::{Answers, ReadyTask};
use super::{Scorer, Source};
use crate::runtime::{Model, RuntimeError};
use crate::task::LabelTrie;

/// Limits of the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Requests that may wait; one more is [`EngineError::Overloaded`].
    pub max_queue: usize,
    /// Padded positions of a batch, prompts and label trees included; a longer request goes alone.
    pub max_batch_tokens: usize,
    /// Requests in a batch.
    pub max_batch: usize,
    /// Padding that a batch may have, in percent of its padded tokens. On a CPU padding costs what text costs.
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
    /// The queue is full.
    #[error("{0} requests are waiting already")]
    Overloaded(usize),
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
}

/// What a batch did, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchReport {
    /// What was run.
    pub kind: BatchKind,
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

struct Job {
    request: Request,
    decoding: Decoding,
    /// Where the tokens of a text go as they come.
    tokens: Option<mpsc::UnboundedSender<u32>>,
    /// How many of them went there.
    told: usize,
    since: Instant,
    reply: oneshot::Sender<Result<Reply, EngineError>>,
}

/// The handle on the engine's thread. Dropping it answers what waits and stops the thread.
pub struct Engine {
    queue: Mutex<Option<Sender<Job>>>,
    waiting: Arc<AtomicUsize>,
    options: Options,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("options", &self.options).field("waiting", &self.waiting()).finish()
    }
}

// === impl Engine ===

impl Engine {
    /// Loads the sessions, proves them by a pass of each, and starts the thread.
    ///
    /// # Errors
    /// If ONNX Runtime refuses a graph or fails to run it.
    pub fn start(model: &Model, options: Options, observer: Arc<dyn Observer>) -> Result<Self, RuntimeError> {
        let mut scorer = Scorer::new(model)?;
        let mut generator = Generator::new(model)?;
        let text = [model.config().eos_token_id];
        let source = Source { prompt: &[], text: &text };
        scorer.score(&[(source, &LabelTrie::least())])?;
        generator.generate(&[source], &[1])?;
        let (sender, receiver) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let worker = Worker {
            receiver,
            waiting: Arc::clone(&waiting),
            options,
            observer,
            d_model: model.config().d_model,
            scorer,
            generator,
            scores: VecDeque::new(),
            texts: VecDeque::new(),
            running: None,
        };
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || worker.work())
            .map_err(|error| ort::Error::new(format!("the engine's thread does not start: {error}")))?;
        Ok(Self { queue: Mutex::new(Some(sender)), waiting, options, thread: Mutex::new(Some(thread)) })
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
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = queue.as_ref().ok_or(EngineError::Stopped)?;
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.options.max_queue {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(EngineError::Overloaded(self.options.max_queue));
        }
        if sender.send(Job { request, decoding, tokens, told: 0, since: Instant::now(), reply }).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(EngineError::Stopped);
        }
        Ok(receiver)
    }

    /// Whether the thread works. If it does not and nobody stopped it, it panicked: no request will be answered.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The limits.
    #[must_use]
    pub fn options(&self) -> Options {
        self.options
    }

    /// Takes no more requests, answers those that wait, and returns when the thread has ended.
    pub fn stop(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
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

/// The owner of the sessions.
struct Worker {
    receiver: Receiver<Job>,
    waiting: Arc<AtomicUsize>,
    options: Options,
    observer: Arc<dyn Observer>,
    d_model: usize,
    scorer: Scorer,
    generator: Generator,
    scores: VecDeque<Job>,
    texts: VecDeque<Job>,
    running: Option<Running>,
}

struct Running {
    /// None where a text was answered or its client left.
    jobs: Vec<Option<Job>>,
    generation: Generation,
    since: Instant,
}

// === impl Worker ===

impl Worker {
    fn work(mut self) {
        let mut open = true;
        while open || !self.is_idle() {
            open &= self.receive();
            let batch = self.take_batch(false);
            if !batch.is_empty() {
                self.score(batch);
            }
            if self.running.is_none() {
                let batch = self.take_batch(true);
                if !batch.is_empty() {
                    self.start_generation(batch);
                }
            }
            self.step_generation();
        }
    }

    fn is_idle(&self) -> bool {
        self.scores.is_empty() && self.texts.is_empty() && self.running.is_none()
    }

    /// Takes over all that was sent; sleeps if there is nothing to do. False when nothing can come any more.
    fn receive(&mut self) -> bool {
        if self.is_idle() {
            match self.receiver.recv() {
                Ok(job) => self.sort_in(job),
                Err(RecvError) => return false,
            }
        }
        loop {
            match self.receiver.try_recv() {
                Ok(job) => self.sort_in(job),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn sort_in(&mut self, job: Job) {
        match job.request.task.answers() {
            Answers::Labels { .. } => self.scores.push_back(job),
            Answers::Text { .. } => self.texts.push_back(job),
        }
    }

    /// The longest-waiting request and its neighbours in length, as many as the budget allows.
    fn take_batch(&mut self, texts: bool) -> Vec<Job> {
        let (d_model, options) = (self.d_model, self.options);
        let queue = if texts { &mut self.texts } else { &mut self.scores };
        let before = queue.len();
        let now = Instant::now();
        let observer = &self.observer;
        queue.retain(|job| {
            if job.reply.is_closed() {
                observer.dropped("client_left");
            }
            !job.reply.is_closed()
        });
        let (late, mut jobs): (Vec<Job>, Vec<Job>) =
            queue.drain(..).partition(|job| job.request.deadline.is_some_and(|deadline| deadline < now));
        for job in late {
            observer.dropped("deadline");
            drop(job.reply.send(Err(EngineError::Deadline)));
        }
        let lengths: Vec<usize> = jobs.iter().map(|job| job.positions(d_model)).collect();
        let chosen = choose(&lengths, &options);
        let mut batch = Vec::with_capacity(chosen.len());
        // beams take rows like requests
        let mut rows = 0;
        for (i, job) in jobs.drain(..).enumerate() {
            let fits = batch.is_empty() || rows + job.decoding.rows() <= options.max_batch;
            if fits && chosen.contains(&i) {
                rows += job.decoding.rows();
                batch.push(job);
            } else {
                queue.push_back(job);
            }
        }
        self.waiting.fetch_sub(before - queue.len(), Ordering::Relaxed);
        batch
    }

    fn report(&self, kind: BatchKind, batch: &[Job], elapsed: Duration) {
        let lengths = || batch.iter().map(|job| job.source().length(self.d_model));
        let mut tasks: Vec<*const ReadyTask> =
            batch.iter().map(|job| Arc::as_ptr(&job.request.task)).collect();
        tasks.sort_unstable();
        tasks.dedup();
        self.observer.batch(&BatchReport {
            kind,
            requests: batch.len(),
            tokens: lengths().sum(),
            padded_tokens: lengths().max().unwrap_or(0) * batch.len(),
            tasks: tasks.len(),
            elapsed,
        });
    }

    fn score(&mut self, batch: Vec<Job>) {
        let start = Instant::now();
        let examples: Vec<(Source<'_>, &LabelTrie)> = batch
            .iter()
            .filter_map(|job| match job.request.task.answers() {
                Answers::Labels { trie, .. } => Some((job.source(), trie)),
                Answers::Text { .. } => None,
            })
            .collect();
        let scores = self.scorer.score(&examples);
        let elapsed = start.elapsed();
        self.report(BatchKind::Score, &batch, elapsed);
        match scores {
            Ok(scores) => {
                for (job, scores) in batch.into_iter().zip(scores) {
                    job.answer(Answer::Labels(scores), start);
                }
            }
            Err(error) => fail(batch, &error),
        }
    }

    fn start_generation(&mut self, jobs: Vec<Job>) {
        let since = Instant::now();
        let sources: Vec<Source<'_>> = jobs.iter().map(Job::source).collect();
        let decodings: Vec<Decoding> = jobs.iter().map(|job| job.decoding).collect();
        match self.generator.start(&sources, &decodings) {
            Ok(generation) => {
                self.report(BatchKind::Encode, &jobs, since.elapsed());
                let jobs = jobs.into_iter().map(Some).collect();
                self.running = Some(Running { jobs, generation, since });
            }
            Err(error) => fail(jobs, &error),
        }
    }

    fn step_generation(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        if let Err(error) = self.generator.step(&mut running.generation) {
            return fail(running.jobs.into_iter().flatten().collect(), &error);
        }
        for (i, slot) in running.jobs.iter_mut().enumerate() {
            let Some(job) = slot else { continue };
            if job.reply.is_closed() {
                self.observer.dropped("client_left");
                running.generation.abandon(i);
                *slot = None;
                continue;
            }
            job.tell(running.generation.tokens(i));
            if let Some(text) = running.generation.ended(i)
                && let Some(job) = slot.take()
            {
                job.answer(Answer::Text(text.clone()), running.since);
            }
        }
        if running.jobs.iter().any(Option::is_some) {
            self.running = Some(running);
        }
    }
}

// === impl Job ===

impl Job {
    fn source(&self) -> Source<'_> {
        Source { prompt: self.request.task.rows(), text: &self.request.text }
    }

    /// Positions that the request takes in a batch: those of its source, and of the tree of its labels.
    fn positions(&self, d_model: usize) -> usize {
        let labels = match self.request.task.answers() {
            Answers::Labels { trie, .. } => trie.tokens().len(),
            Answers::Text { .. } => 1,
        };
        self.source().length(d_model) + labels
    }

    /// Passes on the tokens that are new since the last time.
    fn tell(&mut self, tokens: &[u32]) {
        let Some(sender) = &self.tokens else { return };
        for &token in &tokens[self.told.min(tokens.len())..] {
            // a client that left is noticed by its reply
            if sender.send(token).is_err() {
                break;
            }
        }
        self.told = tokens.len();
    }

    fn answer(self, answer: Answer, started: Instant) {
        let reply = Reply { answer, queued: started - self.since, ran: started.elapsed() };
        // the client may have left meanwhile
        drop(self.reply.send(Ok(reply)));
    }
}

fn fail(jobs: Vec<Job>, error: &RuntimeError) {
    for job in jobs {
        drop(job.reply.send(Err(EngineError::Failed(error.to_string()))));
    }
}
