//! Losses and prompt gradients of a batch, by the tuning graph; losses alone by its forward half.
//!
//! One session serves batches of any shape. Sessions of fixed shapes were measured on a CPU: no faster a step,
//! but each keeps its own buffers (4.1 GB for twelve lengths of short texts, against 0.7 GB).

mod batch;

use std::ops::Range;

use xprompt::engine::{Answers, Sizes, Source};
use xprompt::graph::{Activations, Graph};
use xprompt::runtime::{Input, Model, RuntimeError, Session};
use xprompt::t5::{Config, graphs};

use crate::example::Target;
use crate::lanes::Lanes;
use crate::plan::{Keeps, Plan};
use batch::Batch;

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
    /// Whether a run computed activations again.
    computed_again: bool,
}

/// A device's graphs.
#[derive(Debug)]
struct Graphs<'m> {
    model: &'m Model,
    tuning: Sessions,
    /// What the tuning graphs do with activations. Once a run computes them again all later ones do, which gives the same
    /// numbers: what two graphs hold at once would not fit.
    activations: Activations,
    loss: Sessions,
}

/// The sessions of one graph: one for labels, one for free text, each loaded when it is first needed.
#[derive(Debug, Default)]
struct Sessions {
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
    /// Whether a gradient keeps activations.
    activations: Activations,
}

// === impl Tuner ===

impl<'m> Tuner<'m> {
    /// A tuner of prompts for a model, given on each device that computes.
    ///
    /// # Panics
    /// If there is no device.
    #[must_use]
    pub fn new(devices: &'m [Model], plan: Plan) -> Self {
        let graphs = |model: &'m Model| (model.device(), Graphs::new(model));
        Self {
            config: devices[0].config(),
            plan,
            lanes: Lanes::new(devices.iter().map(graphs)),
            computed_again: false,
        }
    }

