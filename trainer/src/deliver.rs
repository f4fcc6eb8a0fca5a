//! Prompt files of a finished line, with all that they say about themselves.

use serde_json::{Map, Value, json};
use xprompt::prompt::{FORMAT, Golden, Manifest, PromptFile, Stage};

use crate::PRODUCER;
use crate::error::RunError;
use crate::evaluate::{Answer, Job};
use crate::lab::Lab;
use crate::line::Line;
use crate::method::{ArmPrompt, Record};
use crate::metric::Metric;
use crate::summary::{Arm, SeedSummary};

/// Golden examples that a prompt file carries.
const GOLDEN: usize = 8;

/// The stages that a prompt went through, for each kind of prompt that is delivered.
const TO_TUNED: [&str; 1] = ["tuned"];
const TO_XPROMPT: [&str; 4] = ["tuned", "token_pruned", "piece_pruned", "xprompt"];

/// The tuned prompt of a line.
///
/// # Errors
/// If an evaluation fails.
pub fn tuned(
    lab: &mut Lab<'_>,
    line: &Line<'_>,
    record: &Record,
    summary: &SeedSummary,
) -> Result<Option<PromptFile>, RunError> {
    file(lab, line, record, summary, &TO_TUNED)
}

/// The XPrompt of a line.
///
/// # Errors
/// If an evaluation fails.
pub fn xprompt(
    lab: &mut Lab<'_>,
    line: &Line<'_>,
    record: &Record,
    summary: &SeedSummary,
) -> Result<Option<PromptFile>, RunError> {
    file(lab, line, record, summary, &TO_XPROMPT)
}

fn file(
    lab: &mut Lab<'_>,
    line: &Line<'_>,
    record: &Record,
    summary: &SeedSummary,
    stages: &[&str],
) -> Result<Option<PromptFile>, RunError> {
    let Some(arm) = stages.last().and_then(|name| record.arm(name)) else { return Ok(None) };
    let (base, task) = (&lab.setup.base, line.task);
    let history = stages.iter().filter_map(|&name| {
        let measured = summary.arms.iter().find(|arm| arm.name == name)?;
        Some(stage(record.arm(name)?, &task.metrics, measured))
    });
    let manifest = Manifest {
        format: FORMAT,
        producer: PRODUCER.into(),
        tokens: arm.prompt.tokens(),
        pieces: arm.prompt.pieces(),
        d_model: base.d_model,
        base_model: base.model.clone(),
        tokenizer: base.tokenizer.clone(),
        task: task.spec.clone(),
        history: history.collect(),
        seed: line.seed,
        data: task.sources.clone(),
        golden: golden(lab, line, arm)?,
    };
    Ok(Some(PromptFile {
        manifest,
        prompt: arm.prompt.clone(),
        token_importance: Some(record.importance.tokens.clone()),
        piece_importance: Some(record.importance.pieces.clone()),
    }))
}

/// A stage as a prompt file states it; as dev it gives the part that nothing was chosen by, where there is one.
fn stage(arm: &ArmPrompt, metrics: &[Metric], measured: &Arm) -> Stage {
    let split = |names: &[&str]| -> Map<String, Value> {
        let found = names.iter().find_map(|name| measured.metrics.iter().find(|split| split.split == **name));
        let values = found.into_iter().flat_map(|split| &split.values);
        let named = metrics.iter().zip(values);
        named.map(|(metric, estimate)| (metric.name().to_owned(), json!(estimate.value))).collect()
    };
    Stage {
        name: arm.name.to_owned(),
        tokens: arm.prompt.kept_token_count(),
        pieces: arm.prompt.kept_piece_count(),
        parameters: arm.prompt.parameters(),
        ratio: arm.ratio,
        steps: arm.training.as_ref().map_or(0, |training| training.steps),
        dev: split(&["report", "choose"]),
        test: split(&["test"]),
    }
}

/// The first dev examples with the answers that a server has to repeat.
fn golden(lab: &mut Lab<'_>, line: &Line<'_>, arm: &ArmPrompt) -> Result<Vec<Golden>, RunError> {
    let task = line.task;
    let examples = &task.choose[..GOLDEN.min(task.choose.len())];
    let job = Job { rows: arm.prompt.rows(), answers: &task.answers, examples };
    let answers = lab.evaluator.answers(&[job])?.into_iter().flatten();
    let golden = examples.iter().zip(answers).map(|(example, answer)| {
        let (scores, text) = match answer {
            Answer::Scores(scores) => (scores, None),
            Answer::Text(text) => (Vec::new(), Some(text)),
        };
        Golden { input: Value::Object(example.input.clone()), scores, text }
    });
    Ok(golden.collect())
}
