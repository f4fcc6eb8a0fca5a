//! Label scoring: a probability for every label of every example, from one run.

use super::batch::{DecoderBatch, Source, SourceBatch};
use crate::runtime::{Input, Model, RuntimeError, Session};
use crate::t5::{Buckets, Config, graphs};
use crate::task::LabelTrie;

/// Scores labels over batches that may mix tasks.
#[derive(Debug)]
pub struct Scorer {
    session: Session,
    config: Config,
}

// === impl Scorer ===

impl Scorer {
    /// Loads the scoring graph.
    ///
    /// # Errors
    /// If ONNX Runtime refuses it.
    pub fn new(model: &Model) -> Result<Self, RuntimeError> {
        let session = model.session(&graphs::scoring(model.checkpoint(), model.arithmetic()), &[])?;
        Ok(Self { session, config: model.config().clone() })
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
        let sources: Vec<Source<'_>> = examples.iter().map(|&(source, _)| source).collect();
        let source = SourceBatch::new(&sources, &self.config);
        let target = examples.iter().map(|(_, trie)| trie.tokens().len()).max().unwrap_or(1);
        let trie = |i: usize| examples[i].1;
        let decoder = DecoderBatch::new(
            examples.len(),
            target,
            Buckets::new(&self.config),
            |i| trie(i).tokens(),
            |i, position| trie(i).parent(position),
        );
        let candidates = competing_tokens(examples.iter().map(|&(_, trie)| trie));
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
                        candidates.binary_search(&token).expect("invariant: every candidate is listed");
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
