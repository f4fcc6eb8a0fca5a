//! What each token and piece of a prompt contributes (XPrompt, section 3.2).
//!
//! With a mask gamma on tokens and zeta on pieces, both one, I(i) = E_x |dL(x)/dgamma_i| and likewise for pieces;
//! the derivative at a mask of ones is the dot product of the masked values with their gradient, so no mask is
//! ever part of the graph: dL/dgamma_i = <p_i, dL/dp_i>, dL/dzeta_ij = <p_ij, dL/dp_ij>.
//!
//! Two other scores stand beside the paper's, because a small |derivative| says that a token hardly matters, not that
//! it harms: the derivative with its sign, and the rise of the loss when a token or piece is left out.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use xprompt::engine::{Answers, Source};
use xprompt::prompt::Prompt;
use xprompt::runtime::RuntimeError;

use crate::example::Example;
use crate::tuner::{Contribution, Tuned, Tuner};

/// Examples that run between two reports of progress, each with a gradient.
const CHUNK: usize = 256;

/// Losses that are computed between two reports of progress: what is left out of a prompt is measured on the same
/// examples as many times as fit.
const LOSSES: usize = 2048;

/// Scores over the original tokens and pieces of a prompt: what scores higher is kept longer. What was pruned before
/// scores 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// `[tokens]`.
    pub tokens: Vec<f32>,
    /// `[tokens, pieces]`.
    pub pieces: Vec<f32>,
}

/// The scores that one pass over the examples gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// E_x |dL(x)/dgamma|, the paper's.
    pub absolute: Importance,
    /// -E_x dL(x)/dgamma: how much the loss falls, to first order, by there being more of it.
    pub signed: Importance,
}

// === impl Importance ===

impl Importance {
    /// The same with the last first.
    #[must_use]
    pub fn reversed(&self) -> Self {
        let minus = |scores: &[f32]| scores.iter().map(|score| -score).collect();
        Self { tokens: minus(&self.tokens), pieces: minus(&self.pieces) }
    }
}

/// Averages the derivatives of each example's loss over the examples.
///
/// # Errors
/// If ONNX Runtime fails.
pub fn importance(
    prompt: &Prompt,
    answers: &Answers,
    examples: &[&Example],
    tuner: &mut Tuner<'_>,
    mut done: impl FnMut(usize),
) -> Result<Scores, RuntimeError> {
    let mut sums = Sums::new(prompt);
    for chunk in examples.chunks(CHUNK) {
        let chunk: Vec<Tuned<'_>> = tuned(prompt.rows(), answers, chunk).collect();
        for contribution in tuner.contributions(&chunk)? {
            sums.add(prompt, &contribution);
        }
        done(chunk.len());
    }
    Ok(sums.mean())
}

/// Scores by leaving out: for each range of pieces, how much the mean loss rises without them. Without examples nothing
/// rises.
///
/// # Errors
/// If ONNX Runtime fails.
pub fn left_out(
    prompt: &Prompt,
    answers: &Answers,
    examples: &[&Example],
    ranges: &[Range<usize>],
    tuner: &mut Tuner<'_>,
    mut done: impl FnMut(usize),
) -> Result<Vec<f32>, RuntimeError> {
    if examples.is_empty() {
        return Ok(vec![0.0; ranges.len()]);
    }
    let whole = mean_losses(std::slice::from_ref(prompt), answers, examples, tuner)?;
    let mut rises = Vec::with_capacity(ranges.len());
    for ranges in ranges.chunks((LOSSES / examples.len().max(1)).max(1)) {
        let prompts: Vec<Prompt> = ranges.iter().map(|range| without(prompt, range)).collect();
        let losses = mean_losses(&prompts, answers, examples, tuner)?;
        rises.extend(losses.iter().map(|loss| (loss - whole[0]) as f32));
        done(ranges.len());
    }
    Ok(rises)
}

fn without(prompt: &Prompt, pieces: &Range<usize>) -> Prompt {
    let mut mask = prompt.piece_mask().to_vec();
    mask[pieces.clone()].fill(false);
    prompt.masked(&mask)
}

