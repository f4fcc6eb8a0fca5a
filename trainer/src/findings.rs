//! From the prompts of an experiment to its summary: everything is measured again, on every part of the data.

use serde::{Deserialize, Serialize};
use xprompt::prompt::Prompt;

use crate::PRODUCER;
use crate::error::RunError;
use crate::evaluate::Job;
use crate::lab::Lab;
use crate::line::Line;
use crate::method::{ArmPrompt, Record};
use crate::metric::Prediction;
use crate::statistics::{Resampled, Resampler, difference, over_seeds};
use crate::summary::{
    Arm, ArmOverSeeds, Estimate, FORMAT, SeedSummary, SplitMetrics, SplitOverSeeds, Summary, Trial,
};
use crate::task_data::TaskData;

/// Predictions of a line's prompts.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    /// By arm, then by [`TaskData::measured`].
    arms: Vec<Vec<Vec<Prediction>>>,
    /// By trial, on the part that nothing is chosen by.
    trials: Vec<Vec<Prediction>>,
}

/// An arm's values: by part, then by metric.
type Values = Vec<Vec<Resampled>>;

/// Measures every arm and trial of every line.
///
/// # Errors
/// If an evaluation fails.
pub fn measure(lab: &mut Lab<'_>, lines: &[Line<'_>], records: &[Record]) -> Result<Vec<Measured>, RunError> {
    let mut jobs = Vec::new();
    for (line, record) in lines.iter().zip(records) {
        let task = line.task;
        for arm in &record.arms {
            jobs.extend(task.measured().map(|(_, examples)| Job {
                rows: arm.prompt.rows(),
                answers: &task.answers,
                examples,
            }));
        }
        jobs.extend(record.trials.iter().map(|trial| Job {
            rows: trial.finished.prompt.rows(),
            answers: &task.answers,
            examples: &task.report,
        }));
    }
    let mut predictions = lab.evaluator.predictions(&jobs)?.into_iter();
    let mut take = |count: usize| predictions.by_ref().take(count).collect::<Vec<_>>();
    let measured = lines.iter().zip(records).map(|(line, record)| {
        let parts = line.task.measured().count();
        let arms = record.arms.iter().map(|_| take(parts)).collect();
        Measured { arms, trials: take(record.trials.len()) }
    });
    Ok(measured.collect())
}

/// The summary of one task from its lines.
#[must_use]
pub fn summarize(
    lab: &Lab<'_>,
    task: &TaskData,
    seeds: &[(u64, &Record, &Measured)],
    command: &str,
) -> Summary {
    let values = Judge::new(task).values(seeds);
    let setup = lab.setup;
    let seed_summaries = seeds.iter().zip(&values);
    Summary {
        format: FORMAT,
        producer: PRODUCER.into(),
        command: command.to_owned(),
        name: task.name.clone(),
        task: task.spec.clone(),
        settings: serde_json::to_value(&task.file).unwrap_or_default(),
        base_model: setup.base.model.clone(),
        tokenizer: setup.base.tokenizer.clone(),
        device: setup.device(),
        data: task.sources.clone(),
        majority: task.majority(),
        metrics: task.metrics.iter().map(|metric| metric.name().to_owned()).collect(),
        seeds: seed_summaries
            .map(|(&(seed, record, measured), values)| seed_summary(task, seed, record, measured, values))
            .collect(),
        table: table(task, seeds, &values),
        times: lab.folder.times().to_vec(),
        seconds: lab.folder.times().iter().map(|timing| timing.seconds).sum(),
    }
}

fn seed_summary(
    task: &TaskData,
    seed: u64,
    record: &Record,
    measured: &Measured,
    values: &[Values],
) -> SeedSummary {
    let trials = record.trials.iter().zip(&measured.trials).map(|(trial, predictions)| Trial {
        level: trial.level.to_owned(),
        ratio: trial.ratio,
        tokens: trial.finished.prompt.kept_token_count(),
        pieces: trial.finished.prompt.kept_piece_count(),
        choose_pruned: trial.finished.training.curve.first().map_or(0.0, |point| point.metric),
        choose: trial.finished.metric,
        report: (!task.report.is_empty())
            .then(|| task.judge(task.metrics[0], predictions, &task.report).value()),
        chosen: trial.chosen,
        training: trial.finished.training.clone(),
    });
    let result = record.arm("xprompt").map(|arm| &arm.prompt);
    SeedSummary {
        seed,
        origin: record.origin.clone(),
        arms: record.arms.iter().zip(values).map(|(arm, values)| summarize_arm(task, arm, values)).collect(),
        trials: trials.collect(),
        token_importance: record.importance.tokens.clone(),
        piece_importance: record.importance.pieces.clone(),
        token_mask: result.map(|prompt| prompt.token_mask().to_vec()).unwrap_or_default(),
        piece_mask: result.map(|prompt| prompt.piece_mask().to_vec()).unwrap_or_default(),
        masking: record.masking.clone(),
    }
}

