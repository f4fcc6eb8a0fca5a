//! `[task]`: what makes a row into a prediction, and what it is measured by.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xprompt::prompt::{Label, OutputSpec};

use super::{ClassWeights, Wrong};
use crate::metric::Metric;
use crate::superglue::Preset;

/// `[task]`. Where it is silent about a task of [`SuperGlue`](crate::superglue::SuperGlue), the benchmark's preset
/// holds.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Task {
    /// The text that the model reads, with the row's fields in braces; see [`template`](Self::template).
    template: Option<String>,
    /// The labels and their words; none for free text.
    pub labels: Vec<Label>,
    /// Longest generated answer in tokens, for free text.
    pub max_new_tokens: Option<usize>,
    /// Longest text in tokens; longer rows are cut.
    pub max_input_tokens: usize,
    /// Fields that are kept whole where a row is cut: others lose tokens at their ends, the longest first.
    pub keep: Vec<String>,
    /// Inputs without content, which a server may calibrate label probabilities by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub content_free: Vec<Value>,
    /// What the task is measured by; see [`metrics`](Self::metrics) for what holds where none is named.
    metrics: Vec<Metric>,
    /// How much the examples of each label count in the loss; all the same by default.
    pub class_weights: Option<ClassWeights>,
}

impl Default for Task {
    fn default() -> Self {
        Self {
            template: None,
            labels: Vec::new(),
            max_new_tokens: None,
            max_input_tokens: 512,
            keep: Vec::new(),
            content_free: Vec::new(),
            metrics: Vec::new(),
            class_weights: None,
        }
    }
}

// === impl Task ===

impl Task {
    /// Fills in what the task file leaves out.
    pub(super) fn complete(&mut self, preset: Option<Preset>) {
        let template = preset.as_ref().map_or("{text}", |preset| preset.template);
        self.template.get_or_insert_with(|| template.into());
        let Some(preset) = preset else { return };
        if self.labels.is_empty() && self.max_new_tokens.is_none() {
            match preset.output {
                OutputSpec::Labels { labels } => self.labels = labels,
                OutputSpec::Text { max_new_tokens } => self.max_new_tokens = Some(max_new_tokens),
            }
        }
        if self.metrics.is_empty() {
            let of_labels = !self.labels.is_empty();
            self.metrics = preset.metrics.to_vec();
            self.metrics.retain(|metric| metric.is_for_labels() == of_labels);
        }
    }

    /// The text that the model reads, with the row's fields in braces.
    #[must_use]
    pub fn template(&self) -> &str {
        self.template.as_deref().unwrap_or_default()
    }

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
