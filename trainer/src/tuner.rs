//! Losses and prompt gradients of a batch, by the tuning graph.
//!
//! One session serves batches of any shape. Sessions of fixed shapes were measured on a CPU: no faster a step,
//! but each keeps its own buffers (4.1 GB for twelve lengths of short texts, against 0.7 GB).

use xprompt::engine::{Answers, DecoderBatch, Source, SourceBatch, competing_tokens};
use xprompt::runtime::{Input, Model, RuntimeError, Session};
use xprompt::t5::{Buckets, graphs};
use xprompt::task::LabelTrie;

use crate::data::Target;
use crate::plan::examples_per_run;

/// Takes a candidate out of the running.
const OUT: f32 = -1e9;

/// One example of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Tuned<'a> {
    /// Prompt rows and text.
    pub source: Source<'a>,
    /// What the model should say.
    pub target: &'a Target,
}

/// What one example contributes.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// Negative log likelihood of its target, in nats.
    pub loss: f32,
    /// Derivative of that loss at the example's prompt rows, `[prompt tokens, d_model]`.
    pub gradient: Vec<f32>,
}

/// Runs the tuning graph of one task.
#[derive(Debug)]
pub struct Tuner<'m> {
    model: &'m Model,
    answers: &'m Answers,
    session: Session,
}

// === impl Tuner ===

impl<'m> Tuner<'m> {
    /// Loads the tuning graph of a task that answers with `answers`.
    ///
    /// # Errors
    /// If ONNX Runtime refuses it.
    pub fn new(model: &'m Model, answers: &'m Answers) -> Result<Self, RuntimeError> {
        let kind = match answers {
            Answers::Labels { .. } => graphs::Answers::Candidates,
            Answers::Text { .. } => graphs::Answers::Vocabulary,
        };
        let session = model.session(&graphs::tuning(model.checkpoint(), kind), &[])?;
        Ok(Self { model, answers, session })
    }

    /// Loss and prompt gradient of each example. Examples do not touch each other, so a batch may mix prompts; one
    /// that is too large for the memory is run in parts, examples of similar length together.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn contributions(&mut self, examples: &[Tuned<'_>]) -> Result<Vec<Contribution>, RuntimeError> {
        let d_model = self.model.config().d_model;
        let length = |example: &Tuned<'_>| example.source.length(d_model);
        let longest = examples.iter().map(length).max().unwrap_or(0);
        let part = examples_per_run(self.model.config(), longest);
        if examples.len() <= part {
            return self.run(examples);
        }
        let mut order: Vec<usize> = (0..examples.len()).collect();
        order.sort_by_key(|&i| length(&examples[i]));
        let mut results: Vec<(usize, Contribution)> = Vec::with_capacity(examples.len());
        for part in order.chunks(part) {
            let chosen: Vec<Tuned<'_>> = part.iter().map(|&i| examples[i]).collect();
            results.extend(part.iter().copied().zip(self.run(&chosen)?));
        }
        results.sort_by_key(|&(i, _)| i);
        Ok(results.into_iter().map(|(_, contribution)| contribution).collect())
    }

    fn run(&mut self, examples: &[Tuned<'_>]) -> Result<Vec<Contribution>, RuntimeError> {
        let config = self.model.config();
        let d = config.d_model;
        let sources: Vec<Source<'_>> = examples.iter().map(|example| example.source).collect();
        let source = SourceBatch::new(&sources, config);
        let ways: Vec<Way<'_>> = examples.iter().map(|example| self.way(example.target)).collect();
        let target = ways.iter().map(|way| way.tokens.len()).max().unwrap_or(1);
        let decoder = DecoderBatch::new(
            examples.len(),
            target,
            Buckets::new(config),
            |i| ways[i].tokens.iter().copied(),
            |_, position| position.checked_sub(1),
        );
        let candidates = match self.answers {
            Answers::Labels { trie, .. } => competing_tokens([trie].into_iter()),
            Answers::Text { .. } => Vec::new(),
        };
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
        let mut inputs = source.inputs();
        inputs.extend(decoder.inputs());
        inputs.push((graphs::TARGETS, Input::i64([examples.len(), target], &targets)));
        inputs.push((graphs::CANDIDATES, Input::i64([candidates.len()], &candidates)));
        inputs.push((graphs::COMPETES, Input::f32([examples.len(), target, candidates.len()], &competes)));
        let mut outputs = self.session.run(&inputs)?;
        let losses = outputs.take(graphs::LOSS)?;
        let gradients = outputs.take(graphs::PROMPT_GRADIENT)?;
        let rows = gradients.f32s()?.chunks(source.length() * d).zip(&sources);
        Ok(rows
            .zip(losses.f32s()?)
            .map(|((gradient, source), &loss)| Contribution {
                loss,
                gradient: gradient[..source.prompt.len()].to_vec(),
            })
            .collect())
    }

    fn way<'a>(&'a self, target: &'a Target) -> Way<'a> {
        let start = self.model.config().decoder_start_token_id;
        match (self.answers, target) {
            (Answers::Labels { trie, .. }, Target::Label(label)) => Way::to_label(trie, *label),
            (_, Target::Text { tokens, .. }) => Way::along(start, tokens),
            (Answers::Text { .. }, Target::Label(_)) => {
                unreachable!("the reader gives free-text tasks text targets")
            }
        }
    }
}

/// The decoder positions that lead to a target.
struct Way<'a> {
    tokens: Vec<u32>,
    /// The right token behind each position; none where there is no choice.
    answers: Vec<Option<u32>>,
    competitors: Vec<&'a [u32]>,
}

// === impl Way ===

impl<'a> Way<'a> {
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
