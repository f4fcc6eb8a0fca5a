//! Prompt tuning: the surviving values of prompts, stepped by Adafactor and kept at their best.
//!
//! Several prompts tune side by side on the frozen model ([`Stage::race`]): all see the same examples in the same
//! order, one batch holds the examples of all, and successive halving (Jamieson and Talwalkar 2016) drops those that
//! fall behind.

use rand_chacha::ChaCha8Rng;
use xprompt::engine::Source;
use xprompt::prompt::Prompt;

use crate::batches::Batches;
use crate::data::Example;
use crate::evaluate::{EvaluateError, Evaluator, Metrics};
use crate::optimizer::{Adafactor, Options};
use crate::progress::Progress;
use crate::task_file::Tuning;
use crate::tuner::{Contribution, Tuned, Tuner};

/// Of how many candidates one is kept at a rung of successive halving.
const KEEP_ONE_IN: usize = 3;

/// What a stage works with.
#[derive(Debug)]
pub struct Stage<'a, 'm> {
    /// Runs the tuning graph.
    pub tuner: &'a mut Tuner<'m>,
    /// Scores the dev examples.
    pub evaluator: &'a mut Evaluator<'m>,
    /// Examples to tune on.
    pub train: &'a [Example],
    /// Examples to choose by.
    pub dev: &'a [Example],
    /// Shows how it goes.
    pub progress: &'a Progress,
}

/// A tuned prompt.
#[derive(Clone, Debug)]
pub struct Best {
    /// The prompt at its best evaluation.
    pub prompt: Prompt,
    /// Its metrics on dev.
    pub dev: Metrics,
    /// The step of that evaluation.
    pub step: usize,
    /// Steps taken in all.
    pub steps: usize,
}

/// A prompt that is being tuned.
struct Runner<'p> {
    prompt: &'p Prompt,
    rows: Vec<f32>,
    mask: Vec<bool>,
    optimizer: Adafactor,
    best: Best,
    /// Evaluations since the best one.
    stale: usize,
    running: bool,
}

/// When a race evaluates, and when it drops candidates.
struct Schedule {
    steps: usize,
    every: usize,
    /// Steps after which only one in [`KEEP_ONE_IN`] goes on.
    rungs: Vec<usize>,
}

// === impl Stage ===