/// The mean loss of the examples with each prompt.
fn mean_losses(
    prompts: &[Prompt],
    answers: &Answers,
    examples: &[&Example],
    tuner: &mut Tuner<'_>,
) -> Result<Vec<f64>, RuntimeError> {
    let tuned: Vec<Tuned<'_>> =
        prompts.iter().flat_map(|prompt| tuned(prompt.rows(), answers, examples)).collect();
    let losses = tuner.losses(&tuned)?;
    let mean = |losses: &[f32]| losses.iter().copied().map(f64::from).sum::<f64>() / examples.len() as f64;
    Ok(losses.chunks_exact(examples.len()).map(mean).collect())
}

fn tuned<'a>(
    rows: &'a [f32],
    answers: &'a Answers,
    examples: &'a [&Example],
) -> impl Iterator<Item = Tuned<'a>> {
    examples.iter().map(move |example| Tuned {
        source: Source { prompt: rows, text: &example.source },
        target: &example.target,
        answers,
    })
}

struct Sums {
    examples: usize,
    tokens: Vec<Sum>,
    pieces: Vec<Sum>,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    absolute: f64,
    signed: f64,
}

// === impl Sums ===

impl Sums {
    fn new(prompt: &Prompt) -> Self {
        let (tokens, pieces) = (prompt.tokens(), prompt.piece_mask().len());
        Self { examples: 0, tokens: vec![Sum::default(); tokens], pieces: vec![Sum::default(); pieces] }
    }

    fn add(&mut self, prompt: &Prompt, contribution: &Contribution) {
        let (d, k) = (prompt.d_model(), prompt.pieces());
        let rows = prompt.rows().chunks(d).zip(contribution.gradient.chunks(d));
        for (token, (row, gradient)) in prompt.kept_tokens().zip(rows) {
            let width = prompt.piece_width();
            let pieces = row.chunks(width).zip(gradient.chunks(width)).map(|(p, g)| dot(p, g));
            let mut total = 0.0;
            for (piece, derivative) in pieces.enumerate() {
                self.pieces[token * k + piece].add(derivative);
                total += derivative;
            }
            self.tokens[token].add(total);
        }
        self.examples += 1;
    }

    fn mean(self) -> Scores {
        let n = self.examples.max(1) as f64;
        let mean = |sums: &[Sum], of: fn(&Sum) -> f64| sums.iter().map(|sum| (of(sum) / n) as f32).collect();
        let all = |of: fn(&Sum) -> f64| Importance {
            tokens: mean(&self.tokens, of),
            pieces: mean(&self.pieces, of),
        };
        Scores { absolute: all(|sum| sum.absolute), signed: all(|sum| -sum.signed) }
    }
}

impl Sum {
    fn add(&mut self, derivative: f64) {
        self.absolute += derivative.abs();
        self.signed += derivative;
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand: two tokens of two pieces of one value, two examples.
    #[test]
    fn the_absolute_value_is_taken_inside_the_expectation() {
        let prompt = Prompt::dense(2, 2, vec![1.0, 2.0, 3.0, -1.0]);
        let mut sums = Sums::new(&prompt);
        sums.add(&prompt, &Contribution { loss: 0.0, gradient: vec![1.0, -1.0, 2.0, 0.0] });
        sums.add(&prompt, &Contribution { loss: 0.0, gradient: vec![-1.0, 1.0, 0.0, 4.0] });
        let mean = sums.mean();
        // token 0: |1 - 2| and |-1 + 2|; token 1: |6 + 0| and |0 - 4|
        assert_eq!(mean.absolute.tokens, [1.0, 5.0]);
        assert_eq!(mean.absolute.pieces, [1.0, 2.0, 3.0, 2.0]);
        assert_eq!(mean.signed.tokens, [0.0, -1.0]);
        assert_eq!(mean.signed.pieces, [0.0, 0.0, -3.0, 2.0]);
    }

    #[test]
    fn what_was_pruned_scores_nothing() {
        let prompt = Prompt::dense(2, 2, vec![1.0; 6]).masked(&[false, false, true, true, true, false]);
        let mut sums = Sums::new(&prompt);
        sums.add(&prompt, &Contribution { loss: 0.0, gradient: vec![1.0; 4] });
        assert_eq!(sums.mean().absolute.tokens, [0.0, 2.0, 1.0]);
    }
}
