//! One task with one seed: a line of an experiment.

use std::ops::Range;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use xprompt::prompt::Prompt;

use crate::error::RunError;
use crate::example::Example;
use crate::importance::{Scores, importance, left_out};
use crate::initialize::{Initial, initialize};
use crate::lab::Lab;
use crate::race::{Candidate, Group};
use crate::task_data::TaskData;
use crate::task_file::{Initialization, Tuning};

/// Train rows over which leaving out is measured: it takes a pass over them for every token and piece.
const LEAVE_ONE_OUT_ROWS: usize = 128;

/// One task with one seed.
#[derive(Clone, Copy, Debug)]
pub struct Line<'t> {
    /// The task.
    pub task: &'t TaskData,
    /// The seed.
    pub seed: u64,
}

/// What random numbers are drawn for. Each has a stream of its own: none depends on how many others were drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The initial values.
    Initial,
    /// The order of examples in stage one.
    Tuning,
    /// The order of examples in every retraining: all see the same.
    Retraining,
    /// Masks drawn at random.
    Mask,
    /// The initial values of the prompt that has the XPrompt's length.
    SameLength,
    /// The initial values of a restart, by its number.
    Restart(u64),
}

// === impl Stream ===

impl Stream {
    fn number(self) -> u64 {
        match self {
            Self::Initial => 0,
            Self::Tuning => 1,
            Self::Retraining => 2,
            Self::Mask => 3,
            Self::SameLength => 4,
            Self::Restart(number) => 1000 + number,
        }
    }
}

// === impl Line ===

impl<'t> Line<'t> {
    /// The line's random numbers for a purpose.
    #[must_use]
    pub fn rng(&self, stream: Stream) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(stream.number());
        rng
    }

    /// The prompt that stage one starts from, and where its values come from.
    ///
    /// # Errors
    /// If what the task starts from is not usable.
    pub fn start(&self, lab: &Lab<'_>, stream: Stream) -> Result<(Prompt, String), RunError> {
        let tuning = &self.task.file.tuning;
        self.initial(lab, &tuning.initialization, tuning.prompt_tokens, stream)
    }

    /// A prompt of `tokens` tokens to start from, and where its values come from.
    ///
    /// # Errors
    /// If what the task starts from is not usable.
    pub fn initial(
        &self,
        lab: &Lab<'_>,
        how: &Initialization,
        tokens: usize,
        stream: Stream,
    ) -> Result<(Prompt, String), RunError> {
        let labels = &self.task.file.task.labels;
        let Initial { rows, origin } = initialize(how, tokens, labels, lab.setup, &mut self.rng(stream))?;
        Ok((Prompt::dense(lab.setup.base.d_model, self.task.file.pruning.pieces, rows), origin))
    }

    /// Candidates that tune as stage one does.
    #[must_use]
    pub fn tuning(&self, purpose: &'static str, candidates: Vec<Candidate>) -> Group<'t> {
        self.group(purpose, self.task.file.tuning.clone(), Stream::Tuning, false, candidates)
    }

    /// Candidates that are retrained.
    #[must_use]
    pub fn retraining(&self, purpose: &'static str, candidates: Vec<Candidate>) -> Group<'t> {
        self.group(purpose, self.task.file.retuning(), Stream::Retraining, false, candidates)
    }

    /// Pruning ratios that are retrained, of which the best is wanted.
    #[must_use]
    pub fn trials(&self, purpose: &'static str, candidates: Vec<Candidate>) -> Group<'t> {
        let halving = self.task.file.pruning.successive_halving;
        self.group(purpose, self.task.file.retuning(), Stream::Retraining, halving, candidates)
    }

    fn group(
        &self,
        purpose: &'static str,
        recipe: Tuning,
        stream: Stream,
        halving: bool,
        candidates: Vec<Candidate>,
    ) -> Group<'t> {
        Group {
            task: self.task,
            seed: self.seed,
            purpose,
            recipe,
            rng: self.rng(stream),
            halving,
            candidates,
        }
    }

    /// Scores a prompt's tokens and pieces by the derivative of the loss.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn scores(&self, lab: &mut Lab<'_>, prompt: &Prompt) -> Result<Scores, RunError> {
        let rows = self.sample(self.task.file.pruning.importance_rows);
        let bar = lab.progress.bar("scoring importance", rows.len(), "rows");
        let done = |rows: usize| bar.inc(rows as u64);
        let scores = importance(prompt, &self.task.answers, &rows, &mut lab.tuner, done)?;
        bar.finish_and_clear();
        Ok(scores)
    }

    /// Scores each token by leaving it out, `[tokens]`.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn tokens_left_out(&self, lab: &mut Lab<'_>, prompt: &Prompt) -> Result<Vec<f32>, RunError> {
        let k = prompt.pieces();
        let ranges: Vec<Range<usize>> =
            prompt.kept_tokens().map(|token| token * k..(token + 1) * k).collect();
        let rises = self.left_out(lab, prompt, &ranges)?;
        let mut scores = vec![0.0; prompt.tokens()];
        prompt.kept_tokens().zip(rises).for_each(|(token, rise)| scores[token] = rise);
        Ok(scores)
    }

    /// Scores each piece by leaving it out, `[tokens, pieces]`.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn pieces_left_out(&self, lab: &mut Lab<'_>, prompt: &Prompt) -> Result<Vec<f32>, RunError> {
        let kept = || prompt.piece_mask().iter().enumerate().filter(|&(_, &kept)| kept).map(|(i, _)| i);
        let ranges: Vec<Range<usize>> = kept().map(|piece| piece..piece + 1).collect();
        let rises = self.left_out(lab, prompt, &ranges)?;
        let mut scores = vec![0.0; prompt.piece_mask().len()];
        kept().zip(rises).for_each(|(piece, rise)| scores[piece] = rise);
        Ok(scores)
    }

    fn left_out(
        &self,
        lab: &mut Lab<'_>,
        prompt: &Prompt,
        ranges: &[Range<usize>],
    ) -> Result<Vec<f32>, RunError> {
        let rows = self.sample(LEAVE_ONE_OUT_ROWS.min(self.task.file.pruning.importance_rows));
        let bar = lab.progress.bar("leaving one out", ranges.len(), "prompts");
        let done = |prompts: usize| bar.inc(prompts as u64);
        let rises = left_out(prompt, &self.task.answers, &rows, ranges, &mut lab.tuner, done)?;
        bar.finish_and_clear();
        Ok(rises)
    }

    /// Train rows, evenly spread over the file, which may be sorted.
    fn sample(&self, rows: usize) -> Vec<&'t Example> {
        let train = &self.task.train;
        let rows = rows.min(train.len());
        (0..rows).map(|i| &train[i * train.len() / rows]).collect()
    }
}
