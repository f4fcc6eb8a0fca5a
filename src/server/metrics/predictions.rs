//! Predictions by task and label, in a bounded number of series.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use prometheus::IntCounterVec;

use super::{MAX_LABELS, MAX_SERIES, MAX_TASKS};

pub(super) const OTHER: &str = "other";

/// The counters, and which tasks and labels have series of their own.
#[derive(Debug)]
pub(super) struct Predictions {
    counters: IntCounterVec,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    labels: HashMap<String, HashSet<String>>,
    /// Labels of all tasks together.
    series: usize,
}

// === impl Predictions ===

impl Predictions {
    pub(super) fn new(counters: IntCounterVec) -> Self {
        Self { counters, known: Mutex::default() }
    }

    pub(super) fn count(&self, task: &str, label: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (task, label) = known.admit(task, label);
        // within the lock, so that a task that is forgotten leaves no series
        self.counters.with_label_values(&[task, label]).inc();
    }

    /// Drops the series of a task that is served no more.
    pub(super) fn forget(&self, task: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = known.labels.remove(task);
        known.series -= labels.as_ref().map_or(0, HashSet::len);
        for label in labels.into_iter().flatten().chain([OTHER.to_owned()]) {
            // a task that never needed the series has none
            drop(self.counters.remove_label_values(&[task, &label]));
        }
    }
}

// === impl Known ===

impl Known {
    /// The series that counts for a task and a label.
    fn admit<'a>(&mut self, task: &'a str, label: &'a str) -> (&'a str, &'a str) {
        if !self.labels.contains_key(task) {
            if self.labels.len() >= MAX_TASKS {
                return (OTHER, OTHER);
            }
            self.labels.insert(task.to_owned(), HashSet::new());
        }
        let Some(labels) = self.labels.get_mut(task) else { return (OTHER, OTHER) };
        if !labels.contains(label) {
            if labels.len() >= MAX_LABELS || self.series >= MAX_SERIES {
                return (task, OTHER);
            }
            labels.insert(label.to_owned());
            self.series += 1;
        }
        (task, label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Opts;
    use prometheus::core::Collector as _;

    #[test]
    fn tasks_and_labels_beyond_the_bounds_share_a_series() {
        let counters = IntCounterVec::new(Opts::new("p", "Help."), &["task", "label"]).unwrap();
        let predictions = Predictions::new(counters.clone());
        let series = || counters.collect()[0].get_metric().len();
        for label in 0..2 * MAX_LABELS {
            predictions.count("many", &label.to_string());
        }
        assert_eq!(series(), MAX_LABELS + 1);
        for task in 0..2 * MAX_TASKS {
            predictions.count(&task.to_string(), "a");
        }
        assert_eq!(series(), MAX_LABELS + 1 + (MAX_TASKS - 1) + 1);
        predictions.forget("many");
        assert_eq!(series(), MAX_TASKS);
    }
}
