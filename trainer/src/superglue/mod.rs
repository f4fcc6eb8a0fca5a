//! SuperGLUE in its original files: rows of the benchmark as flat rows of a text-to-text task, and answers as the
//! lines that the benchmark takes.
//!
//! Texts, targets and metrics are T5's (Raffel et al. 2020, appendix D), word for word; `tests/fixtures/superglue.py`
//! makes the reference. What rows become examples is not known here.

mod fields;
mod multirc;
mod plain;
mod preset;
mod record;
mod submission;
mod wsc;

pub use preset::Preset;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use fields::Fields;

/// A task of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SuperGlue {
    /// Yes-no questions about a passage.
    BoolQ,
    /// CommitmentBank: whether a premise commits its author to a hypothesis.
    Cb,
    /// The more plausible cause or effect.
    Copa,
    /// Whether an answer to a question about a paragraph is right; several may be.
    MultiRc,
    /// The entity that fills the gap in a query about a news text.
    ReCoRd,
    /// Whether a premise entails a hypothesis.
    Rte,
    /// Whether a word has the same meaning in two sentences.
    Wic,
    /// What a marked pronoun refers to, generated, as T5 does it by default.
    Wsc,
    /// Whether a marked pronoun refers to a marked noun, as a label.
    #[serde(rename = "wsc_labels")]
    WscLabels,
}

/// What rows are expanded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To tune on: one row for each target that is right.
    Train,
    /// To predict and to measure: one row for each prediction that the benchmark asks for.
    Evaluate,
}

/// A row of a text-to-text task.
#[derive(Clone, Debug, PartialEq)]
pub struct FlatRow {
    /// The fields of the task's template and, unless the original is unlabelled, the label's name or the target text
    /// under [`LABEL`].
    pub fields: Map<String, Value>,
    /// Answers that count as right; none means that only the target does. A candidate of WSC that is wrong is the
    /// target of its row, but not accepted.
    pub accepted: Vec<String>,
    /// What belongs together: the answers to one question share it, and the rows of one query.
    pub group: Option<String>,
    /// The row's `idx`, as TensorFlow Datasets gives it; null if the original has none.
    pub id: Value,
}

/// The key of a flat row's label.
pub const LABEL: &str = "label";

// === impl SuperGlue ===

impl SuperGlue {
    /// The flat rows that an original row stands for.
    ///
    /// # Errors
    /// If the row is not as the benchmark has it; the text names the field.
    pub fn expand(self, purpose: Purpose, row: &Map<String, Value>) -> Result<Vec<FlatRow>, String> {
        let row = Fields::of_row(row);
        match self {
            Self::BoolQ => plain::expand(&row, &["passage", "question"], plain::truth),
            Self::Cb => {
                plain::expand(&row, &["hypothesis", "premise"], |row| plain::one_of(row, &preset::CB))
            }
            Self::Copa => plain::expand(&row, &["choice1", "choice2", "premise", "question"], plain::choice),
            Self::MultiRc => multirc::expand(&row),
            Self::ReCoRd => record::expand(purpose, &row),
            Self::Rte => {
                plain::expand(&row, &["hypothesis", "premise"], |row| plain::one_of(row, &preset::RTE))
            }
            Self::Wic => plain::expand(&row, &["sentence1", "sentence2", "word"], plain::truth),
            Self::Wsc => wsc::expand(purpose, &row),
            Self::WscLabels => wsc::expand_labels(&row),
        }
    }
}
