//! `[task]`: what makes a row into a prediction.

use serde::{Deserialize, Serialize};
use xprompt::prompt::Label;

use super::Wrong;

/// `[task]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
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
            _ => {}
        }
        if self.max_input_tokens < 2 {
            return Err(Wrong::new("task.max_input_tokens", self.max_input_tokens, "at least 2"));
        }
        Ok(())
    }
}
