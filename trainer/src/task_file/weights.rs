//! `task.class_weights`: how much the examples of each label count in the loss.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xprompt::prompt::Label;

use super::Wrong;

/// How much the examples of each label count in the loss.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged, expecting = "\"balanced\", or a table of labels and weights")]
pub enum ClassWeights {
    /// By a rule.
    Rule(Rule),
    /// As named; a label that is not named has weight 1. Only proportions matter.
    Table(BTreeMap<String, f64>),
}

/// A rule for class weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Every label counts the same in sum, however many rows it has (scikit-learn's `class_weight="balanced"`).
    Balanced,
}

// === impl ClassWeights ===

impl ClassWeights {
    pub(super) fn check(&self, labels: &[Label]) -> Result<(), Wrong> {
        let Self::Table(table) = self else { return Ok(()) };
        if let Some(unknown) = table.keys().find(|&name| labels.iter().all(|label| label.name != *name)) {
            return Err(Wrong::new("task.class_weights", unknown, "a label has to be one of task.labels"));
        }
        match table.values().find(|&&weight| !(weight > 0.0 && weight.is_finite())) {
            Some(weight) => {
                Err(Wrong::new("task.class_weights", weight, "a weight has to be a positive number"))
            }
            None => Ok(()),
        }
    }

    /// Weights by label, for train rows of which `counts` says how many each label has. Their mean over the train
    /// rows is 1.
    #[must_use]
    pub fn resolve(&self, labels: &[Label], counts: &[usize]) -> Vec<f32> {
        let rows = counts.iter().sum::<usize>() as f64;
        let weights: Vec<f64> = match self {
            Self::Rule(Rule::Balanced) => {
                let seen = counts.iter().filter(|&&count| count > 0).count() as f64;
                counts
                    .iter()
                    .map(|&count| if count == 0 { 1.0 } else { rows / (seen * count as f64) })
                    .collect()
            }
            Self::Table(table) => {
                let weight = |label: &Label| table.get(&label.name).copied().unwrap_or(1.0);
                let weights: Vec<f64> = labels.iter().map(weight).collect();
                let sum: f64 = weights.iter().zip(counts).map(|(weight, &count)| weight * count as f64).sum();
                weights
                    .into_iter()
                    .map(|weight| if sum > 0.0 { weight * rows / sum } else { weight })
                    .collect()
            }
        };
        weights.into_iter().map(|weight| weight as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Case {
        labels: Vec<usize>,
        weights: Vec<f32>,
    }

    /// See `tests/fixtures/own_data.py`.
    #[test]
    fn balanced_weights_are_those_of_scikit_learn() {
        let cases = include_str!("../../../tests/fixtures/expected/class_weights.json");
        for case in serde_json::from_str::<Vec<Case>>(cases).unwrap() {
            let mut counts = vec![0; case.weights.len()];
            case.labels.iter().for_each(|&label| counts[label] += 1);
            let got = ClassWeights::Rule(Rule::Balanced).resolve(&[], &counts);
            assert!(got.iter().zip(&case.weights).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
        }
    }

    #[test]
    fn named_weights_keep_their_proportions_and_have_mean_1_over_train() {
        let labels = ["a", "b", "c"].map(|name| Label { name: name.into(), words: name.into() });
        let table = ClassWeights::Table(BTreeMap::from([("b".into(), 3.0)]));
        let got = table.resolve(&labels, &[6, 2, 0]);
        assert!((got[1] / got[0] - 3.0).abs() < 1e-6 && got[2] == got[0], "{got:?}");
        assert!((6.0 * got[0] + 2.0 * got[1] - 8.0).abs() < 1e-5, "{got:?}");
    }

    #[test]
    fn a_label_without_train_rows_keeps_the_others_balanced() {
        let got = ClassWeights::Rule(Rule::Balanced).resolve(&[], &[3, 0, 1]);
        assert_eq!(got, [4.0 / 6.0, 1.0, 2.0]);
    }
}
