//! What each token and piece of a prompt contributes (XPrompt, section 3.2).
//!
//! With a mask gamma on tokens and zeta on pieces, both one, I(i) = E_x |dL(x)/dgamma_i| and likewise for pieces;
//! the derivative at a mask of ones is the dot product of the masked values with their gradient, so no mask is
//! ever part of the graph: dL/dgamma_i = <p_i, dL/dp_i>, dL/dzeta_ij = <p_ij, dL/dp_ij>.

use xprompt::engine::Source;
use xprompt::prompt::Prompt;
use xprompt::runtime::RuntimeError;

use crate::data::Example;
use crate::tuner::{Contribution, Tuned, Tuner};

/// Scores over the original tokens and pieces of a prompt; what was pruned before scores 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// `[tokens]`.
    pub tokens: Vec<f32>,
    /// `[tokens, pieces]`.
    pub pieces: Vec<f32>,
}

/// Averages the absolute derivative of each example's loss over the examples.
///
/// # Errors
/// If ONNX Runtime fails.
pub fn importance(
    prompt: &Prompt,
    examples: &[&Example],
    batch_size: usize,
    tuner: &mut Tuner<'_>,
    mut done: impl FnMut(usize),
) -> Result<Importance, RuntimeError> {
    let mut sums = Sums::new(prompt);
    let mut order: Vec<&Example> = examples.to_vec();
    order.sort_by_key(|example| example.source.len());
    for batch in order.chunks(batch_size) {
        // the last batch repeats its last example, so that its shape is one that is loaded already
        let filled = batch.iter().chain(std::iter::repeat(&batch[batch.len() - 1])).take(batch_size);
        let tuned: Vec<Tuned<'_>> = filled
            .map(|example| Tuned {
                source: Source { prompt: prompt.rows(), text: &example.source },
                target: &example.target,
            })
            .collect();
        let contributions = tuner.contributions(&tuned)?;
        contributions[..batch.len()].iter().for_each(|contribution| sums.add(prompt, contribution));
        done(batch.len());
    }
    Ok(sums.mean())
}

struct Sums {
    examples: usize,
    tokens: Vec<f64>,
    pieces: Vec<f64>,
}

// === impl Sums ===

impl Sums {
    fn new(prompt: &Prompt) -> Self {
        let (tokens, pieces) = (prompt.tokens(), prompt.piece_mask().len());
        Self { examples: 0, tokens: vec![0.0; tokens], pieces: vec![0.0; pieces] }
    }

    fn add(&mut self, prompt: &Prompt, contribution: &Contribution) {
        let (d, k) = (prompt.d_model(), prompt.pieces());
        let rows = prompt.rows().chunks(d).zip(contribution.gradient.chunks(d));
        for (token, (row, gradient)) in prompt.kept_tokens().zip(rows) {
            let width = prompt.piece_width();
            let pieces = row.chunks(width).zip(gradient.chunks(width)).map(|(p, g)| dot(p, g));
            let mut total = 0.0;
            for (piece, derivative) in pieces.enumerate() {
                self.pieces[token * k + piece] += derivative.abs();
                total += derivative;
            }
            self.tokens[token] += total.abs();
        }
        self.examples += 1;
    }

    fn mean(self) -> Importance {
        let n = self.examples.max(1) as f64;
        let mean = |sums: Vec<f64>| sums.into_iter().map(|sum| (sum / n) as f32).collect();
        Importance { tokens: mean(self.tokens), pieces: mean(self.pieces) }
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
        assert_eq!(mean.tokens, [1.0, 5.0]);
        assert_eq!(mean.pieces, [1.0, 2.0, 3.0, 2.0]);
    }

    #[test]
    fn what_was_pruned_scores_nothing() {
        let prompt = Prompt::dense(2, 2, vec![1.0; 6]).masked(&[false, false, true, true, true, false]);
        let mut sums = Sums::new(&prompt);
        sums.add(&prompt, &Contribution { loss: 0.0, gradient: vec![1.0; 4] });
        assert_eq!(sums.mean().tokens, [0.0, 2.0, 1.0]);
    }
}
