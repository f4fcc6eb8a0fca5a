//! Beam search over the texts of one request, as transformers does it with its default `early_stopping=False`.
//!
//! Each step looks at the `2 * count` best continuations of the running texts. Of the best `count` those that end
//! become finished texts; of all, the best `count` that do not end run on. A search ends when its best running text,
//! scored as if it ended now, is not better than the worst of `count` finished ones, or at the longest length.

use super::decoding::BeamSettings;
use super::generation::{Finish, Generated};

/// The search of one request.
#[derive(Debug)]
pub(super) struct BeamSearch {
    settings: BeamSettings,
    max_new_tokens: usize,
    eos: u32,
    /// The best first.
    running: Vec<Beam>,
    /// The best first, at most `count`.
    finished: Vec<Finished>,
}

#[derive(Clone, Debug)]
struct Beam {
    tokens: Vec<u32>,
    /// Sum of the tokens' log probabilities.
    log_p: f64,
}

#[derive(Debug)]
struct Finished {
    text: Generated,
    score: f64,
}

/// A continuation of a running text.
#[derive(Clone, Copy, Debug)]
struct Next {
    beam: usize,
    token: u32,
    log_p: f64,
}

// === impl BeamSearch ===

impl BeamSearch {
    pub(super) fn new(settings: BeamSettings, max_new_tokens: usize, eos: u32) -> Self {
        let start = Beam { tokens: Vec::new(), log_p: 0.0 };
        Self { settings, max_new_tokens, eos, running: vec![start], finished: Vec::new() }
    }

    /// Takes the logits that follow each running text. Returns the texts that run on, as the one that each
    /// continues and its new token; none when the search has ended.
    pub(super) fn advance<'a>(&mut self, logits: impl Iterator<Item = &'a [f32]>) -> Vec<(usize, u32)> {
        let count = self.settings.count;
        let best = self.best_continuations(logits, 2 * count);
        let length = self.running.first().map_or(0, |beam| beam.tokens.len()) + 1;
        let (is_last, eos) = (length == self.max_new_tokens, self.eos);
        let ends = |next: &&Next| is_last || next.token == eos;
        for next in best.iter().take(count).filter(ends) {
            self.finish(next, length);
        }
        let open: Vec<Next> = best.iter().filter(|next| !ends(next)).take(count).copied().collect();
        let next = |next: &Next| {
            let mut tokens = self.running[next.beam].tokens.clone();
            tokens.push(next.token);
            Beam { tokens, log_p: next.log_p }
        };
        self.running = open.iter().map(next).collect();
        if !self.may_improve(length) {
            self.running.clear();
            return Vec::new();
        }
        open.iter().map(|next| (next.beam, next.token)).collect()
    }

    /// The best finished text; an empty one if the search has not come to any.
    pub(super) fn into_best(mut self) -> Generated {
        if self.finished.is_empty() {
            let tokens = self.running.into_iter().next().map(|beam| beam.tokens).unwrap_or_default();
            return Generated { tokens, finish: Finish::Length };
        }
        self.finished.swap_remove(0).text
    }

    fn best_continuations<'a>(&self, logits: impl Iterator<Item = &'a [f32]>, count: usize) -> Vec<Next> {
        let better =
            |a: &Next, b: &Next| b.log_p.total_cmp(&a.log_p).then((a.beam, a.token).cmp(&(b.beam, b.token)));
        let mut best: Vec<Next> = Vec::new();
        for (beam, logits) in logits.take(self.running.len()).enumerate() {
            let shift = self.running[beam].log_p - log_sum(logits);
            let next =
                |(token, &x): (usize, &f32)| Next { beam, token: token as u32, log_p: f64::from(x) + shift };
            let mut here: Vec<Next> = logits.iter().enumerate().map(next).collect();
            if here.len() > count {
                here.select_nth_unstable_by(count, better);
                here.truncate(count);
            }
            best.extend(here);
        }
        best.sort_unstable_by(better);
        best.truncate(count);
        best
    }

    fn finish(&mut self, next: &Next, length: usize) {
        let mut tokens = self.running[next.beam].tokens.clone();
        let finish = if next.token == self.eos { Finish::Stop } else { Finish::Length };
        if finish == Finish::Length {
            tokens.push(next.token);
        }
        let score = self.score(next.log_p, length);
        let at = self.finished.partition_point(|other| other.score >= score);
        self.finished.insert(at, Finished { text: Generated { tokens, finish }, score });
        self.finished.truncate(self.settings.count);
    }

    /// Whether a running text of this length could become better than a finished one.
    fn may_improve(&self, length: usize) -> bool {
        let Some(best) = self.running.first() else { return false };
        self.finished.len() < self.settings.count
            || self.finished.last().is_none_or(|worst| self.score(best.log_p, length) > worst.score)
    }

    fn score(&self, log_p: f64, length: usize) -> f64 {
        log_p / (length as f64).powf(f64::from(self.settings.length_penalty))
    }
}

/// The logarithm of the sum of exponentials.
fn log_sum(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().map(|&x| f64::from((x - largest).exp())).sum::<f64>().ln() + f64::from(largest)
}
