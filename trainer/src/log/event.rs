//! The events of a run.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use xprompt::prompt::{DataSource, Fingerprint};

use crate::summary::Arm;

/// What a run reports. A line of `log.jsonl` is one of these as a JSON object: `time` (seconds since the epoch),
/// `event` (the name, such as `part_started`), and the fields.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event of every run: all that is needed to run it again.
    RunStarted {
        /// The program and its version.
        producer: String,
        /// The frozen model.
        base_model: Fingerprint,
        /// Its tokenizer.
        tokenizer: Fingerprint,
        /// Where it runs, in words: device, threads, runtime.
        device: String,
        /// The seeds.
        seeds: Vec<u64>,
        /// The tasks.
        tasks: Vec<TaskStarted>,
    },
    /// A run that had ended early goes on from its last checkpoint.
    Resumed {
        /// The part that it goes on with.
        part: String,
        /// Optimizer steps of that part that are done.
        step: usize,
    },
    /// A part of the run begins.
    PartStarted {
        /// Such as `tuning` or `token pruning`.
        part: String,
    },
    /// A prompt in training was measured.
    Evaluation {
        /// The part.
        part: String,
        /// Which prompt.
        #[serde(flatten)]
        candidate: Candidate,
        /// Optimizer steps it has taken in this part.
        step: usize,
        /// Loss on train, smoothed; none at step 0.
        loss: Option<f32>,
        /// Name of the metric that choices are made by.
        metric: String,
        /// Its value on the part of dev that choices are made by.
        value: f64,
        /// Training examples of all candidates together a second, since the last evaluation; none at step 0.
        examples_per_second: Option<f64>,
    },
    /// A candidate fell behind and is trained no longer (successive halving).
    CandidateDropped {
        /// The part.
        part: String,
        /// Which prompt.
        #[serde(flatten)]
        candidate: Candidate,
        /// Optimizer steps it has taken in this part.
        step: usize,
    },
    /// The memory does not hold what gradients read: from this step on it is computed again.
    ComputedAgain {
        /// The part.
        part: String,
        /// Its optimizer step.
        step: usize,
        /// MiB that activations may take.
        mebibytes: usize,
    },
    /// A part of the run is done.
    PartFinished {
        /// The part.
        part: String,
        /// Wall time, over all its sittings.
        seconds: f64,
    },
    /// A stage of the method or a control is done and measured.
    StageRecorded {
        /// The task's name.
        task: String,
        /// The seed.
        seed: u64,
        /// Such as `tuned` or `random_mask`.
        arm: String,
        /// Tokens left.
        tokens: usize,
        /// Pieces left.
        pieces: usize,
        /// Values left.
        parameters: usize,
        /// Optimizer steps from the initial values on.
        steps: usize,
        /// Metrics by split (`choose`, `report`, `test`) and name.
        metrics: BTreeMap<String, BTreeMap<String, f64>>,
    },
    /// The last event of every run that was not ended early.
    RunFinished {
        /// Wall time, over all its sittings.
        seconds: f64,
    },
}

/// A task of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskStarted {
    /// Its name.
    pub task: String,
    /// Every setting in force, by section.
    pub settings: Value,
    /// The data used.
    pub data: Vec<DataSource>,
}

/// A prompt in training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// The task's name.
    pub task: String,
    /// The seed.
    pub seed: u64,
    /// What tells it from others of its task, seed and part, such as `30 %`; none if there is one only.
    #[serde(rename = "candidate", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

// === impl Event ===

impl Event {
    /// That an arm of a task is measured; `metrics` are the names of its values, as in
    /// [`Summary::metrics`](crate::summary::Summary::metrics).
    #[must_use]
    pub fn stage_recorded(task: &str, seed: u64, arm: &Arm, metrics: &[String]) -> Self {
        let by_split = arm.metrics.iter().map(|split| {
            let values = metrics.iter().zip(&split.values);
            (split.split.clone(), values.map(|(name, estimate)| (name.clone(), estimate.value)).collect())
        });
        Self::StageRecorded {
            task: task.into(),
            seed,
            arm: arm.name.clone(),
            tokens: arm.tokens,
            pieces: arm.pieces,
            parameters: arm.parameters,
            steps: arm.steps,
            metrics: by_split.collect(),
        }
    }

    /// The step and the values by tag that TensorBoard shows of the event, if it has any.
    pub(super) fn scalars(&self) -> Option<(usize, Vec<(String, f32)>)> {
        match self {
            Self::Evaluation { part, candidate, step, loss, metric, value, examples_per_second } => {
                let Candidate { task, seed, name } = candidate;
                let name = name.as_ref().map_or(String::new(), |name| format!("/{name}"));
                let tag = |what: &str| format!("{task}/seed-{seed}/{part}{name}/{what}");
                let values = [
                    loss.map(|loss| (tag("loss"), loss)),
                    Some((tag(&format!("choose/{metric}")), *value as f32)),
                    examples_per_second.map(|speed| (tag("examples_per_second"), speed as f32)),
                ];
                Some((*step, values.into_iter().flatten().collect()))
            }
            Self::StageRecorded { task, seed, arm, steps, metrics, .. } => {
                let tag = |split: &str, name: &str| format!("{task}/seed-{seed}/{arm}/{split}/{name}");
                let values = metrics.iter().flat_map(|(split, values)| {
                    values.iter().map(move |(name, &value)| (tag(split, name), value as f32))
                });
                Some((*steps, values.collect()))
            }
            Self::RunStarted { .. }
            | Self::Resumed { .. }
            | Self::PartStarted { .. }
            | Self::CandidateDropped { .. }
            | Self::ComputedAgain { .. }
            | Self::PartFinished { .. }
            | Self::RunFinished { .. } => None,
        }
    }
}
