//! Judged examples, and a metric over any choice of them.

use std::collections::HashMap;

use super::Metric;

/// Examples with the model's predictions, judged by one metric.
#[derive(Clone, Debug)]
pub struct Judged {
    metric: Metric,
    classes: usize,
    /// Examples of a group stand together.
    cases: Vec<Case>,
    /// Where each group ends; an example without a group is one by itself.
    ends: Vec<usize>,
}

/// One judged example.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// The predicted label; the number of labels if it was none of them.
    predicted: usize,
    gold: usize,
    /// The example's own score, for metrics that are means of such.
    score: f64,
}

/// How often a label was right, predicted, and both.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    gold: usize,
    predicted: usize,
    hits: usize,
}

// === impl Case ===

impl Case {
    pub(super) fn of_labels(predicted: usize, gold: usize) -> Self {
        Self { predicted, gold, score: f64::from(u8::from(predicted == gold)) }
    }

    pub(super) fn of_text(score: f64) -> Self {
        Self { predicted: 0, gold: 0, score }
    }
}

// === impl Judged ===

impl Judged {
    pub(super) fn new(
        metric: Metric,
        classes: usize,
        judged: impl Iterator<Item = (Option<usize>, Case)>,
    ) -> Self {
        let mut places = HashMap::new();
        let mut groups: Vec<Vec<Case>> = Vec::new();
        for (group, case) in judged {
            let place = match group {
                Some(group) => *places.entry(group).or_insert(groups.len()),
                None => groups.len(),
            };
            if place == groups.len() {
                groups.push(Vec::new());
            }
            groups[place].push(case);
        }
        let ends = groups.iter().scan(0, |end, group| {
            *end += group.len();
            Some(*end)
        });
        Self { metric, classes, ends: ends.collect(), cases: groups.concat() }
    }

    /// The metric over all examples.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value_of(&(0..self.len()).collect::<Vec<_>>())
    }

    /// What a resampling draws from: groups of examples that belong together, or else examples. It depends on the
    /// examples alone, so that two judgements of the same examples can be resampled in pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is nothing to judge.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The metric over a choice of what [`len`](Self::len) counts; a number may occur more than once.
    #[must_use]
    pub fn value_of(&self, drawn: &[usize]) -> f64 {
        match self.metric {
            Metric::MacroF1 => macro_f1(&self.counts(drawn), self.classes),
            Metric::MeanAccuracyMacroF1 => {
                let counts = self.counts(drawn);
                (accuracy(&counts) + macro_f1(&counts, self.classes)) / 2.0
            }
            Metric::F1 | Metric::F1a => {
                let last = self.classes.saturating_sub(1);
                self.counts(drawn)[last].f1()
            }
            Metric::Mcc => mcc(&self.counts(drawn)),
            Metric::GroupExactMatch => {
                let whole = drawn.iter().filter(|&&i| self.group(i).iter().all(|case| case.score >= 1.0));
                share(whole.count(), drawn.len())
            }
            Metric::Accuracy
            | Metric::ExactMatch
            | Metric::SquadExactMatch
            | Metric::TokenF1
            | Metric::RougeL
            | Metric::Wsc => {
                let scores = || self.cases_of(drawn).map(|case| case.score);
                scores().sum::<f64>() / scores().count().max(1) as f64
            }
        }
    }

    fn group(&self, i: usize) -> &[Case] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.cases[start..self.ends[i]]
    }

    fn cases_of(&self, drawn: &[usize]) -> impl Iterator<Item = &Case> {
        drawn.iter().flat_map(|&i| self.group(i))
    }

    /// Counts by label; the last are of answers that are no label.
    fn counts(&self, drawn: &[usize]) -> Vec<Count> {
        let mut counts = vec![Count::default(); self.classes + 1];
        for case in self.cases_of(drawn) {
            counts[case.predicted].predicted += 1;
            counts[case.gold].gold += 1;
            counts[case.gold].hits += usize::from(case.predicted == case.gold);
        }
        counts
    }
}

// === impl Count ===

impl Count {
    fn f1(self) -> f64 {
        share(2 * self.hits, self.predicted + self.gold)
    }
}

fn accuracy(counts: &[Count]) -> f64 {
    share(counts.iter().map(|count| count.hits).sum(), counts.iter().map(|count| count.gold).sum())
}

fn macro_f1(counts: &[Count], classes: usize) -> f64 {
    counts[..classes].iter().map(|count| count.f1()).sum::<f64>() / classes.max(1) as f64
}

/// Gorodkin's generalization of the coefficient to any number of labels.
fn mcc(counts: &[Count]) -> f64 {
    let sum = |of: fn(&Count) -> usize| counts.iter().map(of).sum::<usize>() as f64;
    let all = sum(|count| count.gold);
    let both = sum(|count| count.hits) * all - sum(|count| count.gold * count.predicted);
    let gold = all * all - sum(|count| count.gold * count.gold);
    let predicted = all * all - sum(|count| count.predicted * count.predicted);
    if gold * predicted == 0.0 { 0.0 } else { both / (gold * predicted).sqrt() }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
