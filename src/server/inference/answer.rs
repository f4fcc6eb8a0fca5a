//! What a call gets.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::labels::Scored;
use crate::engine::TaskCard;
use crate::server::Problem;
use crate::server::problem::ProblemDocument;

/// The answer to a call.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::server) struct Answered {
    /// The task that answered.
    pub(in crate::server) task: String,
    /// Its version.
    pub(in crate::server) version: String,
    /// One for each input, in their order.
    pub(in crate::server) predictions: Vec<Prediction>,
    pub(in crate::server) usage: Usage,
    /// What drawn texts follow from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::server) seed: Option<u64>,
}

/// Tokens that the call took.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(in crate::server) struct Usage {
    /// Of the texts, end tokens included.
    pub(in crate::server) input_tokens: usize,
    /// Of the prompt, once for every input.
    pub(in crate::server) prompt_tokens: usize,
    /// Generated.
    pub(in crate::server) output_tokens: usize,
}

/// What one input gets: a label, a text, or an error of its own.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::server) enum Prediction {
    /// The most probable label.
    Label {
        /// None where the task abstains.
        #[schema(required)]
        label: Option<String>,
        /// Of the best label, also where the task abstains.
        score: f32,
        /// By label, the highest first.
        #[schema(value_type = std::collections::HashMap<String, f32>)]
        scores: Scores,
        /// There where the best score is below `abstain_below`.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        #[schema(required = false)]
        abstained: bool,
        /// There where the input was cut.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        #[schema(required = false)]
        truncated: bool,
    },
    /// A generated text.
    Text {
        text: String,
        finish_reason: FinishReason,
        /// There where the input was cut.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        #[schema(required = false)]
        truncated: bool,
    },
    /// Why this input was not answered.
    Failed {
        #[schema(value_type = ProblemDocument)]
        error: Problem,
    },
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::server) enum FinishReason {
    /// The model ended it, or a stop text came.
    Stop,
    /// The longest length was reached.
    Length,
}

/// Probabilities by label, the highest first.
#[derive(Debug)]
pub(in crate::server) struct Scores(Vec<(String, f32)>);

// === impl Answered ===

impl Answered {
    pub(in crate::server) fn new(task: String, ready: &TaskCard, seed: Option<u64>) -> Self {
        Self {
            task,
            version: ready.version().to_owned(),
            predictions: Vec::new(),
            usage: Usage::default(),
            seed,
        }
    }
}

// === impl Usage ===

impl Usage {
    /// Adds what an input took.
    pub(in crate::server) fn count(&mut self, input: usize, output: usize, task: &TaskCard) {
        self.input_tokens += input;
        self.prompt_tokens += task.kept_tokens();
        self.output_tokens += output;
    }
}

// === impl Prediction ===

impl Prediction {
    pub(super) fn of_labels(scored: Scored, truncated: bool) -> Self {
        let Scored { label, score, scores } = scored;
        Self::Label { abstained: label.is_none(), label, score, scores: Scores(scores), truncated }
    }

    /// The label or the text, nothing where the task abstains; `None` of an input that could not be answered.
    pub(super) fn said(&self) -> Option<String> {
        match self {
            Self::Label { label, .. } => Some(label.clone().unwrap_or_default()),
            Self::Text { text, .. } => Some(text.clone()),
            Self::Failed { .. } => None,
        }
    }
}

// === impl FinishReason ===

impl FinishReason {
    /// As it is written.
    pub(in crate::server) fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

// === impl Scores ===

impl Scores {
    pub(in crate::server) fn iter(&self) -> std::slice::Iter<'_, (String, f32)> {
        self.0.iter()
    }
}

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (label, score) in &self.0 {
            map.serialize_entry(label, score)?;
        }
        map.end()
    }
}
