//! Losses and prompt gradients of a batch, by the tuning graph; losses alone by its forward half.
//!
//! One session serves batches of any shape. Sessions of fixed shapes were measured on a CPU: no faster a step,
//! but each keeps its own buffers (4.1 GB for twelve lengths of short texts, against 0.7 GB).

mod batch;

use xprompt::engine::{Answers, Source};
use xprompt::graph::{Arithmetic, Graph};
use xprompt::runtime::{Input, Model, RuntimeError, Session};
use xprompt::t5::{Checkpoint, graphs};

use crate::example::Target;
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

/// Runs the tuning graphs and the loss graphs. Each has a form for labels and one for free text, and each is loaded when
/// it is first needed.
#[derive(Debug)]
pub struct Tuner<'m> {
    model: &'m Model,
    plan: Plan,
    tuning: Sessions,
    loss: Sessions,
}

/// The sessions of one graph.
#[derive(Debug)]
struct Sessions {
    graph: fn(&Checkpoint, graphs::Answers, Arithmetic) -> Graph,
    labels: Option<Session>,
    text: Option<Session>,
}

// === impl Tuner ===

impl<'m> Tuner<'m> {
    /// A tuner of prompts for `model`.
    #[must_use]
    pub fn new(model: &'m Model, plan: Plan) -> Self {
        Self { model, plan, tuning: Sessions::new(graphs::tuning), loss: Sessions::new(graphs::loss) }
    }

    /// Loss and prompt gradient of each example. Examples do not touch each other, so a batch may mix prompts and
    /// tasks; one that is too large for the memory is run in parts, examples of similar length together.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn contributions(&mut self, examples: &[Tuned<'_>]) -> Result<Vec<Contribution>, RuntimeError> {
        let Self { model, plan, tuning, .. } = self;
        let d = model.config().d_model;
        in_runs(model, *plan, Keeps::AllLayers, examples, |kind, examples| {
            let batch = Batch::new(examples, model.config());
            let longest = examples.iter().map(|example| example.source.prompt.len() / d).max().unwrap_or(0);
            let longest_prompt = [longest as i64];
            let mut inputs = batch.inputs();
            inputs.push((graphs::PROMPT_LENGTH, Input::i64([1], &longest_prompt)));
            let mut outputs = tuning.of(kind, model)?.run(&inputs)?;
            let losses = outputs.take(graphs::LOSS)?;
            let gradients = outputs.take(graphs::PROMPT_GRADIENT)?;
            let gradients = gradients.f32s()?;
            let each = losses.f32s()?.iter().zip(examples).enumerate();
            let contribution = |(i, (&loss, example)): (usize, (&f32, &Tuned<'_>))| Contribution {
                loss,
                gradient: gradients[i * longest * d..][..example.source.prompt.len()].to_vec(),
            };
            Ok(each.map(contribution).collect())
        })
    }

    /// Loss of each example, without the cost of a gradient. Batches are as those of
    /// [`contributions`](Self::contributions), but larger where memory is short.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn losses(&mut self, examples: &[Tuned<'_>]) -> Result<Vec<f32>, RuntimeError> {
        let Self { model, plan, loss, .. } = self;
        in_runs(model, *plan, Keeps::OneLayer, examples, |kind, examples| {
            let batch = Batch::new(examples, model.config());
            let losses = loss.of(kind, model)?.run(&batch.inputs())?.take(graphs::LOSS)?;
            Ok(losses.f32s()?.to_vec())
        })
    }
}

/// Runs examples of the same kind and of similar length together, as many as the plan allows. Results are in the order
/// of the examples.
fn in_runs<T: Clone>(
    model: &Model,
    plan: Plan,
    keeps: Keeps,
    examples: &[Tuned<'_>],
    mut run: impl FnMut(graphs::Answers, &[Tuned<'_>]) -> Result<Vec<T>, RuntimeError>,
) -> Result<Vec<T>, RuntimeError> {
    let config = model.config();
    let length = |i: &usize| examples[*i].source.length(config.d_model);
    let mut results: Vec<Option<T>> = vec![None; examples.len()];
    for kind in [graphs::Answers::Candidates, graphs::Answers::Vocabulary] {
        let mut order: Vec<usize> =
            (0..examples.len()).filter(|&i| kind_of(examples[i].answers) == kind).collect();
        order.sort_by_key(length);
        let lengths: Vec<usize> = order.iter().map(length).collect();
        for range in plan.runs(config, keeps, &lengths) {
            let order = &order[range];
            let chosen: Vec<Tuned<'_>> = order.iter().map(|&i| examples[i]).collect();
            for (&i, result) in order.iter().zip(run(kind, &chosen)?) {
                results[i] = Some(result);
            }
        }
    }
    Ok(results.into_iter().flatten().collect())
}

fn kind_of(answers: &Answers) -> graphs::Answers {
    match answers {
        Answers::Labels { .. } => graphs::Answers::Candidates,
        Answers::Text { .. } => graphs::Answers::Vocabulary,
    }
}

// === impl Sessions ===

impl Sessions {
    fn new(graph: fn(&Checkpoint, graphs::Answers, Arithmetic) -> Graph) -> Self {
        Self { graph, labels: None, text: None }
    }

    fn of(&mut self, kind: graphs::Answers, model: &Model) -> Result<&mut Session, RuntimeError> {
        let slot = match kind {
            graphs::Answers::Candidates => &mut self.labels,
            graphs::Answers::Vocabulary => &mut self.text,
        };
        if slot.is_none() {
            *slot = Some(model.session(&(self.graph)(model.checkpoint(), kind, model.arithmetic()), &[])?);
        }
        Ok(slot.as_mut().expect("invariant: the session was loaded above"))
    }
}
