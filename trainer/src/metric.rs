//! What a task is measured by, over judged examples: a metric can be taken over any choice of them, so that an
//! interval can be bootstrapped.

use serde::{Deserialize, Serialize};

use crate::data::{Example, Target};

/// What the model said for an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prediction {
    /// A label, by its number in the task.
    Label(usize),
    /// A text.
    Text(String),
}

/// A metric, in [0, 1] or, for a correlation, [-1, 1].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of examples with the right label.
    Accuracy,
    /// Unweighted mean of the F1 of each label.
    MacroF1,
    /// Share of texts that equal an accepted answer.
    ExactMatch,
}

/// Examples with the model's predictions, judged by one metric.
#[derive(Clone, Debug)]
pub struct Judged {
    metric: Metric,
    classes: usize,
    cases: Vec<Case>,
}

/// One judged example.
#[derive(Clone, Copy, Debug)]
struct Case {
    predicted: usize,
    gold: usize,
    /// The example's own score, for metrics that are means of such.
    score: f64,
}

// === impl Metric ===

impl Metric {
    /// Its name in files and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::MacroF1 => "macro_f1",
            Self::ExactMatch => "exact_match",
        }
    }

    /// Whether it judges labels; else texts.
    #[must_use]
    pub fn is_for_labels(self) -> bool {
        match self {
            Self::Accuracy | Self::MacroF1 => true,
            Self::ExactMatch => false,
        }
    }

    /// Judges predictions for examples of a task of `classes` labels (0 for free text).
    #[must_use]
    pub fn judge(self, predictions: &[Prediction], examples: &[Example], classes: usize) -> Judged {
        let cases = predictions.iter().zip(examples).map(|(prediction, example)| {
            match (prediction, &example.target) {
                (&Prediction::Label(predicted), &Target::Label(gold)) => {
                    Case { predicted, gold, score: f64::from(u8::from(predicted == gold)) }
                }
                (Prediction::Text(text), Target::Text { text: gold, .. }) => {
                    Case { predicted: 0, gold: 0, score: f64::from(u8::from(text.trim() == gold.trim())) }
                }
                _ => Case { predicted: 0, gold: 1, score: 0.0 },
            }
        });
        Judged { metric: self, classes, cases: cases.collect() }
    }
}

// === impl Judged ===

impl Judged {
    /// The metric over all examples.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value_of(&(0..self.len()).collect::<Vec<_>>())
    }

    /// What a resampling draws from: examples, or groups of examples that belong together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether there is nothing to judge.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// The metric over a choice of what [`len`](Self::len) counts; a number may occur more than once.
    #[must_use]
    pub fn value_of(&self, drawn: &[usize]) -> f64 {
        let cases = || drawn.iter().map(|&i| &self.cases[i]);
        match self.metric {
            Metric::Accuracy | Metric::ExactMatch => {
                cases().map(|case| case.score).sum::<f64>() / drawn.len().max(1) as f64
            }
            Metric::MacroF1 => {
                let predicted: Vec<usize> = cases().map(|case| case.predicted).collect();
                let gold: Vec<usize> = cases().map(|case| case.gold).collect();
                xprompt::task::macro_f1(&predicted, &gold, self.classes)
            }
        }
    }
}
