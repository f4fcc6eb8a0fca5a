//! Label scoring: a probability for every label of every example, from one run.

use std::ops::Range;

use super::Sizes;
use super::batch::{DecoderBatch, Source, SourceBatch};
use crate::graph::Kernels;
use crate::runtime::{Input, Model, RuntimeError, Session};
use crate::t5::{Buckets, Config, graphs};
use crate::task::LabelTrie;

/// Rows that a thread of a processor takes from layer to layer at once: what lies between two operators should stay in the
/// caches, and weights are read for all of them.
const ROWS_OF_A_THREAD: usize = 768;

/// Scores labels over batches that may mix tasks.
#[derive(Debug)]
pub struct Scorer {
    session: Session,
    config: Config,
    sizes: Sizes,
    /// Rows that a run should have at most.
    most_rows: usize,
}

// === impl Scorer ===

impl Scorer {
    /// Loads the scoring graph.
    ///
    /// # Errors
    /// If ONNX Runtime refuses it.
    pub fn new(model: &Model) -> Result<Self, RuntimeError> {
        let session = model.replayed_session(&graphs::scoring(model.checkpoint(), model.arithmetic()))?;
        let is_narrow = matches!(model.arithmetic().kernels, Kernels::Narrow(_));
        let most_rows = if is_narrow { ROWS_OF_A_THREAD * model.runtime().threads() } else { usize::MAX };
        Ok(Self { session, config: model.config().clone(), sizes: Sizes::of(model.device()), most_rows })
    }

    /// Probability of each label of each example's trie, in the examples' order.
    ///
    /// What an example gets does not depend on its batch mates beyond rounding.
    ///
    /// # Errors
    /// If the run fails.
    pub fn score(&mut self, examples: &[(Source<'_>, &LabelTrie)]) -> Result<Vec<Vec<f32>>, RuntimeError> {
        let length = |(source, _): &(Source<'_>, &LabelTrie)| source.length(self.config.d_model);
        let lengths: Vec<usize> = examples.iter().map(length).collect();
        let mut scores = Vec::with_capacity(examples.len());
        for run in even_runs(&lengths, self.most_rows) {
            scores.extend(self.run(&examples[run])?);
        }
        Ok(scores)
    }

    fn run(&mut self, examples: &[(Source<'_>, &LabelTrie)]) -> Result<Vec<Vec<f32>>, RuntimeError> {
        let batch = self.sizes.count(examples.len());
        let mut sources: Vec<Source<'_>> = examples.iter().map(|&(source, _)| source).collect();
        sources.resize(batch, Source { prompt: &[], text: &[] });
        let source = SourceBatch::new(&sources, &self.config, self.sizes);
        let target = examples.iter().map(|(_, trie)| trie.tokens().len()).max().unwrap_or(1);
        let target = self.sizes.count(target);
        let trie = |i: usize| examples[i].1;
        let decoder = DecoderBatch::new(
            batch,
            target,
            Buckets::new(&self.config),
            |i| examples.get(i).map(|(_, trie)| trie.tokens()).into_iter().flatten(),
            |i, position| trie(i).parent(position),
        );
        let competing = competing_tokens(examples.iter().map(|&(_, trie)| trie));
        let mut candidates = competing.clone();
        candidates.resize(self.sizes.count(competing.len()), 0);
        let mut inputs = source.inputs();
        inputs.extend(decoder.inputs());
        inputs.push((graphs::CANDIDATES, Input::i64([candidates.len()], &candidates)));
        let output = self.session.run(&inputs)?.take(graphs::LOGITS)?;
        let logits = output.f32s()?;
        Ok((0..examples.len())
            .map(|i| {
                trie(i).probabilities(|position, candidate| {
                    let token = i64::from(trie(i).candidates()[position][candidate]);
                    let column =
                        competing.binary_search(&token).expect("invariant: every candidate is listed");
                    logits[(i * target + position) * candidates.len() + column]
                })
            })
            .collect())
    }
}

/// Examples in runs of about as many rows, `most` if one has no more.
fn even_runs(lengths: &[usize], most: usize) -> Vec<Range<usize>> {
    let total: usize = lengths.iter().sum();
    let share = total.div_ceil(total.div_ceil(most).max(1));
    let (mut runs, mut rows) = (Vec::new(), 0);
    let mut run = 0..0;
    for (i, length) in lengths.iter().enumerate() {
        if !run.is_empty() && rows + length > share {
            runs.push(std::mem::replace(&mut run, i..i));
            rows = 0;
        }
        run.end = i + 1;
        rows += length;
    }
    runs.extend((!run.is_empty()).then_some(run));
    runs
}

/// The tokens that compete anywhere in the tries, each once, in order.
#[must_use]
pub fn competing_tokens<'a>(tries: impl Iterator<Item = &'a LabelTrie>) -> Vec<i64> {
    let mut seen: Vec<*const LabelTrie> = Vec::new();
    let mut tokens: Vec<i64> = Vec::new();
    for trie in tries {
        if !seen.contains(&std::ptr::from_ref(trie)) {
            seen.push(trie);
            tokens.extend(trie.candidates().iter().flatten().map(|&token| i64::from(token)));
        }
    }
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_run_in_even_parts() {
        let examples = |lengths: &[usize], most| -> Vec<usize> {
            let runs = even_runs(lengths, most);
            assert!(runs.iter().flat_map(Clone::clone).eq(0..lengths.len()), "each once, in their order");
            runs.iter().map(Range::len).collect()
        };
        assert!(examples(&[], 10).is_empty());
        assert_eq!(examples(&[3, 4, 3], usize::MAX), [3]);
        assert_eq!(examples(&[3, 4, 3], 10), [3]);
        assert_eq!(examples(&[3, 3, 3, 3], 10), [2, 2]);
        assert_eq!(examples(&[40, 1, 2, 50], 10), [1, 2, 1]);
        assert_eq!(examples(&[0, 0], 10), [2]);
    }
}
