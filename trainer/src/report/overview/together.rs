//! What the runs of several tasks say together.

use super::Task;
use crate::report::number;
use crate::report::verdict::{Comparison, Outcome, Verdict};
use crate::report::view::{View, mean};

/// Tasks that a sentence names; the table names them all.
const MOST_NAMED: usize = 8;

/// A task with what its numbers say.
pub(super) struct Judged<'a> {
    pub(super) task: &'a Task,
    pub(super) view: View<'a>,
    pub(super) verdict: Verdict,
}

/// What XPrompt is compared with: its name in sentences and in headings, and the comparison of a task.
#[derive(Clone, Copy)]
pub(super) struct Against {
    pub(super) sentence: &'static str,
    pub(super) heading: &'static str,
    pub(super) of: fn(&Verdict) -> Option<&Comparison>,
}

pub(super) const TUNED: Against = Against {
    sentence: "plain prompt tuning",
    heading: "prompt tuning",
    of: |verdict| verdict.over_tuned.as_ref(),
};

pub(super) const CONTINUED: Against = Against {
    sentence: "tuning on for the same steps without a mask",
    heading: "tuning on, no mask",
    of: |verdict| verdict.over_continued.as_ref(),
};

pub(super) const RANDOM: Against = Against {
    sentence: "a random mask of the same size",
    heading: "a random mask",
    of: |verdict| verdict.over_random.as_ref(),
};

/// Names of tasks by outcome.
#[derive(Default)]
pub(super) struct Tally<'a> {
    pub(super) better: Vec<&'a str>,
    pub(super) worse: Vec<&'a str>,
    pub(super) undecided: usize,
}

/// The share of parameters that XPrompts keep: mean, least and most over tasks.
pub(super) struct Kept {
    pub(super) mean: f64,
    low: f64,
    high: f64,
}

/// Every task with its verdict.
pub(super) fn judge(tasks: &[Task]) -> Vec<Judged<'_>> {
    tasks
        .iter()
        .map(|task| {
            let view = View::new(&task.summary);
            Judged { task, view, verdict: Verdict::of(&view) }
        })
        .collect()
}

/// A number of things.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

// === impl Tally ===

impl<'a> Tally<'a> {
    pub(super) fn of(tasks: &[Judged<'a>], against: Against) -> Self {
        let mut tally = Self::default();
        for task in tasks {
            let name = task.task.name.as_str();
            match (against.of)(&task.verdict).map(Comparison::outcome) {
                Some(Outcome::Better) => tally.better.push(name),
                Some(Outcome::Worse) => tally.worse.push(name),
                Some(Outcome::Undecided) => tally.undecided += 1,
                None => {}
            }
        }
        tally
    }

    pub(super) fn count(&self) -> usize {
        self.better.len() + self.worse.len() + self.undecided
    }

    /// None if no task has the comparison.
    pub(super) fn sentence(&self, against: Against) -> Option<String> {
        let all = self.count();
        let named = |names: &[&str], of: String| match names {
            [] => format!("none{of}"),
            names if names.len() > MOST_NAMED => format!("{}{of}", names.len()),
            names => format!("{}{of} ({})", names.len(), names.join(", ")),
        };
        let undecided = match self.undecided {
            0 => String::new(),
            count => format!("; on {count} these data show no difference"),
        };
        (all > 0).then(|| {
            format!(
                "Against {}, XPrompt is better on {} and worse on {}{undecided}.",
                against.sentence,
                named(&self.better, format!(" of {}", counted(all, "task"))),
                named(&self.worse, String::new()),
            )
        })
    }
}

// === impl Kept ===

impl Kept {
    pub(super) fn of(tasks: &[Judged<'_>]) -> Option<Self> {
        let share = |task: &Judged<'_>| {
            let tuned = task.view.arm("tuned").filter(|tuned| tuned.parameters > 0.0)?;
            Some(task.view.arm("xprompt")?.parameters / tuned.parameters)
        };
        let shares: Vec<f64> = tasks.iter().filter_map(share).collect();
        let mean = mean(shares.iter().copied())?;
        let low = shares.iter().copied().fold(f64::INFINITY, f64::min);
        let high = shares.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Self { mean, low, high })
    }

    /// Least and most, unless they look the same.
    pub(super) fn range(&self) -> String {
        let (low, high) = (number::percent(self.low), number::percent(self.high));
        if low == high { "in every task".into() } else { format!("{low} to {high} % by task") }
    }
}
