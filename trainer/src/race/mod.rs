//! Prompts that tune side by side on the frozen model.
//!
//! Pruning ratios, seeds, controls and tasks are all the same thing here: candidates. Those of a [`Group`] share a
//! task, a recipe and the order of the examples; groups go through their steps together, and one batch holds the
//! examples of all. Within a group, successive halving (Jamieson and Talwalkar 2016) may drop what falls behind.
//! Each candidate is kept at its best evaluation on the part of dev that choices are made by.

mod checkpoint;
mod runner;
mod schedule;

pub use runner::Finished;

use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use xprompt::engine::Source;
use xprompt::prompt::Prompt;

use crate::batches::Batches;
use crate::error::RunError;
use crate::evaluate::Job;
use crate::lab::Lab;
use crate::log::{self, Event};
use crate::summary::End;
use crate::task_data::TaskData;
use crate::task_file::Tuning;
use crate::tuner::Tuned;
use checkpoint::{Pace, State};
use runner::Runner;
use schedule::Schedule;

/// A prompt to be tuned.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What it is called in logs and tables.
    pub name: String,
    /// Where it starts, and what of it is left.
    pub prompt: Prompt,
}

/// Candidates that see the same examples in the same order.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// Their task.
    pub task: &'a TaskData,
    /// The seed of their experiment.
    pub seed: u64,
    /// What is done with them, such as `token pruning`.
    pub purpose: &'static str,
    /// How they are tuned.
    pub recipe: Tuning,
    /// Shuffles the examples.
    pub rng: ChaCha8Rng,
    /// Whether candidates that fall behind are dropped.
    pub halving: bool,
    /// The candidates.
    pub candidates: Vec<Candidate>,
}

/// A group under way.
struct Lane<'g, 'a> {
    group: &'g Group<'a>,
    schedule: Schedule,
    batches: Batches,
}

/// Tunes the candidates of all groups side by side, as a part of the experiment, and returns them group by group, each
/// at its best. What was under way in the run's folder goes on.
///
/// # Errors
/// If ONNX Runtime fails, a loss is not finite, or the folder cannot be written.
pub fn race(lab: &mut Lab<'_>, part: &str, groups: &[Group<'_>]) -> Result<Vec<Vec<Finished>>, RunError> {
    lab.part(part, |lab| tune(lab, part, groups))
}

fn tune(lab: &mut Lab<'_>, part: &str, groups: &[Group<'_>]) -> Result<Vec<Vec<Finished>>, RunError> {
    let mut lanes: Vec<Lane<'_, '_>> = groups.iter().map(Lane::new).collect();
    let mut state = match lab.folder.under_way::<State>(part)? {
        Some(state) => {
            lab.progress.line(&format!("{part:<22} goes on after step {}", state.step));
            lab.log(&Event::Resumed { part: part.to_owned(), step: state.step })?;
            state
        }
        None => State::start(groups),
    };
    for lane in &mut lanes {
        lane.batches.skip(state.step);
    }
    let steps = lanes.iter().map(|lane| lane.schedule.steps).max().unwrap_or(0);
    let bar = lab.progress.bar(part, steps, "steps");
    bar.set_position(state.step as u64);
    let mut pace = Pace::new(state.step);
    if state.step == 0 {
        evaluate(lab, &lanes, &mut state, part, None, |_| true)?;
    }
    while state.is_running() && state.step < steps {
        state.step += 1;
        let step = state.step;
        pace.examples += advance(lab, &mut lanes, &mut state, part)?;
        lab.note_what_is_computed_again(part, step)?;
        let due = |lane: &Lane<'_, '_>| lane.schedule.evaluates(step);
        if lanes.iter().zip(&state.groups).any(|(lane, runners)| due(lane) && is_running(runners)) {
            let speed = pace.speed();
            evaluate(lab, &lanes, &mut state, part, Some(speed), due)?;
            for (lane, runners) in lanes.iter().zip(&mut state.groups) {
                for dropped in lane.after_evaluation(runners, step) {
                    let candidate = lane.called(dropped);
                    lab.log(&Event::CandidateDropped { part: part.to_owned(), candidate, step })?;
                }
            }
            if let Some(slow) = lab.tuner.slow_device() {
                lab.progress.line(&slow);
            }
            let shown = pace.shown(&state, steps, speed);
            lab.progress.note(&format!("{part:<22} {shown}"));
            bar.set_message(shown);
            if pace.checkpoint_is_due() {
                let start = Instant::now();
                lab.keep(part, &state)?;
                pace.checkpoint_took(start.elapsed());
            }
        }
        bar.set_position(step as u64);
    }
    bar.finish_and_clear();
    let finished = groups.iter().zip(state.groups).map(|(group, runners)| {
        let candidates = group.candidates.iter().zip(runners);
        candidates.map(|(candidate, runner)| runner.finish(&candidate.prompt)).collect()
    });
    Ok(finished.collect())
}

