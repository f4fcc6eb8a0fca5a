//! One stage of prompt tuning: the surviving values of a prompt, stepped by Adafactor and kept at their best.

use rand_chacha::ChaCha8Rng;
use xprompt::engine::Source;
use xprompt::prompt::Prompt;

use crate::batches::Batches;
use crate::data::Example;
use crate::evaluate::{EvaluateError, Evaluator, Metrics};
use crate::optimizer::{Adafactor, Options};
use crate::progress::Progress;
use crate::task_file::Tuning;
use crate::tuner::{Tuned, Tuner};

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
        let lengths = self.train.iter().map(|example| example.source.len()).collect();
        let mut batches = Batches::new(lengths, recipe.batch_size, rng);
        let per_epoch = batches.per_epoch();
        let steps = recipe.max_steps.unwrap_or(usize::MAX).min(per_epoch * recipe.epochs);
        let every = recipe.evaluate_every.unwrap_or(per_epoch.clamp(50, 500)).clamp(1, steps.max(1));
        let options = Options {
            learning_rate: recipe.learning_rate,
            weight_decay: recipe.weight_decay,
            ..Options::default()
        };
        let mask: Vec<bool> = prompt.value_mask().collect();
        let mut rows = prompt.rows().to_vec();
        let mut optimizer = Adafactor::new(options, rows.len());
        let dev = self.evaluator.metrics(&rows, self.dev)?;
        let mut best = Best { prompt: prompt.clone(), dev, step: 0, steps: 0 };
        let mut stale = 0;
        let bar = self.progress.bar(name, steps, "steps");
        let mut smooth_loss = None;
        for step in 1..=steps {
            let batch = batches.next().expect("invariant: batches never end");
            let loss = self.step(&mut rows, &mask, &batch, &mut optimizer)?;
            let smooth = smooth_loss.map_or(loss, |before: f32| 0.95 * before + 0.05 * loss);
            smooth_loss = Some(smooth);
            bar.set_position(step as u64);
            bar.set_message(format!("loss {smooth:.3}, dev {:.1} %", 100.0 * best.dev.primary()));
            if step % every == 0 || step == steps {
                let dev = self.evaluator.metrics(&rows, self.dev)?;
                self.progress.note(&format!(
                    "{name:<22} step {step} of {steps}: loss {smooth:.3}, dev {:.1} %",
                    100.0 * dev.primary()
                ));
                if dev.primary() > best.dev.primary() {
                    best = Best { prompt: prompt.with_rows(&rows), dev, step, steps: step };
                    stale = 0;
                } else {
                    stale += 1;
                }
            }
            best.steps = step;
            if stale == recipe.patience {
                break;
            }
        }
        bar.finish_and_clear();
        Ok(best)
    }

    /// One step on the mean gradient of a batch. Returns the mean loss.
    fn step(
        &mut self,
        rows: &mut [f32],
        mask: &[bool],
        batch: &[usize],
        optimizer: &mut Adafactor,
    ) -> Result<f32, EvaluateError> {
        let tuned: Vec<Tuned<'_>> = batch
            .iter()
            .map(|&i| Tuned {
                source: Source { prompt: rows, text: &self.train[i].source },
                target: &self.train[i].target,
            })
            .collect();
        let contributions = self.tuner.contributions(&tuned)?;
        let share = 1.0 / batch.len() as f32;
        let mut gradient = vec![0.0; rows.len()];
        for contribution in &contributions {
            gradient.iter_mut().zip(&contribution.gradient).for_each(|(sum, g)| *sum += share * g);
        }
        optimizer.step(rows, &gradient, mask);
        Ok(share * contributions.iter().map(|contribution| contribution.loss).sum::<f32>())
    }
}
