//! Prompt files of a finished line, with all that they say about themselves.

use serde_json::{Map, Value, json};
use xprompt::prompt::{FORMAT, Golden, Manifest, Prompt, PromptFile, Score, ScoredBy, Stage};
use xprompt::runtime::{Device, Model, Precision};

use crate::PRODUCER;
use crate::error::RunError;
use crate::evaluate::{Answer, EvaluateError, Evaluator, Job};
use crate::lab::Lab;
use crate::line::Line;
use crate::method::{ArmPrompt, Record};
use crate::metric::Metric;
use crate::setup::Setup;
use crate::summary::SeedSummary;
use crate::task_data::TaskData;

/// Golden examples that a prompt file carries.
pub const GOLDEN: usize = 8;

/// Which prompt of a line is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Plain prompt tuning's.
    Tuned,
    /// The result.
    XPrompt,
}

// === impl Delivery ===

impl Delivery {
    /// The stages that the prompt went through.
    fn stages(self) -> &'static [&'static str] {
        match self {
            Self::Tuned => &["tuned"],
            Self::XPrompt => &["tuned", "token_pruned", "piece_pruned", "xprompt"],
        }
    }
}

/// A prompt of a finished line as a file; none if the line has no such prompt.
///
/// # Errors
/// If an evaluation fails.
pub fn file(
    lab: &mut Lab<'_>,
    line: &Line<'_>,
    record: &Record,
    summary: &SeedSummary,
    delivery: Delivery,
) -> Result<Option<PromptFile>, RunError> {
    let stages = delivery.stages();
    let importance = match delivery {
        Delivery::Tuned => &record.tuned_importance,
        Delivery::XPrompt => &record.importance,
    };
    let Some(arm) = stages.last().and_then(|name| record.arm(name)) else { return Ok(None) };
    let history = stages.iter().filter_map(|&name| {
        let measured = summary.arms.iter().find(|arm| arm.name == name)?;
        let values = measured.metrics.iter().map(|split| {
            (split.split.as_str(), split.values.iter().map(|estimate| estimate.value).collect())
        });
        Some(stage(record.arm(name)?, &line.task.metrics, &values.collect::<Vec<_>>()))
    });
    Ok(Some(PromptFile {
        manifest: manifest(
            lab,
            line,
            &arm.prompt,
            history.collect(),
            ScoredBy::both(Score::AbsoluteGradient),
        )?,
        prompt: arm.prompt.clone(),
        token_importance: Some(importance.tokens.clone()),
        piece_importance: Some(importance.pieces.clone()),
    }))
}

/// What the file of a line's prompt says about itself, golden examples included.
///
/// # Errors
/// If an evaluation fails.
pub fn manifest(
    lab: &mut Lab<'_>,
    line: &Line<'_>,
    prompt: &Prompt,
    history: Vec<Stage>,
    scored_by: ScoredBy,
) -> Result<Manifest, RunError> {
    let (base, task) = (&lab.setup.base, line.task);
    Ok(Manifest {
        format: FORMAT,
        producer: PRODUCER.into(),
        tokens: prompt.tokens(),
        pieces: prompt.pieces(),
        d_model: base.d_model,
        base_model: base.model.clone(),
        tokenizer: base.tokenizer.clone(),
        task: task.spec.clone(),
        history,
        scored_by,
        seed: line.seed,
        data: task.sources.clone(),
        golden: golden(lab, task, prompt)?,
    })
}

/// A stage measured now, on every part of the task's data.
///
/// # Errors
/// If the evaluation fails.
pub fn measured_stage(lab: &mut Lab<'_>, task: &TaskData, arm: &ArmPrompt) -> Result<Stage, RunError> {
    Ok(stage(arm, &task.metrics, &measure(lab, task, &arm.prompt)?))
}

/// Measures a stage whose metrics are not known, because it was made without a model.
///
/// # Errors
/// If the evaluation fails.
pub fn complete(
    lab: &mut Lab<'_>,
    task: &TaskData,
    prompt: &Prompt,
    stage: &mut Stage,
) -> Result<(), RunError> {
    if stage.dev.is_empty() && stage.test.is_empty() {
        (stage.dev, stage.test) = dev_and_test(&task.metrics, &measure(lab, task, prompt)?);
    }
    Ok(())
}

