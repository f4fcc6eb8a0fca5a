//! One labelled example: a text as token ids, and what the model should say.

use serde_json::{Map, Value};

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
