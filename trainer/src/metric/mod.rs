//! What a task is measured by, over judged examples: a metric can be taken over any choice of them, so that an
//! interval can be bootstrapped.
//!
//! Values agree with scikit-learn, rouge_score and the metrics of T5 (`tests/fixtures/superglue.py`).

mod judged;
mod referent;
mod text;

pub use judged::Judged;
pub use referent::is_referent;

use serde::{Deserialize, Serialize};
use xprompt::engine::Answers;

use crate::example::{Example, Target};
use judged::Case;

/// What the model said for an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prediction {
    /// A label, by its number in the task.
    Label(usize),
    /// A text. In a task of labels it is none of them, and wrong.
    Text(String),
}

/// A metric, in [0, 1] or, for a correlation, [-1, 1].
///
/// Of two labels, the positive one is the task's last, as scikit-learn takes 1 of 0 and 1, and T5 `True` of `False`
/// and `True`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of examples with the right label.
    Accuracy,
    /// Unweighted mean of the F1 of each label; 0 for a label that is neither predicted nor right anywhere.
    MacroF1,
    /// Mean of accuracy and macro F1: what CB is ranked by.
    MeanAccuracyMacroF1,
    /// F1 of the last label.
    F1,
    /// F1 of the last label over the answers to all questions: MultiRC's F1a, which is [`F1`](Self::F1).
    F1a,
    /// Share of groups with every label right: MultiRC's exact match.
    GroupExactMatch,
    /// Matthews correlation coefficient, over any number of labels; 0 if only one is predicted, or only one is right.
    Mcc,
    /// Share of texts that equal an accepted answer, white space at the ends aside.
    ExactMatch,
    /// The same after SQuAD's normalization: without case, punctuation and the articles a, an, the.
    SquadExactMatch,
    /// Mean F1 of the words shared with the best accepted answer, after SQuAD's normalization.
    TokenF1,
    /// Mean ROUGE-L F-measure against the best accepted answer, without stemming.
    RougeL,
    /// WSC: whether the text names the candidate, [`is_referent`], compared with whether it should. It should if the
    /// target is an accepted answer.
    Wsc,
}

// === impl Prediction ===

impl Prediction {
    /// The label's name, or the text.
    #[must_use]
    pub fn words<'a>(&'a self, answers: &'a Answers) -> &'a str {
        match (self, answers) {
            (&Self::Label(label), Answers::Labels { names, .. }) => &names[label],
            (Self::Label(_), Answers::Text { .. }) => "",
            (Self::Text(text), _) => text,
        }
    }
}

// === impl Metric ===

impl Metric {
    /// Its name in files and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::MacroF1 => "macro_f1",
            Self::MeanAccuracyMacroF1 => "mean_accuracy_macro_f1",
            Self::F1 => "f1",
            Self::F1a => "f1a",
            Self::GroupExactMatch => "group_exact_match",
            Self::Mcc => "mcc",
            Self::ExactMatch => "exact_match",
            Self::SquadExactMatch => "squad_exact_match",
            Self::TokenF1 => "token_f1",
            Self::RougeL => "rouge_l",
            Self::Wsc => "wsc",
        }
    }

    /// Whether it judges labels; else texts.
    #[must_use]
    pub fn is_for_labels(self) -> bool {
        match self {
            Self::Accuracy
            | Self::MacroF1
            | Self::MeanAccuracyMacroF1
            | Self::F1
            | Self::F1a
            | Self::GroupExactMatch
            | Self::Mcc => true,
            Self::ExactMatch | Self::SquadExactMatch | Self::TokenF1 | Self::RougeL | Self::Wsc => false,
        }
    }

    /// Judges predictions for examples of a task of `classes` labels (0 for free text).
    #[must_use]
    pub fn judge(self, predictions: &[Prediction], examples: &[Example], classes: usize) -> Judged {
        let cases = predictions.iter().zip(examples).map(|(prediction, example)| {
            let case = match (prediction, &example.target) {
                (&Prediction::Label(predicted), &Target::Label(gold)) => Case::of_labels(predicted, gold),
                (Prediction::Text(_), &Target::Label(gold)) => self.of_no_label(gold, classes),
                (Prediction::Text(text), Target::Text { text: target, .. }) => {
                    Case::of_text(self.score(text, target, &example.accepted))
                }
                (Prediction::Label(_), Target::Text { .. }) => Case::of_text(0.0),
            };
            (example.group, case)
        });
        Judged::new(self, classes, cases)
    }

    /// The case of an answer that is none of the labels. Where one label is sought, the answer counts as what is
    /// wrong there: as that label if another is right.
    fn of_no_label(self, gold: usize, classes: usize) -> Case {
        match self {
            Self::F1a if gold + 1 != classes => Case::of_labels(classes - 1, gold),
            _ => Case::of_labels(classes, gold),
        }
    }

    fn score(self, text: &str, target: &str, accepted: &[String]) -> f64 {
        let best = |score: fn(&str, &str) -> f64| {
            if accepted.is_empty() {
                return score(text, target);
            }
            accepted.iter().map(|answer| score(text, answer)).fold(0.0, f64::max)
        };
        match self {
            Self::SquadExactMatch => best(text::squad_exact_match),
            Self::TokenF1 => best(text::token_f1),
            Self::RougeL => best(text::rouge_l),
            Self::Wsc => {
                let should = accepted.is_empty() || accepted.iter().any(|answer| answer == target);
                f64::from(u8::from(is_referent(text, target) == Some(should)))
            }
            _ => best(text::exact_match),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    const ALL: [Metric; 12] = [
        Metric::Accuracy,
        Metric::MacroF1,
        Metric::MeanAccuracyMacroF1,
        Metric::F1,
        Metric::F1a,
        Metric::GroupExactMatch,
        Metric::Mcc,
        Metric::ExactMatch,
        Metric::SquadExactMatch,
        Metric::TokenF1,
        Metric::RougeL,
        Metric::Wsc,
    ];

    fn labelled(gold: usize, group: Option<usize>) -> Example {
        let target = Target::Label(gold);
        Example { input: Map::new(), source: vec![], target, accepted: vec![], group }
    }

    #[test]
    fn a_metric_is_written_as_it_is_named() {
        for metric in ALL {
            assert_eq!(json!(metric), metric.name());
        }
    }

    #[test]
    fn resampling_draws_whole_groups_in_the_same_order_for_every_metric() {
        // groups 9: wrong and right; 4: right; one example without a group: right
        let examples = [labelled(1, Some(9)), labelled(0, Some(4)), labelled(1, Some(9)), labelled(1, None)];
        let predictions = [0, 0, 1, 1].map(Prediction::Label);
        for (metric, first, twice_and_last) in [
            (Metric::Accuracy, 0.5, 3.0 / 5.0),
            (Metric::F1, 2.0 / 3.0, 0.75),
            (Metric::GroupExactMatch, 0.0, 1.0 / 3.0),
        ] {
            let judged = metric.judge(&predictions, &examples, 2);
            assert_eq!(judged.len(), 3);
            assert!((judged.value_of(&[0]) - first).abs() < 1e-12, "{metric:?}");
            assert!((judged.value_of(&[0, 0, 2]) - twice_and_last).abs() < 1e-12, "{metric:?}");
        }
    }

    #[test]
    fn nothing_to_judge_is_zero() {
        for metric in ALL {
            let judged = metric.judge(&[], &[], 2);
            assert!(judged.is_empty());
            assert!(judged.value().abs() < 1e-12);
        }
    }
}