/// Values of a task's metrics, by part of its data.
type Values<'n> = [(&'n str, Vec<f64>)];

fn measure(
    lab: &mut Lab<'_>,
    task: &TaskData,
    prompt: &Prompt,
) -> Result<Vec<(&'static str, Vec<f64>)>, RunError> {
    let job = |examples| Job { rows: prompt.rows(), answers: &task.answers, examples };
    let jobs: Vec<Job<'_>> = task.measured().map(|(_, examples)| job(examples)).collect();
    let predictions = lab.evaluator.predictions(&jobs)?;
    let parts = task.measured().zip(&predictions).map(|((split, examples), predictions)| {
        let value = |&metric| task.judge(metric, predictions, examples).value();
        (split, task.metrics.iter().map(value).collect())
    });
    Ok(parts.collect())
}

fn stage(arm: &ArmPrompt, metrics: &[Metric], values: &Values<'_>) -> Stage {
    let (dev, test) = dev_and_test(metrics, values);
    Stage {
        name: arm.name.to_owned(),
        tokens: arm.prompt.kept_token_count(),
        pieces: arm.prompt.kept_piece_count(),
        parameters: arm.prompt.parameters(),
        ratio: arm.ratio,
        score: arm.ratio.map(|_| Score::AbsoluteGradient),
        steps: arm.training.as_ref().map_or(0, |training| training.steps),
        dev,
        test,
    }
}

/// Metrics as a prompt file states them; as dev it gives the part that nothing was chosen by, where there is one.
fn dev_and_test(metrics: &[Metric], values: &Values<'_>) -> (Map<String, Value>, Map<String, Value>) {
    let split = |names: &[&str]| {
        let found = names.iter().find_map(|name| values.iter().find(|(split, _)| split == name));
        let values = found.into_iter().flat_map(|(_, values)| values);
        // six digits: more than any number of rows tells
        let rounded = |value: &f64| json!((value * 1e6).round() / 1e6);
        metrics.iter().zip(values).map(|(metric, value)| (metric.name().to_owned(), rounded(value))).collect()
    };
    (split(&["report", "choose"]), split(&["test"]))
}

/// The first dev examples with the answers that a server has to repeat.
///
/// # Errors
/// If the evaluation fails.
pub fn golden(lab: &mut Lab<'_>, task: &TaskData, prompt: &Prompt) -> Result<Vec<Golden>, RunError> {
    let examples = &task.choose[..GOLDEN.min(task.choose.len())];
    let job = Job { rows: prompt.rows(), answers: &task.answers, examples };
    answered(lab.setup, &mut lab.evaluator, job)
}

/// Examples with the answers that a server has to repeat, computed in f32, because it may serve on another device; on the
/// processor if the GPU does not hold the model in f32 too.
///
/// # Errors
/// If the evaluation fails.
pub fn answered(setup: &Setup, evaluator: &mut Evaluator<'_>, job: Job<'_>) -> Result<Vec<Golden>, RunError> {
    let jobs = [job];
    let answers = if setup.model.precision() == Precision::F32 {
        evaluator.answers(&jobs)?
    } else {
        let exact = setup.model.clone().in_precision(Precision::F32);
        let by = |model: &Model| {
            Evaluator::new(std::slice::from_ref(model), &setup.tokenizer, setup.plan).answers(&jobs)
        };
        match by(&exact) {
            Err(EvaluateError::Runtime(error)) if error.out_of_memory().is_some() => {
                by(&exact.on(Device::Cpu))?
            }
            answers => answers?,
        }
    };
    let answers = answers.into_iter().flatten();
    let golden = job.examples.iter().zip(answers).map(|(example, answer)| {
        let (scores, text) = match answer {
            Answer::Scores(scores) => (scores, None),
            Answer::Text(text) => (Vec::new(), Some(text)),
        };
        Golden { input: Value::Object(example.input.clone()), scores, text }
    });
    Ok(golden.collect())
}