impl Stage<'_, '_> {
    /// Tunes the surviving values of `prompt` after `recipe`; the values it starts with are a candidate too.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn tune(
        &mut self,
        name: &str,
        prompt: &Prompt,
        recipe: &Tuning,
        rng: ChaCha8Rng,
    ) -> Result<Best, EvaluateError> {
        let mut best = self.race(name, std::slice::from_ref(prompt), recipe, false, rng)?;
        Ok(best.remove(0))
    }

    /// Tunes several prompts side by side. With `halving`, a third of them goes on after a part of the steps, until
    /// one is left for the last two thirds.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn race(
        &mut self,
        name: &str,
        prompts: &[Prompt],
        recipe: &Tuning,
        halving: bool,
        rng: ChaCha8Rng,
    ) -> Result<Vec<Best>, EvaluateError> {
        let lengths = self.train.iter().map(|example| example.source.len()).collect();
        let mut batches = Batches::new(lengths, recipe.batch_size, rng);
        let schedule = Schedule::new(recipe, batches.per_epoch(), if halving { prompts.len() } else { 1 });
        let mut runners = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let dev = self.evaluator.metrics(prompt.rows(), self.dev)?;
            runners.push(Runner::new(prompt, recipe, dev));
        }
        let bar = self.progress.bar(name, schedule.steps, "steps");
        let mut smooth_loss = None;
        for step in 1..=schedule.steps {
            let batch = batches.next().expect("invariant: batches never end");
            let loss = self.step(&mut runners, &batch)?;
            let smooth = smooth_loss.map_or(loss, |before: f32| 0.95 * before + 0.05 * loss);
            smooth_loss = Some(smooth);
            runners.iter_mut().filter(|runner| runner.running).for_each(|runner| runner.best.steps = step);
            if schedule.evaluates(step) {
                self.evaluate(&mut runners, step, recipe.patience)?;
                let top = leader(&runners).map_or(0.0, |best| 100.0 * best.dev.primary());
                self.progress.note(&format!(
                    "{name:<22} step {step} of {}: loss {smooth:.3}, best dev {top:.1} %",
                    schedule.steps
                ));
            }
            if schedule.rungs.contains(&step) {
                drop_losers(&mut runners);
            }
            bar.set_position(step as u64);
            let top = leader(&runners).map_or(0.0, |best| 100.0 * best.dev.primary());
            bar.set_message(format!("loss {smooth:.3}, dev {top:.1} %"));
            if !runners.iter().any(|runner| runner.running) {
                break;
            }
        }
        bar.finish_and_clear();
        Ok(runners.into_iter().map(|runner| runner.best).collect())
    }

    /// One step of every running prompt on the mean gradient of the same examples. Returns the mean loss.
    fn step(&mut self, runners: &mut [Runner<'_>], batch: &[usize]) -> Result<f32, EvaluateError> {
        let running = || runners.iter().filter(|runner| runner.running);
        let tuned: Vec<Tuned<'_>> = running()
            .flat_map(|runner| {
                batch.iter().map(|&i| Tuned {
                    source: Source { prompt: &runner.rows, text: &self.train[i].source },
                    target: &self.train[i].target,
                })
            })
            .collect();
        let contributions = self.tuner.contributions(&tuned)?;
        let own = contributions.chunks(batch.len());
        for (runner, contributions) in runners.iter_mut().filter(|runner| runner.running).zip(own) {
            runner.step(contributions);
        }
        let total: f32 = contributions.iter().map(|contribution| contribution.loss).sum();
        Ok(total / contributions.len() as f32)
    }

    fn evaluate(
        &mut self,
        runners: &mut [Runner<'_>],
        step: usize,
        patience: usize,
    ) -> Result<(), EvaluateError> {
        for runner in runners.iter_mut().filter(|runner| runner.running) {
            let dev = self.evaluator.metrics(&runner.rows, self.dev)?;
            if dev.primary() > runner.best.dev.primary() {
                let prompt = runner.prompt.with_rows(&runner.rows);
                runner.best = Best { prompt, dev, step, steps: step };
                runner.stale = 0;
            } else {
                runner.stale += 1;
                runner.running = runner.stale < patience;
            }
        }
        Ok(())
    }
}

// === impl Runner ===

impl<'p> Runner<'p> {
    fn new(prompt: &'p Prompt, recipe: &Tuning, dev: Metrics) -> Self {
        let options = Options {
            learning_rate: recipe.learning_rate,
            weight_decay: recipe.weight_decay,
            ..Options::default()
        };
        Self {
            prompt,
            rows: prompt.rows().to_vec(),
            mask: prompt.value_mask().collect(),
            optimizer: Adafactor::new(options, prompt.rows().len()),
            best: Best { prompt: prompt.clone(), dev, step: 0, steps: 0 },
            stale: 0,
            running: true,
        }
    }

    fn step(&mut self, contributions: &[Contribution]) {
        let share = 1.0 / contributions.len() as f32;
        let mut gradient = vec![0.0; self.rows.len()];
        for contribution in contributions {
            gradient.iter_mut().zip(&contribution.gradient).for_each(|(sum, g)| *sum += share * g);
        }
        self.optimizer.step(&mut self.rows, &gradient, &self.mask);
    }
}

fn leader<'r>(runners: &'r [Runner<'_>]) -> Option<&'r Best> {
    runners.iter().map(|runner| &runner.best).max_by(|a, b| a.dev.primary().total_cmp(&b.dev.primary()))
}

/// Stops all but one in [`KEEP_ONE_IN`] of the running candidates, by their best dev metric; of equal ones the
/// smaller prompt goes on.
fn drop_losers(runners: &mut [Runner<'_>]) {
    let mut order: Vec<usize> = (0..runners.len()).filter(|&i| runners[i].running).collect();
    let keep = order.len().div_ceil(KEEP_ONE_IN);
    let rank = |i: usize| (runners[i].best.dev.primary(), runners[i].prompt.parameters());
    order.sort_by(|&a, &b| {
        let ((metric_a, size_a), (metric_b, size_b)) = (rank(a), rank(b));
        metric_b.total_cmp(&metric_a).then(size_a.cmp(&size_b))
    });
    for &loser in &order[keep..] {
        runners[loser].running = false;
    }
}

// === impl Schedule ===

impl Schedule {
    fn new(recipe: &Tuning, per_epoch: usize, candidates: usize) -> Self {
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

    fn evaluates(&self, step: usize) -> bool {
        step.is_multiple_of(self.every) || step == self.steps || self.rungs.contains(&step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_candidates_become_three_and_then_one() {
        let recipe = Tuning { max_steps: Some(900), evaluate_every: Some(500), ..Tuning::default() };
        let schedule = Schedule::new(&recipe, 1000, 9);
        assert_eq!(schedule.rungs, [300, 100]);
        let evaluated: Vec<usize> = (1..=900).filter(|&step| schedule.evaluates(step)).collect();
        assert_eq!(evaluated, [100, 300, 500, 900]);
        assert!(Schedule::new(&recipe, 1000, 1).rungs.is_empty());
    }
}
