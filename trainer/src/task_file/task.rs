//! `[task]`: what makes a row into a prediction, and what it is measured by.

use serde::Deserialize;
use xprompt::prompt::Label;

use super::{ClassWeights, Wrong};
use crate::metric::Metric;

/// `[task]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The text that the model reads, with the row's fields in braces.
    #[serde(default = "default_template")]
    pub template: String,
    /// The labels and their words; none for free text.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// Longest generated answer in tokens, for free text.
    pub max_new_tokens: Option<usize>,
    /// Longest text in tokens; longer rows are cut.
    #[serde(default = "default_max_input_tokens")]
    pub max_input_tokens: usize,
    /// Fields that are kept whole where a row is cut: others lose tokens at their ends, the longest first.
    #[serde(default)]
    pub keep: Vec<String>,
    /// What the task is measured by; see [`metrics`](Self::metrics) for what holds where none is named.
    #[serde(default)]
    metrics: Vec<Metric>,
    /// How much the examples of each label count in the loss; all the same by default.
    pub class_weights: Option<ClassWeights>,
}

fn default_template() -> String {
    "{text}".into()
}

fn default_max_input_tokens() -> usize {
    512
}

// === impl Task ===

impl Task {
    pub(super) fn check(&self) -> Result<(), Wrong> {
        match (self.labels.len(), self.max_new_tokens) {
            (0 | 1, None) => {
                let remedy = "name at least two labels, or max_new_tokens for free text";
                return Err(Wrong::new("task.labels", self.labels.len(), remedy));
            }
            (1.., Some(tokens)) => {
                let remedy = "a task has labels or free text, not both";
                return Err(Wrong::new("task.max_new_tokens", tokens, remedy));
            }
            (_, Some(tokens)) if !(1..=4096).contains(&tokens) => {
                return Err(Wrong::new("task.max_new_tokens", tokens, "1 to 4096"));
            }
            _ => {}
        }
        if !(2..=1 << 16).contains(&self.max_input_tokens) {
            return Err(Wrong::new("task.max_input_tokens", self.max_input_tokens, "2 to 65536"));
        }
        for (i, label) in self.labels.iter().enumerate() {
            if label.name.is_empty() || label.words.trim().is_empty() {
                return Err(Wrong::new("task.labels", label, "a label needs a name and words"));
            }
            if self.labels[..i].iter().any(|other| other.name == label.name) {
                return Err(Wrong::new("task.labels", &label.name, "two labels have this name; rename one"));
            }
        }
        self.check_metrics()?;
        match &self.class_weights {
            Some(weights) if self.labels.is_empty() => {
                Err(Wrong::new("task.class_weights", weights, "leave it out: free text has no classes"))
            }
            Some(weights) => weights.check(&self.labels),
            None => Ok(()),
        }
    }

    fn check_metrics(&self) -> Result<(), Wrong> {
        let of_labels = !self.labels.is_empty();
        for (i, metric) in self.metrics.iter().enumerate() {
            if metric.is_for_labels() != of_labels {
                let remedy = if of_labels {
                    "this metric is for free text; a task with labels has for example accuracy and macro_f1"
                } else {
                    "this metric is for labels; free text has for example exact_match"
                };
                return Err(Wrong::new("task.metrics", metric.name(), remedy));
            }
            if self.metrics[..i].contains(metric) {
                return Err(Wrong::new("task.metrics", metric.name(), "name each metric once"));
            }
        }
        Ok(())
    }

    /// What the task is measured by; the first is what choices are made by. By default accuracy and macro F1 for
    /// labels, exact match for free text.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        match (self.metrics.is_empty(), self.labels.is_empty()) {
            (false, _) => self.metrics.clone(),
            (true, false) => vec![Metric::Accuracy, Metric::MacroF1],
            (true, true) => vec![Metric::ExactMatch],
        }
    }
}
