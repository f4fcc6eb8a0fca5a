//! An experiment: tasks and seeds, from their files to prompts and summaries in a folder.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use xprompt::prompt::{PromptFile, write_atomically};

use crate::deliver::{self, Delivery};
use crate::error::RunError;
use crate::findings::{measure, summarize};
use crate::folder::FolderError;
use crate::lab::Lab;
use crate::line::Line;
use crate::log::{Event, Log, TaskStarted};
use crate::method;
use crate::progress::Progress;
use crate::setup::Setup;
use crate::summary::Summary;
use crate::task_data::TaskData;
use crate::task_file::TaskFile;
use crate::{PRODUCER, identity};

/// What an experiment runs over.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Tasks by name: the stems of their files.
    pub tasks: Vec<(String, TaskFile)>,
    /// Seeds, each of which goes through every task.
    pub seeds: Vec<u64>,
    /// Where the results go. Of one task right there, of several into a folder each.
    pub out: PathBuf,
    /// The command line that asked for it.
    pub command: String,
}

// === impl Experiment ===

impl Experiment {
    /// Where a task's results go.
    #[must_use]
    pub fn folder_of(&self, task: &str) -> PathBuf {
        if self.tasks.len() == 1 { self.out.clone() } else { self.out.join(task) }
    }
}

/// Runs an experiment, or goes on with it where it was interrupted. Returns the summaries, by task.
///
/// # Errors
/// If the data is not usable, a part fails, or the folder cannot be used. What was finished before is kept.
pub fn run(setup: &mut Setup, experiment: &Experiment, progress: Progress) -> Result<Vec<Summary>, RunError> {
    work(setup, experiment, progress).map_err(|error| error.under(setup.plan))
}

fn work(setup: &mut Setup, experiment: &Experiment, progress: Progress) -> Result<Vec<Summary>, RunError> {
    let tasks = experiment
        .tasks
        .iter()
        .map(|(name, file)| TaskData::read(name, file.clone(), setup))
        .collect::<Result<Vec<_>, _>>()?;
    tasks.iter().for_each(|task| announce(task, &progress));
    let description = identity::describe(setup, &tasks, &experiment.seeds);
    let folder = identity::open(setup, &experiment.out, &description, &progress)?;
    let position = folder.log_position()?;
    let log = Log::open(&experiment.out, position.as_ref())?;
    let mut lab = Lab::new(setup, folder, Some(log), progress);
    if position.is_none() {
        lab.log(&started(setup, experiment, &tasks))?;
    }
    let seeds = &experiment.seeds;
    let lines: Vec<Line<'_>> =
        tasks.iter().flat_map(|task| seeds.iter().map(move |&seed| Line { task, seed })).collect();
    let records = method::run(&mut lab, &lines)?;
    let measured = lab.part("measuring", |lab| measure(lab, &lines, &records))?;
    let mut summaries = Vec::with_capacity(tasks.len());
    let each = records.chunks(seeds.len()).zip(measured.chunks(seeds.len())).zip(lines.chunks(seeds.len()));
    for (task, ((records, measured), lines)) in tasks.iter().zip(each) {
        let by_seed: Vec<_> =
            lines.iter().zip(records).zip(measured).map(|((line, r), m)| (line.seed, r, m)).collect();
        let summary = summarize(&lab, task, &by_seed, &experiment.command);
        for seed in &summary.seeds {
            for arm in &seed.arms {
                lab.log(&Event::stage_recorded(&task.name, seed.seed, arm, &summary.metrics))?;
            }
        }
        let out = experiment.folder_of(&task.name);
        write_prompts(&mut lab, lines, records, &summary, &out)?;
        let path = out.join("summary.json");
        let text = format!("{:#}\n", json!(summary));
        write_atomically(&path, text.as_bytes()).map_err(|source| FolderError::Io { path, source })?;
        summaries.push(summary);
    }
    let seconds = lab.folder.times().iter().map(|timing| timing.seconds).sum();
    lab.log(&Event::RunFinished { seconds })?;
    Ok(summaries)
}

fn started(setup: &Setup, experiment: &Experiment, tasks: &[TaskData]) -> Event {
    let task = |task: &TaskData| TaskStarted {
        task: task.name.clone(),
        settings: json!(task.file),
        data: task.sources.clone(),
    };
    Event::RunStarted {
        producer: PRODUCER.into(),
        base_model: setup.base.model.clone(),
        tokenizer: setup.base.tokenizer.clone(),
        device: setup.device(),
        seeds: experiment.seeds.clone(),
        tasks: tasks.iter().map(task).collect(),
    }
}

fn announce(task: &TaskData, progress: &Progress) {
    let majority = task.majority();
    for (part, examples) in task.parts() {
        let share = majority.get(part).and_then(Value::as_f64).map_or(String::new(), |share| {
            format!(", always the most frequent label: {:.1} %", 100.0 * share)
        });
        let name = format!("{} {part}", task.name);
        progress.line(&format!("{name:<22} {:>6} rows{share}", examples.len()));
    }
    if task.truncated > 0 {
        let limit = task.spec.max_input_tokens;
        progress.line(&format!("{:<22} {} rows were cut to {limit} tokens", task.name, task.truncated));
    }
}

/// Writes each seed's tuned prompt and XPrompt, and the XPrompt of the seed that is best on the part that choices are
/// made by as `prompt.safetensors`.
fn write_prompts(
    lab: &mut Lab<'_>,
    lines: &[Line<'_>],
    records: &[method::Record],
    summary: &Summary,
    out: &Path,
) -> Result<(), RunError> {
    let mut best: Option<(f64, PromptFile)> = None;
    for ((line, record), seed) in lines.iter().zip(records).zip(&summary.seeds) {
        let folder = out.join(format!("seed-{}", line.seed));
        if let Some(file) = deliver::file(lab, line, record, seed, Delivery::Tuned)? {
            write(&file, folder.join("tuned.safetensors"))?;
        }
        let Some(file) = deliver::file(lab, line, record, seed, Delivery::XPrompt)? else { continue };
        write(&file, folder.join("xprompt.safetensors"))?;
        let chosen = seed.arms.iter().find(|arm| arm.name == "xprompt");
        let metric = chosen.map_or(0.0, |arm| arm.metrics[0].values[0].value);
        if best.as_ref().is_none_or(|(known, _)| metric > *known) {
            best = Some((metric, file));
        }
    }
    match best {
        Some((_, file)) => write(&file, out.join("prompt.safetensors")),
        None => Ok(()),
    }
}

fn write(file: &PromptFile, path: PathBuf) -> Result<(), RunError> {
    file.write(&path).map(drop).map_err(|source| RunError::Prompt { path, source })
}
