//! Examples of a task, and a split of them.

use serde_json::{Map, Value};
use xprompt::engine::Answers;
use xprompt::prompt::DataSource;

/// What the model should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A label, by its number in the task.
    Label(usize),
    /// A text: its tokens with the end token, and as it stands.
    Text {
        /// Token ids.
        tokens: Vec<u32>,
        /// The text.
        text: String,
    },
}

/// A labelled example.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The template's fields.
    pub input: Map<String, Value>,
    /// Token ids of the rendered template, with the end token.
    pub source: Vec<u32>,
    /// What the model should say.
    pub target: Target,
    /// Answers of a text task that count as right; none means that only the target's text does.
    pub accepted: Vec<String>,
    /// Which examples belong together, such as the answers to one question: a number that they share.
    pub group: Option<usize>,
}

/// A split's examples.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The examples, in the order of the files.
    pub examples: Vec<Example>,
    /// How many were longer than the task allows and were cut.
    pub truncated: usize,
    /// SHA-256 of the files' bytes one after the other, 16 hexadecimal digits.
    pub fingerprint: String,
}

// === impl Dataset ===

impl Dataset {
    /// The split as a prompt's manifest names it.
    #[must_use]
    pub fn source(&self, split: &str) -> DataSource {
        DataSource { split: split.into(), rows: self.examples.len(), fingerprint: self.fingerprint.clone() }
    }

    /// How often each of `labels` labels occurs; all 0 for free text.
    #[must_use]
    pub fn label_counts(&self, labels: usize) -> Vec<usize> {
        let mut counts = vec![0; labels];
        for example in &self.examples {
            if let Target::Label(label) = example.target {
                counts[label] += 1;
            }
        }
        counts
    }

    /// The share of the most frequent label: the accuracy of always answering it. None for free text.
    #[must_use]
    pub fn majority(&self, answers: &Answers) -> Option<f64> {
        let Answers::Labels { names, .. } = answers else { return None };
        let most = self.label_counts(names.len()).into_iter().max()?;
        Some(most as f64 / self.examples.len() as f64)
    }
}
