//! The questions that several sections ask of a summary.

use crate::summary::{Arm, ArmOverSeeds, OverSeeds, SeedSummary, SplitOverSeeds, Summary};

/// The splits, best evidence first.
const SPLITS: [&str; 3] = ["test", "report", "choose"];

/// A summary with answers to what several sections ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    /// What the run found.
    pub(super) summary: &'a Summary,
    /// The split that the verdict rests on: `test`, else what was held back of dev, else what is there.
    pub(super) split: &'a str,
}

/// Mean of numbers; none of nothing.
pub(super) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.into_iter().fold((0.0, 0usize), |(sum, count), x| (sum + x, count + 1));
    (count > 0).then(|| sum / count as f64)
}

// === impl View ===

impl<'a> View<'a> {
    pub(super) fn new(summary: &'a Summary) -> Self {
        let measured = |split: &str| summary.table.iter().any(|arm| values(arm, split).is_some());
        Self { summary, split: SPLITS.into_iter().find(|&split| measured(split)).unwrap_or("test") }
    }

    /// The metric that choices are made by.
    pub(super) fn metric(&self) -> &'a str {
        self.summary.metrics.first().map_or("metric", String::as_str)
    }

    /// An arm over all seeds.
    pub(super) fn arm(&self, name: &str) -> Option<&'a ArmOverSeeds> {
        self.summary.table.iter().find(|arm| arm.name == name)
    }

    /// Splits that some arm was measured on, in the order of their use: `choose`, `report`, `test`, others.
    pub(super) fn splits(&self) -> Vec<&'a str> {
        let mut splits: Vec<&str> = Vec::new();
        for split in self.summary.table.iter().flat_map(|arm| &arm.splits) {
            if !splits.contains(&split.split.as_str()) {
                splits.push(&split.split);
            }
        }
        splits.sort_by_key(|split| {
            SPLITS.iter().rev().position(|known| known == split).unwrap_or(SPLITS.len())
        });
        splits
    }

    /// The first metric of an arm on the split that the verdict rests on.
    pub(super) fn judged(&self, arm: &ArmOverSeeds) -> Option<OverSeeds> {
        values(arm, self.split)?.values.first().copied()
    }

    /// The first metric of an arm on a split, by seed.
    pub(super) fn by_seed(&self, arm: &str, split: &str) -> Vec<(u64, f64)> {
        let value = |arm: &Arm| {
            let metrics = arm.metrics.iter().find(|metrics| metrics.split == split)?;
            Some(metrics.values.first()?.value)
        };
        self.arms(arm).filter_map(|(seed, arm)| Some((seed.seed, value(arm)?))).collect()
    }

    /// An arm of every seed that has it.
    pub(super) fn arms(&self, name: &str) -> impl Iterator<Item = (&'a SeedSummary, &'a Arm)> {
        let summary = self.summary;
        summary
            .seeds
            .iter()
            .filter_map(move |seed| Some((seed, seed.arms.iter().find(|arm| arm.name == name)?)))
    }

    /// The first metric of an arm on the part of dev that choices are made by, over seeds.
    pub(super) fn chosen_by(&self, name: &str) -> Option<f64> {
        Some(values(self.arm(name)?, "choose")?.values.first()?.mean)
    }
}

/// An arm's metrics on a split.
pub(super) fn values<'a>(arm: &'a ArmOverSeeds, split: &str) -> Option<&'a SplitOverSeeds> {
    arm.splits.iter().find(|there| there.split == split)
}
