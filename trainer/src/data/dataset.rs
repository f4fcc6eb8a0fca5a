//! The examples of a split.

use xprompt::engine::Answers;
use xprompt::prompt::DataSource;

use crate::example::{Example, Target};

/// A split's examples.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The examples, in the order of the files.
    pub examples: Vec<Example>,
    /// How many were longer than the task allows and were cut.
    pub truncated: usize,
    /// SHA-256 of the files' bytes one after the other, 16 hexadecimal digits.
    pub fingerprint: String,
}

// === impl Dataset ===

impl Dataset {
    /// The split as a prompt's manifest names it.
    #[must_use]
    pub fn source(&self, split: &str) -> DataSource {
        DataSource { split: split.into(), rows: self.examples.len(), fingerprint: self.fingerprint.clone() }
    }

    /// How often each of `labels` labels occurs; all 0 for free text.
    #[must_use]
    pub fn label_counts(&self, labels: usize) -> Vec<usize> {
        let mut counts = vec![0; labels];
        for example in &self.examples {
            if let Target::Label(label) = example.target {
                counts[label] += 1;
            }
        }
        counts
    }

    /// The share of the most frequent label: the accuracy of always answering it. None for free text.
    #[must_use]
    pub fn majority(&self, answers: &Answers) -> Option<f64> {
        let Answers::Labels { names, .. } = answers else { return None };
        let most = self.label_counts(names.len()).into_iter().max()?;
        Some(most as f64 / self.examples.len() as f64)
    }
}
