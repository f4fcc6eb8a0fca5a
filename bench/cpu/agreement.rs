//! What narrow numbers cost on real tasks: the same rows scored in f32, in int8 and in bf16 by prompts that were tuned in
//! f32.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};
use xprompt::engine::{Answers, ReadyTask, Scorer, Source};
use xprompt::prompt::{Limits, PromptFile};
use xprompt::runtime::{Device, Model, Precision, Runtime};
use xprompt::t5::Checkpoint;
use xprompt::task::Tokenizer;

const BATCH: usize = 32;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Folder of the model.
    #[arg(long, default_value = "models/t5-nano")]
    model: PathBuf,
    /// Rows to score, as PROMPT.safetensors=ROWS.jsonl with the fields of the prompt's template and "label".
    #[arg(required = true, value_name = "PROMPT=ROWS")]
    tasks: Vec<String>,
    /// Rows of each task at most.
    #[arg(long)]
    rows: Option<usize>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let model = Model::new(Checkpoint::open(&arguments.model)?, Runtime::start(None, None)?);
    let mut floats = Scorer::new(&model)?;
    let mut others = Vec::new();
    for precision in [Precision::Int8, Precision::Bf16] {
        match precision.on(Device::Cpu) {
            Ok(_) => others.push((precision, Scorer::new(&model.clone().in_precision(precision))?)),
            Err(reason) => eprintln!("{reason}"),
        }
    }
    let config = model.config();
    let tokenizer = Tokenizer::open(&arguments.model, config.vocab_size, config.eos_token_id)?;
    for task in &arguments.tasks {
        let (prompt, rows) = task.split_once('=').context("give PROMPT.safetensors=ROWS.jsonl")?;
        let (file, version) = PromptFile::read(Path::new(prompt), &Limits::default())
            .map_err(|error| anyhow::anyhow!("{prompt}: {error}"))?;
        let task = ReadyTask::new(file, version, &tokenizer, config)?;
        let Answers::Labels { names, trie } = task.answers() else {
            anyhow::bail!("{prompt}: answers with text, not labels")
        };
        let text = std::fs::read_to_string(rows).with_context(|| rows.to_owned())?;
        let mut examples: Vec<(Vec<u32>, usize)> = Vec::new();
        for (at, line) in text.lines().enumerate().take(arguments.rows.unwrap_or(usize::MAX)) {
            let row: Value = serde_json::from_str(line).with_context(|| format!("{rows}:{}", at + 1))?;
            let label = row["label"].as_str().and_then(|label| names.iter().position(|name| name == label));
            let label = label.with_context(|| format!("{rows}:{}: no label of the task", at + 1))?;
            let mut input = row.clone();
            if let Some(fields) = input.as_object_mut() {
                fields.remove("label");
            }
            examples.push((task.encode(&input, &tokenizer, true)?.0, label));
        }
        // neighbours in length
        examples.sort_by_key(|(text, _)| text.len());
        let score = |scorer: &mut Scorer| -> anyhow::Result<Vec<Vec<f32>>> {
            let mut scores = Vec::new();
            for batch in examples.chunks(BATCH) {
                let source = |text| Source { prompt: task.rows(), text };
                let batch: Vec<_> = batch.iter().map(|(text, _)| (source(text), trie)).collect();
                scores.extend(scorer.score(&batch)?);
            }
            Ok(scores)
        };
        let exact = score(&mut floats)?;
        let right = |scores: &[Vec<f32>]| {
            scores.iter().zip(&examples).filter(|(scores, (_, label))| best(scores) == *label).count()
        };
        let share = |count: usize| 100.0 * count as f64 / examples.len() as f64;
        for (precision, scorer) in &mut others {
            let narrow = score(scorer)?;
            let pairs = || exact.iter().zip(&narrow);
            let same = pairs().filter(|(exact, narrow)| best(exact) == best(narrow)).count();
            let apart: Vec<f32> = pairs()
                .map(|(exact, narrow)| {
                    exact.iter().zip(narrow).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
                })
                .collect();
            let line = json!({
                "bench": "agreement", "prompt": prompt, "rows": examples.len(), "precision": precision.to_string(),
                "f32_accuracy": share(right(&exact)), "accuracy": share(right(&narrow)),
                "same_label": share(same),
                "mean_apart": apart.iter().sum::<f32>() / apart.len() as f32,
                "most_apart": apart.iter().copied().fold(0.0, f32::max),
            });
            println!("{line}");
        }
    }
    Ok(())
}

fn best(scores: &[f32]) -> usize {
    (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0)
}
