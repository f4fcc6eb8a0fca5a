//! Losses and prompt gradients of a batch, by the tuning graph.
//!
//! One session serves batches of any shape. Sessions of fixed shapes were measured on a CPU: no faster a step,
//! but each keeps its own buffers (4.1 GB for twelve lengths of short texts, against 0.7 GB).

use xprompt::engine::{Answers, DecoderBatch, Source, SourceBatch, competing_tokens};
use xprompt::runtime::{Input, Model, RuntimeError, Session};
use xprompt::t5::{Buckets, Config, graphs};
use xprompt::task::LabelTrie;

use crate::example::Target;
use crate::lanes::Lanes;
use crate::plan::{Keeps, Plan};

/// Takes a candidate out of the running.
const OUT: f32 = -1e9;

/// One example of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Tuned<'a> {
    /// Prompt rows and text.
    pub source: Source<'a>,
    /// What the model should say.
    pub target: &'a Target,
    /// What it could say: the example's task.
    pub answers: &'a Answers,
}

/// What one example contributes.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// Negative log likelihood of its target, in nats.
    pub loss: f32,
    /// Derivative of that loss at the example's prompt rows, `[prompt tokens, d_model]`.
    pub gradient: Vec<f32>,
}

/// Runs the tuning graphs, over all devices of a setup.
#[derive(Debug)]
pub struct Tuner<'m> {
    config: &'m Config,
    plan: Plan,
    lanes: Lanes<Graphs<'m>>,
}

/// A device's tuning graphs: one for labels, one for free text, each loaded when it is first needed.
#[derive(Debug)]
struct Graphs<'m> {
    model: &'m Model,
    labels: Option<Session>,
    text: Option<Session>,
}

/// Examples that run together.
struct Run {
    kind: graphs::Answers,
    /// Their places.
    examples: Vec<usize>,
    /// Positions of the longest.
    length: usize,
}

// === impl Tuner ===

impl<'m> Tuner<'m> {
    /// A tuner of prompts for a model, given on each device that computes.
    ///
    /// # Panics
    /// If there is no device.
    #[must_use]
    pub fn new(devices: &'m [Model], plan: Plan) -> Self {
        let graphs = |model: &'m Model| (model.device(), Graphs { model, labels: None, text: None });
        Self { config: devices[0].config(), plan, lanes: Lanes::new(devices.iter().map(graphs)) }
    }

    /// Loss and prompt gradient of each example. Examples do not touch each other, so a batch may mix prompts and
    /// tasks; one that is too large for the memory, or for several devices, is run in parts, examples of similar length
    /// together.
    ///
    /// # Errors
    /// If ONNX Runtime fails; with several devices the error names the one.
    pub fn contributions(&mut self, examples: &[Tuned<'_>]) -> Result<Vec<Contribution>, RuntimeError> {
        let d_model = self.config.d_model;
        let length = |i: &usize| examples[*i].source.length(d_model);
        let mut runs = Vec::new();
        for kind in [graphs::Answers::Candidates, graphs::Answers::Vocabulary] {
            let mut order: Vec<usize> =
                (0..examples.len()).filter(|&i| graph_of(examples[i].answers) == kind).collect();
            order.sort_by_key(length);
            let lengths: Vec<usize> = order.iter().map(length).collect();
            runs.extend(self.plan.runs(self.config, Keeps::AllLayers, &lengths).into_iter().map(|run| Run {
                kind,
                length: lengths[run.end - 1],
                examples: order[run].to_vec(),
            }));
        }
        let several = self.lanes.count() > 1;
        let size = |run: &Run| run.examples.len() * run.length;
        let done = self.lanes.map(&runs, size, |graphs, run| {
            let chosen: Vec<Tuned<'_>> = run.examples.iter().map(|&i| examples[i]).collect();
            let result = graphs.run(run.kind, &chosen);
            result.map_err(|error| if several { error.on(graphs.model.device()) } else { error })
        })?;
        let mut results: Vec<Option<Contribution>> = vec![None; examples.len()];
        for (run, contributions) in runs.iter().zip(done) {
            for (&i, contribution) in run.examples.iter().zip(contributions) {
                results[i] = Some(contribution);
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// Words about a device that is much slower than the others; once, when it is known.
    pub fn slow_device(&mut self) -> Option<String> {
        self.lanes.slow_device()
    }
}

// === impl Graphs ===

impl Graphs<'_> {
    fn run(
        &mut self,
        kind: graphs::Answers,
        examples: &[Tuned<'_>],
    ) -> Result<Vec<Contribution>, RuntimeError> {
        let model = self.model;
        let config = model.config();
        let d = config.d_model;
        let sources: Vec<Source<'_>> = examples.iter().map(|example| example.source).collect();
        let source = SourceBatch::new(&sources, config);
        let ways: Vec<Way<'_>> = examples.iter().map(|example| self.way(example)).collect();
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
        let mut inputs = source.inputs();
        inputs.extend(decoder.inputs());
        inputs.push((graphs::TARGETS, Input::i64([examples.len(), target], &targets)));
        inputs.push((graphs::CANDIDATES, Input::i64([candidates.len()], &candidates)));
        inputs.push((graphs::COMPETES, Input::f32([examples.len(), target, candidates.len()], &competes)));
        let longest = examples.iter().map(|example| example.source.prompt.len() / d).max().unwrap_or(0);
        let longest_prompt = [longest as i64];
        inputs.push((graphs::PROMPT_LENGTH, Input::i64([1], &longest_prompt)));
        let mut outputs = self.session(kind)?.run(&inputs)?;
        let losses = outputs.take(graphs::LOSS)?;
        let gradients = outputs.take(graphs::PROMPT_GRADIENT)?;
        let gradients = gradients.f32s()?;
        Ok(losses
            .f32s()?
            .iter()
            .zip(&sources)
            .enumerate()
            .map(|(i, (&loss, source))| Contribution {
                loss,
                gradient: gradients[i * longest * d..][..source.prompt.len()].to_vec(),
            })
            .collect())
    }

    fn session(&mut self, kind: graphs::Answers) -> Result<&mut Session, RuntimeError> {
        let slot = match kind {
            graphs::Answers::Candidates => &mut self.labels,
            graphs::Answers::Vocabulary => &mut self.text,
        };
        if slot.is_none() {
            *slot = Some(self.model.session(&graphs::tuning(self.model.checkpoint(), kind), &[])?);
        }
        Ok(slot.as_mut().expect("invariant: the session was loaded above"))
    }

    fn way<'a>(&self, example: &Tuned<'a>) -> Way<'a> {
        let start = self.model.config().decoder_start_token_id;
        match (example.answers, example.target) {
            (Answers::Labels { trie, .. }, Target::Label(label)) => Way::to_label(trie, *label),
            (_, Target::Text { tokens, .. }) => Way::along(start, tokens),
            (Answers::Text { .. }, Target::Label(_)) => {
                unreachable!("the reader gives free-text tasks text targets")
            }
        }
    }
}

fn graph_of(answers: &Answers) -> graphs::Answers {
    match answers {
        Answers::Labels { .. } => graphs::Answers::Candidates,
        Answers::Text { .. } => graphs::Answers::Vocabulary,
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
