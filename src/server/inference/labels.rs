//! From a task's label probabilities to what a call asked of them.

use super::options::LabelOptions;
use crate::engine::{Answers, TaskCard};
use crate::task::{calibrate, normalize_lengths};

/// Labels with their scores.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scored {
    /// The best label; none where its score is too low.
    pub(super) label: Option<String>,
    /// Of the best label.
    pub(super) score: f32,
    /// The highest first.
    pub(super) scores: Vec<(String, f32)>,
}

/// Probabilities in the order of the task, evened out and calibrated as asked for. What the prior went through is
/// what the scores go through before they are divided by it.
pub(super) fn adjusted(mut scores: Vec<f32>, task: &TaskCard, options: &LabelOptions) -> Vec<f32> {
    let Answers::Labels { trie, .. } = task.answers() else { return scores };
    if options.normalize {
        normalize_lengths(&mut scores, trie);
    }
    if options.calibrate
        && let Some(prior) = task.prior()
    {
        let mut prior = prior.to_vec();
        if options.normalize {
            normalize_lengths(&mut prior, trie);
        }
        calibrate(&mut scores, &prior);
    }
    scores
}

/// Names adjusted probabilities, the highest first, and chooses or abstains.
pub(super) fn scored(scores: Vec<f32>, task: &TaskCard, options: &LabelOptions) -> Scored {
    let Answers::Labels { names, .. } = task.answers() else {
        return Scored { label: None, score: 0.0, scores: Vec::new() };
    };
    let mut scores: Vec<(String, f32)> = names.iter().cloned().zip(scores).collect();
    // stable: of equal labels the first in the task's order wins
    scores.sort_by(|a, b| b.1.total_cmp(&a.1));
    scores.truncate(options.top_k.unwrap_or(usize::MAX));
    let (label, score) = scores.first().cloned().unwrap_or_default();
    let label = options.abstain_below.is_none_or(|threshold| score >= threshold).then_some(label);
    Scored { label, score, scores }
}
