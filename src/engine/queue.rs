//! The one queue of all tasks and all devices.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::Source;
use super::choose::{choose, choose_packed};
use super::decoding::Decoding;
use super::outflow::Outflow;
use super::ready::Answers;
use super::scheduler::{Answer, EngineError, Observer, Options, Reply, Request};

/// A request that waits or is computed.
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) decoding: Decoding,
    /// Where the tokens of a text go as they come.
    pub(super) tokens: Option<mpsc::UnboundedSender<u32>>,
    /// How many of them went there.
    pub(super) told: usize,
    pub(super) since: Instant,
    pub(super) reply: oneshot::Sender<Result<Reply, EngineError>>,
}

/// What waits. A device that is free takes a batch out of it.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    news: Condvar,
    options: Options,
    d_model: usize,
    /// Whether label batches are packed.
    packs: bool,
}

struct Waiting {
    scores: Line,
    texts: Line,
    open: bool,
    devices: usize,
}

/// Requests of one kind, in the order in which they came, and how fast they leave.
#[derive(Default)]
struct Line {
    jobs: VecDeque<Job>,
    outflow: Outflow,
}

// === impl Queue ===

impl Queue {
    pub(super) fn new(options: Options, d_model: usize, packs: bool) -> Self {
        let waiting = Waiting { scores: Line::default(), texts: Line::default(), open: true, devices: 0 };
        Self { waiting: Mutex::new(waiting), news: Condvar::new(), options, d_model, packs }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limits of batches.
    pub(super) fn options(&self) -> Options {
        self.options
    }

    /// Requests that wait.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is room for so many requests of a call, for texts or for labels, and they can be expected to be
    /// answered in time.
    pub(super) fn admits(&self, texts: bool, requests: usize, deadline: Instant) -> Result<(), EngineError> {
        let mut all = self.lock();
        let waiting = all.len();
        let Line { jobs, outflow } = all.of(texts);
        let now = Instant::now();
        let time = deadline.saturating_duration_since(now);
        if waiting + requests > self.options.max_queue || outflow.is_too_long(jobs.len(), requests, time, now)
        {
            return Err(EngineError::Overloaded { waiting, expected: outflow.wait(jobs.len(), now) });
        }
        Ok(())
    }

    /// Puts a request at the end.
    pub(super) fn push(&self, job: Job) -> Result<(), EngineError> {
        let texts = matches!(job.request.task.answers(), Answers::Text { .. });
        let mut all = self.lock();
        if !all.open {
            return Err(EngineError::Stopped);
        }
        let waiting = all.len();
        let Line { jobs, outflow } = all.of(texts);
        if waiting >= self.options.max_queue {
            let expected = outflow.wait(jobs.len(), Instant::now());
            return Err(EngineError::Overloaded { waiting, expected });
        }
        jobs.push_back(job);
        drop(all);
        self.news.notify_one();
        Ok(())
    }

    /// Lets nothing more in; what waits is still answered.
    pub(super) fn close(&self) {
        self.lock().open = false;
        self.news.notify_all();
    }

    /// Counts a device that takes from the queue.
    pub(super) fn join(&self) {
        self.lock().devices += 1;
    }

    /// Counts a device out. Behind the last, nothing is let in and what waits is dropped: nobody would answer it.
    pub(super) fn leave(&self) {
        let mut waiting = self.lock();
        waiting.devices -= 1;
        if waiting.devices == 0 {
            waiting.open = false;
            waiting.scores.jobs.clear();
            waiting.texts.jobs.clear();
        }
    }

    /// Counts a device out unless it is the last; says whether it was.
    pub(super) fn leave_to_others(&self) -> bool {
        let mut waiting = self.lock();
        let others = waiting.devices > 1;
        waiting.devices -= usize::from(others);
        others
    }

    /// Sleeps until something waits. False when nothing can come any more.
    pub(super) fn wait(&self) -> bool {
        let mut waiting = self.lock();
        while waiting.len() == 0 {
            if !waiting.open {
                return false;
            }
            waiting = self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// The next batch of texts or of labels; empty if none wait.
    pub(super) fn take(&self, texts: bool, observer: &dyn Observer) -> Vec<Job> {
        // the steps of texts are of padded batches
        let choose = if self.packs && !texts { choose_packed } else { choose };
        self.lock().take_batch(texts, choose, &self.options, self.d_model, observer)
    }
}

// === impl Waiting ===

impl Waiting {
    fn len(&self) -> usize {
        self.scores.jobs.len() + self.texts.jobs.len()
    }

    fn of(&mut self, texts: bool) -> &mut Line {
        if texts { &mut self.texts } else { &mut self.scores }
    }

    /// The longest-waiting request and others, as many as the budget allows.
    fn take_batch(
        &mut self,
        texts: bool,
        choose: fn(&[usize], &Options) -> Vec<usize>,
        options: &Options,
        d_model: usize,
        observer: &dyn Observer,
    ) -> Vec<Job> {
        let Line { jobs: queue, outflow } = self.of(texts);
        let now = Instant::now();
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
        let chosen = choose(&lengths, options);
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
        outflow.left(batch.len(), queue.len(), now);
        batch
    }
}

// === impl Job ===

impl Job {
    pub(super) fn source(&self) -> Source<'_> {
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
    pub(super) fn tell(&mut self, tokens: &[u32]) {
        let Some(sender) = &self.tokens else { return };
        for &token in &tokens[self.told.min(tokens.len())..] {
            // a client that left is noticed by its reply
            if sender.send(token).is_err() {
                break;
            }
        }
        self.told = tokens.len();
    }

    pub(super) fn answer(self, answer: Answer, started: Instant) {
        let ended = Instant::now();
        let reply = Reply { answer, queued: started - self.since, ran: ended - started, ended };
        // the client may have left meanwhile
        drop(self.reply.send(Ok(reply)));
    }
}
