//! What a predict call gets.

use std::sync::Arc;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::engine::{Answer, Answers, Finish, ReadyTask, Reply};
use crate::server::{Code, Problem};
use crate::task::Tokenizer;

/// The answer to a call.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Answered {
    pub(super) task: String,
    version: String,
    pub(super) predictions: Vec<Prediction>,
    pub(super) usage: Usage,
}

/// Tokens that the call took.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(in crate::server) struct Usage {
    /// Of the texts, end tokens included.
    pub(in crate::server) input_tokens: usize,
    /// Of the prompt, once for every input.
    pub(in crate::server) prompt_tokens: usize,
    /// Generated.
    pub(in crate::server) output_tokens: usize,
}

/// What one input gets.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(in crate::server) enum Prediction {
    /// The most probable label.
    Label {
        label: String,
        score: f32,
        scores: Scores,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        truncated: bool,
    },
    /// A generated text.
    Text {
        text: String,
        finish_reason: &'static str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        truncated: bool,
    },
    /// The input cannot be answered.
    Failed { error: Problem },
}

/// Probabilities by label, the highest first.
#[derive(Debug)]
pub(in crate::server) struct Scores(Vec<(String, f32)>);

// === impl Answered ===

impl Answered {
    pub(super) fn new(task: String, ready: &Arc<ReadyTask>, inputs: usize) -> Self {
        let predictions = Vec::with_capacity(inputs);
        Self { task, version: ready.version().to_owned(), predictions, usage: Usage::default() }
    }

    /// Adds what an input took.
    pub(super) fn count(&mut self, reply: &Reply, input_tokens: usize, task: &ReadyTask) {
        self.usage.input_tokens += input_tokens;
        self.usage.prompt_tokens += task.kept_tokens();
        if let Answer::Text(generated) = &reply.answer {
            self.usage.output_tokens += generated.tokens.len();
        }
    }
}

// === impl Prediction ===

impl Prediction {
    /// The engine's answer in the task's terms.
    pub(super) fn of(
        answer: Answer,
        task: &ReadyTask,
        tokenizer: &Tokenizer,
        top_k: Option<usize>,
        truncated: bool,
    ) -> Result<Self, Problem> {
        match (answer, task.answers()) {
            (Answer::Labels(scores), Answers::Labels { names, .. }) => {
                let mut scores: Vec<(String, f32)> = names.iter().cloned().zip(scores).collect();
                // stable: of equal labels the first in the task's order wins
                scores.sort_by(|a, b| b.1.total_cmp(&a.1));
                scores.truncate(top_k.unwrap_or(usize::MAX));
                let (label, score) = scores.first().cloned().unwrap_or_default();
                Ok(Self::Label { label, score, scores: Scores(scores), truncated })
            }
            (Answer::Text(generated), _) => {
                let text = tokenizer
                    .decode(&generated.tokens)
                    .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
                let finish_reason = match generated.finish {
                    Finish::Stop => "stop",
                    Finish::Length => "length",
                };
                Ok(Self::Text { text, finish_reason, truncated })
            }
            (Answer::Labels(_), Answers::Text { .. }) => {
                Err(Problem::new(Code::Internal, "the engine scored labels of a free-text task"))
            }
        }
    }

    /// The label or the text; `None` of an input that could not be answered.
    pub(in crate::server) fn said(&self) -> Option<String> {
        match self {
            Self::Label { label, .. } => Some(label.clone()),
            Self::Text { text, .. } => Some(text.clone()),
            Self::Failed { .. } => None,
        }
    }

    pub(super) fn failed(error: Problem) -> Self {
        Self::Failed { error }
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
