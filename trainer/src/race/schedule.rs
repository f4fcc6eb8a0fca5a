//! When a group evaluates, and when it drops candidates.

use crate::task_file::Tuning;

/// Of how many candidates one is kept at a rung of successive halving.
const KEEP_ONE_IN: usize = 3;

/// The steps of a group.
pub(super) struct Schedule {
    /// All of them.
    pub(super) steps: usize,
    every: usize,
    /// Steps after which only one candidate in [`KEEP_ONE_IN`] goes on, descending.
    rungs: Vec<usize>,
}

// === impl Schedule ===

impl Schedule {
    /// `candidates` is how many are raced down to one; one, if nothing is dropped. Where there are too few steps for all
    /// rungs, some fall together and more than one candidate is left.
    pub(super) fn new(recipe: &Tuning, per_epoch: usize, candidates: usize) -> Self {
        let steps = recipe.max_steps.unwrap_or(usize::MAX).min(per_epoch * recipe.epochs);
        let every = recipe.evaluate_every.unwrap_or(per_epoch.clamp(50, 500)).clamp(1, steps.max(1));
        let mut rungs = Vec::new();
        let (mut left, mut rung) = (candidates, steps);
        while left > 1 {
            rung = (rung / KEEP_ONE_IN).max(1);
            rungs.push(rung);
            left = left.div_ceil(KEEP_ONE_IN);
        }
        Self { steps, every, rungs }
    }

    /// Whether candidates are evaluated after this step: at the rungs, and regularly once the last rung is passed.
    pub(super) fn evaluates(&self, step: usize) -> bool {
        let settled = self.rungs.first().is_none_or(|&last| step > last);
        step == self.steps || self.rungs.contains(&step) || (settled && step.is_multiple_of(self.every))
    }

    /// Of how many candidates one goes on after this step.
    pub(super) fn drops(&self, step: usize) -> Option<usize> {
        self.rungs.contains(&step).then_some(KEEP_ONE_IN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rungs_leave_one_candidate_and_the_last_step_is_evaluated(
            candidates in 1usize..60,
            per_epoch in 1usize..400,
            max_steps in proptest::option::of(1usize..3000),
            evaluate_every in proptest::option::of(1usize..1000),
        ) {
            let recipe = Tuning { max_steps, evaluate_every, epochs: 4, ..Tuning::default() };
            let schedule = Schedule::new(&recipe, per_epoch, candidates);
            let mut left = candidates;
            for step in (1..=schedule.steps).filter(|&step| schedule.evaluates(step)) {
                left = schedule.drops(step).map_or(left, |one_in| left.div_ceil(one_in));
            }
            let enough = KEEP_ONE_IN.pow(schedule.rungs.len() as u32) <= schedule.steps;
            prop_assert!(left == 1 || (left > 1 && !enough), "{left} are left");
            prop_assert!(schedule.evaluates(schedule.steps));
        }
    }

    #[test]
    fn nine_candidates_become_three_and_then_one() {
        let recipe = Tuning { max_steps: Some(900), evaluate_every: Some(250), ..Tuning::default() };
        let schedule = Schedule::new(&recipe, 1000, 9);
        assert_eq!(schedule.rungs, [300, 100]);
        let evaluated: Vec<usize> = (1..=900).filter(|&step| schedule.evaluates(step)).collect();
        assert_eq!(evaluated, [100, 300, 500, 750, 900]);
        let alone = Schedule::new(&recipe, 1000, 1);
        assert!((1..=900).all(|step| alone.drops(step).is_none()));
        assert!(alone.evaluates(250) && !alone.evaluates(100));
    }
}
