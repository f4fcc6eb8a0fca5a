//! What a task of the benchmark is when nothing else is said.

use xprompt::prompt::{Label, OutputSpec};

use super::SuperGlue;
use crate::metric::Metric;

/// A task's template, answers and metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// The text that the model reads, with the fields of a [`FlatRow`](super::FlatRow) in braces.
    pub template: &'static str,
    /// What it answers with.
    pub output: OutputSpec,
    /// What it is measured by; choices are made by the first.
    pub metrics: &'static [Metric],
}

/// The labels of CB.
pub(super) const CB: [&str; 3] = ["entailment", "contradiction", "neutral"];

/// The labels of RTE.
pub(super) const RTE: [&str; 2] = ["entailment", "not_entailment"];

/// Enough for every candidate and entity of the benchmark.
const TEXT: OutputSpec = OutputSpec::Text { max_new_tokens: 32 };

// === impl SuperGlue ===

impl SuperGlue {
    /// The task as T5 has it.
    #[must_use]
    pub fn preset(self) -> Preset {
        let (template, output, metrics): (_, _, &[Metric]) = match self {
            Self::BoolQ => ("boolq passage: {passage} question: {question}", truth(), &[Metric::Accuracy]),
            Self::Cb => (
                "cb hypothesis: {hypothesis} premise: {premise}",
                labels(&CB),
                &[Metric::MeanAccuracyMacroF1, Metric::Accuracy, Metric::MacroF1],
            ),
            Self::Copa => (
                "copa choice1: {choice1} choice2: {choice2} premise: {premise} question: {question}",
                labels(&["choice1", "choice2"]),
                &[Metric::Accuracy],
            ),
            Self::MultiRc => (
                "multirc question: {question} answer: {answer} paragraph: {paragraph}",
                truth(),
                &[Metric::F1a, Metric::GroupExactMatch],
            ),
            Self::ReCoRd => (
                "record query: {query} entities: {entities} passage: {passage}",
                TEXT,
                &[Metric::TokenF1, Metric::SquadExactMatch],
            ),
            Self::Rte => {
                ("rte hypothesis: {hypothesis} premise: {premise}", labels(&RTE), &[Metric::Accuracy])
            }
            Self::Wic => (
                "wic sentence1: {sentence1} sentence2: {sentence2} word: {word}",
                truth(),
                &[Metric::Accuracy],
            ),
            Self::Wsc => ("wsc: {text}", TEXT, &[Metric::Wsc]),
            Self::WscLabels => ("wsc text: {text}", truth(), &[Metric::Accuracy]),
        };
        Preset { template, output, metrics }
    }
}

fn truth() -> OutputSpec {
    labels(&["False", "True"])
}

/// Labels that the model is asked to say by their names.
fn labels(names: &[&str]) -> OutputSpec {
    let label = |&name: &&str| Label { name: name.into(), words: name.into() };
    OutputSpec::Labels { labels: names.iter().map(label).collect() }
}