fn summarize_arm(task: &TaskData, arm: &ArmPrompt, values: &Values) -> Arm {
    let prompt = &arm.prompt;
    let metrics = task.measured().zip(values).map(|((split, _), values)| SplitMetrics {
        split: split.to_owned(),
        values: values.iter().map(Resampled::estimate).collect(),
    });
    Arm {
        name: arm.name.to_owned(),
        tokens: prompt.kept_token_count(),
        pieces: prompt.kept_piece_count(),
        parameters: prompt.parameters(),
        bytes: bytes(prompt),
        steps: arm.steps,
        training: arm.training.clone(),
        metrics: metrics.collect(),
    }
}

/// Bytes of a prompt file's tensors: the surviving values and both masks as bits.
fn bytes(prompt: &Prompt) -> usize {
    let masks = prompt.tokens().div_ceil(8) + prompt.piece_mask().len().div_ceil(8);
    prompt.parameters() * size_of::<f32>() + masks
}

fn table(task: &TaskData, seeds: &[(u64, &Record, &Measured)], values: &[Vec<Values>]) -> Vec<ArmOverSeeds> {
    let Some((_, first, _)) = seeds.first() else { return Vec::new() };
    let named = |name: &str| first.arms.iter().position(|arm| arm.name == name);
    let rows = first.arms.iter().enumerate().map(|(a, arm)| {
        let mean = |of: fn(&ArmPrompt) -> usize| {
            let total: usize = seeds.iter().map(|(_, record, _)| of(&record.arms[a])).sum();
            total as f64 / seeds.len() as f64
        };
        let splits = task.measured().enumerate().map(|(part, (split, _))| {
            let of = |arm: usize, metric: usize| -> Vec<&Resampled> {
                values.iter().map(|seed| &seed[arm][part][metric]).collect()
            };
            let over = |other: &str| -> Option<Estimate> {
                let other = named(other).filter(|&other| other != a)?;
                Some(difference(&of(a, 0), &of(other, 0)))
            };
            SplitOverSeeds {
                split: split.to_owned(),
                values: (0..task.metrics.len()).map(|metric| over_seeds(&of(a, metric))).collect(),
                over_tuned: over("tuned"),
                over_continued: over("continued"),
                over_random: over("random_mask"),
            }
        });
        ArmOverSeeds {
            name: arm.name.to_owned(),
            tokens: mean(|arm| arm.prompt.kept_token_count()),
            pieces: mean(|arm| arm.prompt.kept_piece_count()),
            parameters: mean(|arm| arm.prompt.parameters()),
            bytes: mean(|arm| bytes(&arm.prompt)),
            steps: mean(|arm| arm.steps),
            splits: splits.collect(),
        }
    });
    rows.collect()
}

/// Judges predictions, all of a part of the data under the same resamplings.
struct Judge<'t> {
    task: &'t TaskData,
    /// By part; drawn when the first prompt is judged, which tells how many groups a part has.
    resamplers: Vec<Option<Resampler>>,
}

// === impl Judge ===

impl<'t> Judge<'t> {
    fn new(task: &'t TaskData) -> Self {
        Self { task, resamplers: task.measured().map(|_| None).collect() }
    }

    /// By seed, arm, part and metric.
    fn values(mut self, seeds: &[(u64, &Record, &Measured)]) -> Vec<Vec<Values>> {
        let values =
            seeds.iter().map(|(_, _, measured)| measured.arms.iter().map(|arm| self.arm(arm)).collect());
        values.collect()
    }

    fn arm(&mut self, predictions: &[Vec<Prediction>]) -> Values {
        let task = self.task;
        let parts = task.measured().zip(predictions).zip(&mut self.resamplers);
        let values = parts.map(|(((_, examples), predictions), resampler)| {
            let value = |&metric| {
                let judged = task.judge(metric, predictions, examples);
                resampler.get_or_insert_with(|| Resampler::new(judged.len())).resample(&judged)
            };
            task.metrics.iter().map(value).collect()
        });
        values.collect()
    }
}