    /// Loss and prompt gradient of each example. Examples do not touch each other, so a batch may mix prompts and
    /// tasks; one that is too large for the memory, or for several devices, is run in parts, examples of similar length
    /// together.
    ///
    /// # Errors
    /// If ONNX Runtime fails; with several devices the error names the one.
    pub fn contributions(&mut self, examples: &[Tuned<'_>]) -> Result<Vec<Contribution>, RuntimeError> {
        let plan = self.plan;
        self.in_runs(|config, lengths| plan.gradient_runs(config, lengths), examples, Graphs::contributions)
    }

    /// Loss of each example, without the cost of a gradient. Batches are as those of
    /// [`contributions`](Self::contributions), but larger where memory is short.
    ///
    /// # Errors
    /// As [`contributions`](Self::contributions).
    pub fn losses(&mut self, examples: &[Tuned<'_>]) -> Result<Vec<f32>, RuntimeError> {
        let plan = self.plan;
        let cut = |config: &Config, lengths: &[usize]| -> Vec<(Range<usize>, Activations)> {
            let runs = plan.runs(config, Keeps::OneLayer, lengths).into_iter();
            runs.map(|run| (run, Activations::Kept)).collect()
        };
        self.in_runs(cut, examples, Graphs::losses)
    }

    /// Words about a device that is much slower than the others; once, when it is known.
    pub fn slow_device(&mut self) -> Option<String> {
        self.lanes.slow_device()
    }

    /// Whether the memory was too short to keep what gradients read, so that it is computed again.
    #[must_use]
    pub fn computes_again(&self) -> bool {
        self.computed_again
    }

    /// Runs examples of the same kind and of similar length together, as many as the plan allows. Results are in the
    /// order of the examples.
    fn in_runs<T: Clone + Send>(
        &mut self,
        cut: impl Fn(&Config, &[usize]) -> Vec<(Range<usize>, Activations)>,
        examples: &[Tuned<'_>],
        work: impl Fn(&mut Graphs<'m>, &Run, &[Tuned<'_>]) -> Result<Vec<T>, RuntimeError> + Sync,
    ) -> Result<Vec<T>, RuntimeError> {
        let length = |i: &usize| examples[*i].source.length(self.config.d_model);
        let mut runs = Vec::new();
        for kind in [graphs::Answers::Candidates, graphs::Answers::Vocabulary] {
            let mut order: Vec<usize> =
                (0..examples.len()).filter(|&i| kind_of(examples[i].answers) == kind).collect();
            order.sort_by_key(length);
            let lengths: Vec<usize> = order.iter().map(length).collect();
            runs.extend(cut(self.config, &lengths).into_iter().map(|(run, activations)| Run {
                kind,
                length: lengths[run.end - 1],
                examples: order[run].to_vec(),
                activations,
            }));
        }
        let several = self.lanes.count() > 1;
        let size = |run: &Run| run.examples.len() * run.length;
        let done = self.lanes.map(&runs, size, |graphs, run| {
            let chosen: Vec<Tuned<'_>> = run.examples.iter().map(|&i| examples[i]).collect();
            let result = work(graphs, run, &chosen);
            result.map_err(|error| if several { error.on(graphs.model.device()) } else { error })
        })?;
        self.computed_again |= runs.iter().any(|run| run.activations == Activations::Recomputed);
        let mut results: Vec<Option<T>> = vec![None; examples.len()];
        for (run, of_run) in runs.iter().zip(done) {
            for (&i, result) in run.examples.iter().zip(of_run) {
                results[i] = Some(result);
            }
        }
        Ok(results.into_iter().flatten().collect())
    }
}

fn kind_of(answers: &Answers) -> graphs::Answers {
    match answers {
        Answers::Labels { .. } => graphs::Answers::Candidates,
        Answers::Text { .. } => graphs::Answers::Vocabulary,
    }
}

// === impl Graphs ===

impl<'m> Graphs<'m> {
    fn new(model: &'m Model) -> Self {
        let (tuning, loss) = Default::default();
        Self { model, tuning, activations: Activations::Kept, loss }
    }

    fn contributions(
        &mut self,
        run: &Run,
        examples: &[Tuned<'_>],
    ) -> Result<Vec<Contribution>, RuntimeError> {
        if run.activations == Activations::Recomputed && self.activations == Activations::Kept {
            // what their runs took is free for the others
            self.tuning = Sessions::default();
            self.activations = Activations::Recomputed;
        }
        let (model, activations) = (self.model, self.activations);
        let config = self.model.config();
        let d = config.d_model;
        let batch = Batch::new(examples, config, Sizes::of(self.model.device()));
        let longest = examples.iter().map(|example| example.source.prompt.len() / d).max().unwrap_or(0);
        let positions: Vec<i64> = (0..longest as i64).collect();
        let mut inputs = batch.inputs();
        inputs.push((graphs::PROMPT_POSITIONS, Input::i64([longest], &positions)));
        let session = self.tuning.of(run.kind, model, || {
            graphs::tuning(model.checkpoint(), run.kind, model.arithmetic(), activations)
        })?;
        let mut outputs = session.run(&inputs)?;
        let losses = outputs.take(graphs::LOSS)?;
        let gradients = outputs.take(graphs::PROMPT_GRADIENT)?;
        let gradients = gradients.f32s()?;
        let each = losses.f32s()?.iter().zip(examples).enumerate();
        let contribution = |(i, (&loss, example)): (usize, (&f32, &Tuned<'_>))| Contribution {
            loss,
            gradient: gradients[i * longest * d..][..example.source.prompt.len()].to_vec(),
        };
        Ok(each.map(contribution).collect())
    }

    fn losses(&mut self, run: &Run, examples: &[Tuned<'_>]) -> Result<Vec<f32>, RuntimeError> {
        let model = self.model;
        let batch = Batch::new(examples, model.config(), Sizes::of(model.device()));
        let session = self
            .loss
            .of(run.kind, model, || graphs::loss(model.checkpoint(), run.kind, model.arithmetic()))?;
        let losses = session.run(&batch.inputs())?.take(graphs::LOSS)?;
        Ok(losses.f32s()?.to_vec())
    }
}

// === impl Sessions ===

impl Sessions {
    /// The session of a kind of answers, which is loaded from its graph if it is not yet.
    fn of(
        &mut self,
        kind: graphs::Answers,
        model: &Model,
        graph: impl FnOnce() -> Graph,
    ) -> Result<&mut Session, RuntimeError> {
        let slot = match kind {
            graphs::Answers::Candidates => &mut self.labels,
            graphs::Answers::Vocabulary => &mut self.text,
        };
        if slot.is_none() {
            *slot = Some(model.replayed_session(&graph())?);
        }
        Ok(slot.as_mut().expect("invariant: the session was loaded above"))
    }
}
