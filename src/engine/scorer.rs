//! Label scoring: a probability for every label of every example, from one run.

use super::Sizes;
use super::batch::{DecoderBatch, Source, SourceBatch};
use crate::runtime::{Input, Model, RuntimeError, Session};
use crate::t5::{Buckets, Config, graphs};
use crate::task::LabelTrie;

/// Scores labels over batches that may mix tasks.
#[derive(Debug)]
pub struct Scorer {
    session: Session,
    config: Config,
    sizes: Sizes,
}

// === impl Scorer ===

impl Scorer {
    /// Loads the scoring graph.
    ///
    /// # Errors
    /// If ONNX Runtime refuses it.
    pub fn new(model: &Model) -> Result<Self, RuntimeError> {
        let session = model.replayed_session(&graphs::scoring(model.checkpoint(), model.arithmetic()))?;
        Ok(Self { session, config: model.config().clone(), sizes: Sizes::of(model.device()) })
    }

    /// Probability of each label of each example's trie, in the examples' order.
    ///
    /// What an example gets does not depend on its batch mates beyond rounding.
    ///
    /// # Errors
    /// If the run fails.
    pub fn score(&mut self, examples: &[(Source<'_>, &LabelTrie)]) -> Result<Vec<Vec<f32>>, RuntimeError> {
        if examples.is_empty() {
            return Ok(Vec::new());
        }
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
