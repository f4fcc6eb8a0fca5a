//! A device's thread: it owns the device's sessions and takes its work from the queue.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::decoding::Decoding;
use super::generation::Generation;
use super::generator::Generator;
use super::queue::{Job, Queue};
use super::ready::{Answers, ReadyTask};
use super::scheduler::{Answer, BatchKind, BatchReport, EngineError, Observer};
use super::{Scorer, Source};
use crate::runtime::{Device, Model, Paces, RuntimeError};
use crate::task::LabelTrie;

/// Failures in a row after which one of several devices is given up.
const GIVEN_UP_AFTER: usize = 3;

/// Batches of texts under way at once. They take turns step by step: one that comes while another runs has its first
/// token soon. Then it joins the other, unless their lengths are too far apart.
const GENERATIONS: usize = 4;

/// Padding of a joined batch, in percent. A step reads all weights for a few positions, so that padding costs less
/// than steps of their own.
const JOINED_PADDING: usize = 50;

/// The owner of a device's sessions.
pub(super) struct Worker {
    queue: Arc<Queue>,
    observer: Arc<dyn Observer>,
    d_model: usize,
    device: Device,
    /// How fast all devices of the engine are, and this one's place there.
    paces: Arc<Mutex<Paces>>,
    place: usize,
    /// Whether the engine has other devices.
    several: bool,
    /// Whether label batches are packed.
    packs: bool,
    scorer: Scorer,
    generator: Generator,
    /// Those that take the next steps first.
    running: VecDeque<Running>,
    /// Failures since the last batch that was computed.
    failures: usize,
    /// Whether the queue counts on it.
    joined: bool,
}

/// A batch of texts under way.
struct Running {
    /// Those whose texts have not ended, by the texts' numbers, and when they were begun.
    jobs: BTreeMap<usize, (Job, Instant)>,
    generation: Generation,
}

// === impl Worker ===

impl Worker {
    /// Loads the sessions on the model's device and proves them by a pass of each.
    pub(super) fn load(
        model: &Model,
        queue: Arc<Queue>,
        observer: Arc<dyn Observer>,
        paces: Arc<Mutex<Paces>>,
        place: usize,
    ) -> Result<Self, RuntimeError> {
        let mut scorer = Scorer::new(model)?;
        let mut generator = Generator::new(model)?;
        let text = [model.config().eos_token_id];
        let source = Source { prompt: &[], text: &text };
        scorer.score(&[(source, &LabelTrie::least())])?;
        generator.generate(&[source], &[1])?;
        queue.join();
        let (d_model, device) = (model.config().d_model, model.device());
        let several = paces.lock().unwrap_or_else(PoisonError::into_inner).count() > 1;
        Ok(Self {
            queue,
            observer,
            d_model,
            device,
            paces,
            place,
            several,
            packs: model.arithmetic().kernels.are_packed(),
            scorer,
            generator,
            running: VecDeque::new(),
            failures: 0,
            joined: true,
        })
    }

    /// Works until the queue is closed and empty, or the device is given up.
    pub(super) fn work(mut self) {
        while !self.running.is_empty() || self.queue.wait() {
            let batch = self.queue.take(false, &*self.observer);
            if !batch.is_empty() {
                self.score(batch);
            }
            if self.running.len() < GENERATIONS {
                let batch = self.queue.take(true, &*self.observer);
                if !batch.is_empty() {
                    self.start_generation(batch);
                }
            }
            self.step_generation();
            // one that always fails at once would take every request that waits
            if self.failures >= GIVEN_UP_AFTER && self.running.is_empty() && self.queue.leave_to_others() {
                self.joined = false;
                tracing::error!(
                    device = %self.device,
                    "the device failed {GIVEN_UP_AFTER} times in a row and computes no more; the others go on"
                );
                return;
            }
        }
    }

