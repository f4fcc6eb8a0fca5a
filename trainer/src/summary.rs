//! What a run found, as its `summary.json`: everything that the report shows.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use xprompt::prompt::{DataSource, Fingerprint, TaskSpec};

/// Version of the summary's form.
pub const FORMAT: u32 = 2;

/// Everything that a run of one task found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this form, [`FORMAT`].
    pub format: u32,
    /// The program and its version.
    pub producer: String,
    /// The command line that asked for the run.
    pub command: String,
    /// The task's name: the stem of its file.
    pub name: String,
    /// What makes a text into a prediction.
    pub task: TaskSpec,
    /// Every setting in force, by section.
    pub settings: Value,
    /// The frozen model.
    pub base_model: Fingerprint,
    /// Its tokenizer.
    pub tokenizer: Fingerprint,
    /// Where it ran, in words: device, threads, runtime.
    pub device: String,
    /// The data used: `train`, `choose` and `report` (the parts of dev), `test`.
    pub data: Vec<DataSource>,
    /// Accuracy of always answering the most frequent label, by split. Empty for free text.
    pub majority: Map<String, Value>,
    /// Names of the metrics; choices are made by the first.
    pub metrics: Vec<String>,
    /// One entry a seed.
    pub seeds: Vec<SeedSummary>,
    /// Every arm over all seeds, in the order of a table: stages first, then controls.
    pub table: Vec<ArmOverSeeds>,
    /// Wall time of each part of the run, in its order.
    pub times: Vec<Timing>,
    /// Wall time of the whole run, over all its sittings.
    pub seconds: f64,
}

/// Wall time of a part of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// What was done, such as `tuning` or `token pruning`.
    pub part: String,
    /// How long it took.
    pub seconds: f64,
}

/// What was found with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedSummary {
    /// The seed.
    pub seed: u64,
    /// Where the initial values come from, in words.
    pub origin: String,
    /// Stages and controls.
    pub arms: Vec<Arm>,
    /// Every pruning ratio that was tried.
    pub trials: Vec<Trial>,
    /// Importance of the tuned prompt's tokens, `[tokens]`.
    pub token_importance: Vec<f32>,
    /// Importance of pieces, `[tokens, pieces]`; zero for the tokens that were pruned before pieces were scored.
    pub piece_importance: Vec<f32>,
    /// Tokens of the XPrompt that are left, `[tokens]`.
    pub token_mask: Vec<bool>,
    /// Pieces of the XPrompt that are left, `[tokens, pieces]`.
    pub piece_mask: Vec<bool>,
    /// Tokens of the tuned prompt masked without retraining (Figure 2 of the paper); empty if it was not asked for.
    pub masking: Vec<Masking>,
}

/// A prompt that the run compares: a stage of the method or a control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Such as `tuned`, `xprompt`, `continued`, `random_mask`.
    pub name: String,
    /// Tokens left.
    pub tokens: usize,
    /// Pieces left.
    pub pieces: usize,
    /// Values left.
    pub parameters: usize,
    /// Bytes of its prompt file's tensors: values and masks.
    pub bytes: usize,
    /// Optimizer steps from the initial values to the end of its training, the tuned prompt's own included.
    pub steps: usize,
    /// How its last training ended; none if it was not trained after its mask was set.
    pub training: Option<Training>,
    /// Metrics by split (`choose`, `report`, `test`).
    pub metrics: Vec<SplitMetrics>,
}

/// How a training went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Steps taken.
    pub steps: usize,
    /// The step whose values were kept: the best by the metric of choice.
    pub best_step: usize,
    /// Why it ended.
    pub end: End,
    /// Evaluations on the way.
    pub curve: Vec<Point>,
}

/// Why a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The metric had stopped improving (patience).
    Converged,
    /// Its steps were used up.
    StepLimit,
    /// It fell behind the other candidates (successive halving).
    Dropped,
}

/// An evaluation during training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps taken.
    pub step: usize,
    /// Loss on train, smoothed; none at step 0.
    pub loss: Option<f32>,
    /// The first metric on the part of dev that choices are made by.
    pub metric: f64,
}

/// Metrics on one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitMetrics {
    /// `choose`, `report` or `test`.
    pub split: String,
    /// In the order of [`Summary::metrics`].
    pub values: Vec<Estimate>,
}

/// A value with its 95 % interval by bootstrap over examples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// One pruning ratio that was tried: masked, rewound to the tuned values, retrained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// `token`, `piece` (of the tokens that were left), or `piece_only` (of all tokens).
    pub level: String,
    /// The share that was pruned.
    pub ratio: f64,
    /// Tokens left.
    pub tokens: usize,
    /// Pieces left.
    pub pieces: usize,
    /// The first metric on the choosing part of dev before retraining.
    pub choose_pruned: f64,
    /// The same after retraining: what the ratio is chosen by.
    pub choose: f64,
    /// The same on the part of dev held back; none if nothing is held back.
    pub report: Option<f64>,
    /// Whether it won its level.
    pub chosen: bool,
    /// How its retraining went.
    pub training: Training,
}

/// The tuned prompt with some tokens masked, not retrained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Masking {
    /// The part of the data that it was measured on: `test`, `report` or `choose`.
    pub split: String,
    /// How many tokens were masked.
    pub masked: usize,
    /// The first metric with the tokens of lowest importance masked.
    pub lowest: f64,
    /// With as many masked at random, one entry a draw.
    pub random: Vec<f64>,
    /// With those of highest importance masked.
    pub highest: f64,
}

/// An arm over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmOverSeeds {
    /// The arm's name.
    pub name: String,
    /// Mean number of tokens left.
    pub tokens: f64,
    /// Mean number of pieces left.
    pub pieces: f64,
    /// Mean number of values left.
    pub parameters: f64,
    /// Mean number of bytes of its prompt file's tensors.
    pub bytes: f64,
    /// Mean number of optimizer steps.
    pub steps: f64,
    /// By split, and there in the order of [`Summary::metrics`].
    pub splits: Vec<SplitOverSeeds>,
}

/// One split of an arm over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitOverSeeds {
    /// `choose`, `report` or `test`.
    pub split: String,
    /// Mean and deviation over seeds.
    pub values: Vec<OverSeeds>,
    /// The first metric less that of the `tuned` arm, paired by seed and example; none for that arm itself.
    pub over_tuned: Option<Estimate>,
    /// The first metric less that of the `continued` arm (the unmasked continuation), likewise.
    pub over_continued: Option<Estimate>,
    /// The first metric less that of the `random_mask` arm, likewise; none if there is no such arm.
    pub over_random: Option<Estimate>,
}

/// A value over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverSeeds {
    /// Mean.
    pub mean: f64,
    /// Standard deviation (n - 1); none for one seed.
    pub deviation: Option<f64>,
    /// The mean's 95 % interval by bootstrap over seeds and examples.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}
