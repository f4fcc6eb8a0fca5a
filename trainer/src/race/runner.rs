//! One candidate under way: its values, its optimizer, and what it was at its best.

use serde::{Deserialize, Serialize};
use xprompt::prompt::Prompt;

use crate::optimizer::{Adafactor, Options};
use crate::summary::{End, Point, Training};
use crate::task_file::Tuning;
use crate::tuner::Contribution;

/// Share of the running mean that the loss shown takes from the newest step.
const SMOOTHING: f32 = 0.05;

/// A candidate after a race.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// The prompt at its best evaluation.
    pub prompt: Prompt,
    /// The metric of that evaluation, on the part of dev that choices are made by.
    pub metric: f64,
    /// How the training went.
    pub training: Training,
}

/// A candidate that is being tuned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Runner {
    rows: Vec<f32>,
    optimizer: Adafactor,
    steps: usize,
    loss: Option<f32>,
    best: Vec<f32>,
    best_metric: f64,
    best_step: usize,
    /// Evaluations since the best one.
    stale: usize,
    end: Option<End>,
    curve: Vec<Point>,
}

// === impl Runner ===

impl Runner {
    pub(super) fn new(prompt: &Prompt, recipe: &Tuning) -> Self {
        let options = Options {
            learning_rate: recipe.learning_rate,
            weight_decay: recipe.weight_decay,
            ..Options::default()
        };
        Self {
            rows: prompt.rows().to_vec(),
            optimizer: Adafactor::new(options, prompt.rows().len()),
            steps: 0,
            loss: None,
            best: prompt.rows().to_vec(),
            best_metric: f64::NEG_INFINITY,
            best_step: 0,
            stale: 0,
            end: None,
            curve: Vec::new(),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.end.is_none()
    }

    pub(super) fn rows(&self) -> &[f32] {
        &self.rows
    }

    pub(super) fn best_metric(&self) -> f64 {
        self.best_metric
    }

    pub(super) fn loss(&self) -> Option<f32> {
        self.loss
    }

    /// Takes a step on the weighted mean gradient; a loss or gradient that is not finite is returned and changes nothing.
    pub(super) fn step(
        &mut self,
        prompt: &Prompt,
        contributions: &[Contribution],
        weights: &[f32],
    ) -> Result<(), f32> {
        let share = 1.0 / contributions.len() as f32;
        let mut gradient = vec![0.0; self.rows.len()];
        let mut loss = 0.0;
        for (contribution, weight) in contributions.iter().zip(weights) {
            loss += share * weight * contribution.loss;
            gradient.iter_mut().zip(&contribution.gradient).for_each(|(sum, g)| *sum += share * weight * g);
        }
        if !loss.is_finite() || gradient.iter().any(|g| !g.is_finite()) {
            return Err(loss);
        }
        let mask: Vec<bool> = prompt.value_mask().collect();
        self.optimizer.step(&mut self.rows, &gradient, &mask);
        self.steps += 1;
        self.loss = Some(self.loss.map_or(loss, |before| before + SMOOTHING * (loss - before)));
        Ok(())
    }

    /// Notes an evaluation; without a better one for `patience` evaluations the training has converged.
    pub(super) fn evaluated(&mut self, step: usize, metric: f64, patience: usize) {
        self.curve.push(Point { step, loss: self.loss, metric });
        if metric > self.best_metric {
            self.best.clone_from(&self.rows);
            self.best_metric = metric;
            self.best_step = step;
            self.stale = 0;
        } else {
            self.stale += 1;
            if self.stale >= patience {
                self.end(End::Converged);
            }
        }
    }

    /// Ends the training, unless it has ended.
    pub(super) fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    pub(super) fn finish(self, prompt: &Prompt) -> Finished {
        Finished {
            prompt: prompt.with_rows(&self.best),
            metric: self.best_metric,
            training: Training {
                steps: self.steps,
                best_step: self.best_step,
                end: self.end.unwrap_or(End::StepLimit),
                curve: self.curve,
            },
        }
    }
}