    fn report(&self, kind: BatchKind, batch: &[Job], elapsed: Duration) {
        let lengths = || batch.iter().map(|job| job.source().length(self.d_model));
        let mut tasks: Vec<*const ReadyTask> =
            batch.iter().map(|job| Arc::as_ptr(&job.request.task)).collect();
        tasks.sort_unstable();
        tasks.dedup();
        let tokens = lengths().sum();
        let padded_tokens = if self.packs { tokens } else { lengths().max().unwrap_or(0) * batch.len() };
        self.observer.batch(&BatchReport {
            kind,
            device: self.device,
            requests: batch.len(),
            tokens,
            padded_tokens,
            tasks: tasks.len(),
            elapsed,
        });
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        paces.note(self.place, padded_tokens, elapsed.as_secs_f64());
        if let Some(slow) = paces.slow_device() {
            tracing::warn!("{slow}");
        }
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
                self.failures = 0;
                for (job, scores) in batch.into_iter().zip(scores) {
                    job.answer(Answer::Labels(scores), start);
                }
            }
            Err(error) => self.fail(batch, error),
        }
    }

    fn start_generation(&mut self, jobs: Vec<Job>) {
        let since = Instant::now();
        let sources: Vec<Source<'_>> = jobs.iter().map(Job::source).collect();
        let decodings: Vec<Decoding> = jobs.iter().map(|job| job.decoding).collect();
        match self.generator.start(&sources, &decodings) {
            Ok(generation) => {
                self.report(BatchKind::Encode, &jobs, since.elapsed());
                let jobs = jobs.into_iter().map(|job| (job, since)).enumerate().collect();
                self.running.push_back(Running { jobs, generation });
            }
            Err(error) => self.fail(jobs, error),
        }
    }

    fn step_generation(&mut self) {
        let Some(mut running) = self.running.pop_front() else { return };
        if let Err(error) = self.generator.step(&mut running.generation) {
            return self.fail(running.jobs(), error);
        }
        self.failures = 0;
        running.answer(&*self.observer);
        if running.jobs.is_empty() {
            return;
        }
        let options = self.queue.options();
        let fits = |other: &Running| {
            let (rows, positions) = (options.max_batch, options.max_batch_tokens);
            other.generation.fits(&running.generation, rows, positions, JOINED_PADDING)
        };
        let Some(mut other) = self.running.iter().position(fits).and_then(|at| self.running.remove(at))
        else {
            return self.running.push_back(running);
        };
        let Running { jobs, generation } = running;
        match self.generator.join(&mut other.generation, generation) {
            Ok(by) => {
                other.jobs.extend(jobs.into_iter().map(|(text, job)| (text + by, job)));
                self.running.push_back(other);
            }
            Err(error) => {
                let jobs = jobs.into_values().map(|(job, _)| job).chain(other.jobs());
                self.fail(jobs.collect(), error);
            }
        }
    }

    fn fail(&mut self, jobs: Vec<Job>, error: RuntimeError) {
        // a batch that is too large says nothing about the device
        if error.out_of_memory().is_none() {
            self.failures += 1;
        }
        let error = if self.several { error.on(self.device) } else { error };
        tracing::error!(device = %self.device, requests = jobs.len(), %error, "a batch failed");
        for job in jobs {
            drop(job.reply.send(Err(EngineError::Failed(error.to_string()))));
        }
    }
}

// === impl Running ===

impl Running {
    /// Tells what is new of each text, answers those that ended, and drops those that nobody waits for.
    fn answer(&mut self, observer: &dyn Observer) {
        for number in self.jobs.keys().copied().collect::<Vec<usize>>() {
            let Some((mut job, since)) = self.jobs.remove(&number) else { continue };
            if job.reply.is_closed() {
                observer.dropped("client_left");
                self.generation.abandon(number);
                continue;
            }
            job.tell(self.generation.tokens(number));
            match self.generation.take_ended(number) {
                Some(text) => job.answer(Answer::Text(text), since),
                None => drop(self.jobs.insert(number, (job, since))),
            }
        }
    }

    fn jobs(self) -> Vec<Job> {
        self.jobs.into_values().map(|(job, _)| job).collect()
    }
}

impl Drop for Worker {
    /// Also when it panics.
    fn drop(&mut self) {
        if self.joined {
            self.queue.leave();
        }
    }
}
