//! Examples with their targets as the tensors of a run.

use xprompt::engine::{Answers, DecoderBatch, Sizes, Source, SourceBatch, competing_tokens};
use xprompt::runtime::Input;
use xprompt::t5::{Buckets, Config, graphs};
use xprompt::task::LabelTrie;

use super::Tuned;
use crate::example::Target;

/// Takes a candidate out of the running.
const OUT: f32 = -1e9;

/// What tuning graph and loss graph read alike.
pub(super) struct Batch {
    source: SourceBatch,
    decoder: DecoderBatch,
    /// `[batch, target]`.
    shape: [usize; 2],
    candidates: Vec<i64>,
    targets: Vec<i64>,
    /// `[batch, target, candidates]`.
    competes: Vec<f32>,
}

/// The decoder positions that lead to a target.
struct Way<'a> {
    tokens: Vec<u32>,
    /// The right token behind each position; none where there is no choice.
    answers: Vec<Option<u32>>,
    competitors: Vec<&'a [u32]>,
}

// === impl Batch ===

impl Batch {
    /// Pads examples that all answer with labels, or all with texts.
    pub(super) fn new(examples: &[Tuned<'_>], config: &Config, sizes: Sizes) -> Self {
        let sources: Vec<Source<'_>> = examples.iter().map(|example| example.source).collect();
        let ways: Vec<Way<'_>> =
            examples.iter().map(|example| Way::new(example, config.decoder_start_token_id)).collect();
        let target = ways.iter().map(|way| way.tokens.len()).max().unwrap_or(1);
        let decoder = DecoderBatch::new(
            examples.len(),
            target,
            Buckets::new(config),
            |i| ways[i].tokens.iter().copied(),
            |_, position| position.checked_sub(1),
        );
        let candidates = competing_tokens(examples.iter().filter_map(|example| match example.answers {
            Answers::Labels { trie, .. } => Some(trie),
            Answers::Text { .. } => None,
        }));
        let mut targets = vec![-1; examples.len() * target];
        let mut competes = vec![OUT; examples.len() * target * candidates.len()];
        for (i, way) in ways.iter().enumerate() {
            for (position, answer) in way.answers.iter().enumerate() {
                let row = i * target + position;
                let column = |token: u32| candidates.binary_search(&i64::from(token));
                let Some(token) = *answer else { continue };
                // for free text the columns are the vocabulary itself
                targets[row] = column(token).map_or(i64::from(token), |column| column as i64);
                for &token in way.competitors.get(position).into_iter().flat_map(|tokens| tokens.iter()) {
                    if let Ok(column) = column(token) {
                        competes[row * candidates.len() + column] = 0.0;
                    }
                }
            }
        }
        let source = SourceBatch::new(&sources, config, sizes);
        Self { source, decoder, shape: [examples.len(), target], candidates, targets, competes }
    }

    pub(super) fn inputs(&self) -> Vec<(&'static str, Input<'_>)> {
        let ([batch, target], candidates) = (self.shape, self.candidates.len());
        let mut inputs = self.source.inputs();
        inputs.extend(self.decoder.inputs());
        inputs.push((graphs::TARGETS, Input::i64([batch, target], &self.targets)));
        inputs.push((graphs::CANDIDATES, Input::i64([candidates], &self.candidates)));
        inputs.push((graphs::COMPETES, Input::f32([batch, target, candidates], &self.competes)));
        inputs
    }
}

// === impl Way ===

impl<'a> Way<'a> {
    /// To an example's target; a free text begins after the `start` token.
    fn new(example: &Tuned<'a>, start: u32) -> Self {
        match (example.answers, example.target) {
            (Answers::Labels { trie, .. }, Target::Label(label)) => Self::to_label(trie, *label),
            (_, Target::Text { tokens, .. }) => Self::along(start, tokens),
            (Answers::Text { .. }, Target::Label(_)) => {
                unreachable!("the reader gives free-text tasks text targets")
            }
        }
    }

    /// From the root of a label trie to the label's last decision.
    fn to_label(trie: &'a LabelTrie, label: usize) -> Self {
        let decisions = trie.decisions(label);
        let last = decisions.last().map_or(0, |decision| decision.position);
        let mut path: Vec<usize> = std::iter::successors(Some(last), |&at| trie.parent(at)).collect();
        path.reverse();
        let all: Vec<u32> = trie.tokens().collect();
        let answer = |at: &usize| {
            let decision = decisions.iter().find(|decision| decision.position == *at)?;
            Some(trie.candidates()[*at][decision.candidate])
        };
        Self {
            tokens: path.iter().map(|&at| all[at]).collect(),
            answers: path.iter().map(answer).collect(),
            competitors: path.iter().map(|&at| trie.candidates()[at].as_slice()).collect(),
        }
    }

    /// Along a text, where the whole vocabulary competes.
    fn along(start: u32, tokens: &[u32]) -> Self {
        let shifted = std::iter::once(start).chain(tokens.iter().copied()).take(tokens.len());
        Self {
            tokens: shifted.collect(),
            answers: tokens.iter().copied().map(Some).collect(),
            competitors: Vec::new(),
        }
    }
}