/// One step of every running candidate, on the mean gradient of its group's next batch. Returns how many examples ran.
fn advance(
    lab: &mut Lab<'_>,
    lanes: &mut [Lane<'_, '_>],
    state: &mut State,
    part: &str,
) -> Result<usize, RunError> {
    let batches: Vec<Vec<usize>> = lanes.iter_mut().map(|lane| lane.batches.next_batch()).collect();
    let mut tuned: Vec<Tuned<'_>> = Vec::new();
    for ((lane, runners), batch) in lanes.iter().zip(&state.groups).zip(&batches) {
        let task = lane.group.task;
        for runner in runners.iter().filter(|runner| runner.is_running()) {
            tuned.extend(batch.iter().map(|&i| Tuned {
                source: Source { prompt: runner.rows(), text: &task.train[i].source },
                target: &task.train[i].target,
                answers: &task.answers,
            }));
        }
    }
    let count = tuned.len();
    let mut contributions = lab.tuner.contributions(&tuned)?.into_iter();
    for ((lane, runners), batch) in lanes.iter().zip(&mut state.groups).zip(&batches) {
        let task = lane.group.task;
        let weights: Vec<f32> = batch.iter().map(|&i| task.weight(&task.train[i])).collect();
        for (candidate, runner) in lane.group.candidates.iter().zip(runners).filter(|(_, r)| r.is_running()) {
            let own: Vec<_> = contributions.by_ref().take(batch.len()).collect();
            runner.step(&candidate.prompt, &own, &weights).map_err(|loss| RunError::Diverged {
                part: part.to_owned(),
                task: task.name.clone(),
                seed: lane.group.seed,
                candidate: candidate.name.clone(),
                step: state.step,
                loss,
                learning_rate: lane.group.recipe.learning_rate,
            })?;
        }
    }
    Ok(count)
}

/// Evaluates the running candidates of the lanes that are due.
fn evaluate(
    lab: &mut Lab<'_>,
    lanes: &[Lane<'_, '_>],
    state: &mut State,
    part: &str,
    examples_per_second: Option<f64>,
    due: impl Fn(&Lane<'_, '_>) -> bool,
) -> Result<(), RunError> {
    let mut jobs = Vec::new();
    for (lane, runners) in lanes.iter().zip(&state.groups).filter(|(lane, _)| due(lane)) {
        let task = lane.group.task;
        jobs.extend(runners.iter().filter(|runner| runner.is_running()).map(|runner| Job {
            rows: runner.rows(),
            answers: &task.answers,
            examples: &task.choose,
        }));
    }
    let mut predictions = lab.evaluator.predictions(&jobs)?.into_iter();
    for (lane, runners) in lanes.iter().zip(&mut state.groups).filter(|(lane, _)| due(lane)) {
        let task = lane.group.task;
        for (i, runner) in runners.iter_mut().enumerate().filter(|(_, runner)| runner.is_running()) {
            let own = predictions.next().unwrap_or_default();
            let value = task.judge(task.metrics[0], &own, &task.choose).value();
            runner.evaluated(state.step, value, lane.group.recipe.patience);
            lab.log(&Event::Evaluation {
                part: part.to_owned(),
                candidate: lane.called(i),
                step: state.step,
                loss: runner.loss(),
                metric: task.metrics[0].name().to_owned(),
                value,
                examples_per_second,
            })?;
        }
    }
    Ok(())
}

fn is_running(runners: &[Runner]) -> bool {
    runners.iter().any(Runner::is_running)
}

// === impl Lane ===

impl<'g, 'a> Lane<'g, 'a> {
    fn new(group: &'g Group<'a>) -> Self {
        let lengths = group.task.train.iter().map(|example| example.source.len()).collect();
        let batches = Batches::new(lengths, group.recipe.batch_size, group.rng.clone());
        let candidates = if group.halving { group.candidates.len() } else { 1 };
        let schedule = Schedule::new(&group.recipe, batches.per_epoch(), candidates);
        Self { group, schedule, batches }
    }

    /// A candidate as the log calls it.
    fn called(&self, candidate: usize) -> log::Candidate {
        let (group, name) = (self.group, &self.group.candidates[candidate].name);
        log::Candidate {
            task: group.task.name.clone(),
            seed: group.seed,
            name: Some(if group.purpose == name {
                name.clone()
            } else {
                format!("{} {name}", group.purpose)
            }),
        }
    }

    /// Ends what has used up its steps, and drops what falls behind. Returns what was dropped.
    fn after_evaluation(&self, runners: &mut [Runner], step: usize) -> Vec<usize> {
        if step >= self.schedule.steps {
            runners.iter_mut().for_each(|runner| runner.end(End::StepLimit));
        }
        let Some(keep_one_in) = self.schedule.drops(step) else { return Vec::new() };
        let size = |i: usize| self.group.candidates[i].prompt.parameters();
        let mut order: Vec<usize> = (0..runners.len()).filter(|&i| runners[i].is_running()).collect();
        let keep = order.len().div_ceil(keep_one_in);
        // of equal ones the smaller prompt goes on
        order.sort_by(|&a, &b| {
            let by_metric = runners[b].best_metric().total_cmp(&runners[a].best_metric());
            by_metric.then(size(a).cmp(&size(b)))
        });
        let losers = order.split_off(keep);
        losers.iter().for_each(|&loser| runners[loser].end(End::Dropped));
        losers
    }
}
