//! What a prompt file says about itself: JSON in the safetensors metadata.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of the file format that this program writes and reads.
pub const FORMAT: u32 = 1;

/// The manifest of a prompt file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the file format, [`FORMAT`].
    pub format: u32,
    /// The program that wrote the file, with its version.
    pub producer: String,
    /// Original number of prompt tokens.
    pub tokens: usize,
    /// Pieces a token is made of.
    pub pieces: usize,
    /// Width of a row.
    pub d_model: usize,
    /// The frozen model that the prompt was tuned on.
    pub base_model: Fingerprint,
    /// The tokenizer that cut its texts.
    pub tokenizer: Fingerprint,
    /// What makes a text into a prediction.
    pub task: TaskSpec,
    /// What was done to the prompt, in order.
    #[serde(default)]
    pub history: Vec<Stage>,
    /// What its importance was measured by.
    #[serde(default, skip_serializing_if = "ScoredBy::is_unknown")]
    pub scored_by: ScoredBy,
    /// The seed of the run.
    #[serde(default)]
    pub seed: u64,
    /// What it was tuned on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<DataSource>,
    /// Examples with the answers that the trainer saw: what is served has to repeat them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub golden: Vec<Golden>,
}

/// Names a model or a tokenizer and tells it from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// For people: the folder's name.
    pub name: String,
    /// For programs: a hash.
    pub fingerprint: String,
}

/// The model and tokenizer that a process serves or trains on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The frozen model.
    pub model: Fingerprint,
    /// Its tokenizer.
    pub tokenizer: Fingerprint,
    /// Width of its embeddings.
    pub d_model: usize,
}

/// What makes a text into a prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// The text that the model reads, with the input's fields in braces.
    pub template: String,
    /// What the model answers with.
    pub output: OutputSpec,
    /// Longest text in tokens, `</s>` included and the prompt not.
    pub max_input_tokens: usize,
    /// Fields of the template that are kept whole where a longer text is cut; others are cut at their ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// Inputs without content, such as `N/A`: label probabilities can be calibrated by what the model says to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content_free: Vec<Value>,
}

/// What the model answers with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum OutputSpec {
    /// One of several labels, each scored.
    Labels {
        /// The labels, in the order of the task file.
        labels: Vec<Label>,
    },
    /// Free text.
    Text {
        /// Longest answer in tokens.
        max_new_tokens: usize,
    },
}

/// A label and the words that the model is asked to say for it (its verbalizer).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// What answers are named by.
    pub name: String,
    /// What the model says.
    pub words: String,
}

/// One step of a prompt's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// `tuned`, `token_pruned`, `piece_pruned`, `rewound`.
    pub name: String,
    /// Tokens left after it.
    pub tokens: usize,
    /// Pieces left after it.
    pub pieces: usize,
    /// Values left after it.
    pub parameters: usize,
    /// The share that was pruned in it, if it pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// By which score it pruned, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// Optimizer steps taken in it.
    #[serde(default)]
    pub steps: usize,
    /// Metrics on the development set.
    #[serde(default)]
    pub dev: Map<String, Value>,
    /// Metrics on the test set.
    #[serde(default)]
    pub test: Map<String, Value>,
}

/// What the importance of a token or piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// The expected absolute derivative of the loss by the mask: XPrompt's.
    AbsoluteGradient,
    /// Minus the expected derivative with its sign.
    SignedGradient,
    /// How much the loss rises when the token or piece is left out.
    LeaveOneOut,
}

/// By which scores a prompt's importance was measured; none where it was not, or where an older program did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoredBy {
    /// That of its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Score>,
    /// That of its pieces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pieces: Option<Score>,
}

// === impl ScoredBy ===

impl ScoredBy {
    /// The same score for both.
    #[must_use]
    pub fn both(score: Score) -> Self {
        Self { tokens: Some(score), pieces: Some(score) }
    }

    /// Whether neither is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// A data file that a prompt was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSource {
    /// `train`, `dev` or `test`.
    pub split: String,
    /// Rows used.
    pub rows: usize,
    /// SHA-256 of the file, 16 hexadecimal digits.
    pub fingerprint: String,
}

/// An example with the answer that the trainer saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// A text, or an object with the template's fields.
    pub input: Value,
    /// Probability of each label in the order of the task, or empty for free text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<f32>,
    /// The generated text of a free-text task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}
