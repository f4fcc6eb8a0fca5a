//! `eval`: a prompt on labelled rows.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Map, Value, json};
use xprompt::engine::Answers;
use xprompt::prompt::write_atomically;
use xprompt_trainer::data::{Files, Reader, Rows};
use xprompt_trainer::evaluate::Job;
use xprompt_trainer::metric::{Metric, Prediction};
use xprompt_trainer::superglue::SuperGlue;

use super::options::ModelOptions;
use super::read_prompt;

const EXAMPLE: &str = "\
Examples:
  xprompt-trainer eval OUT/prompt.safetensors --data test.jsonl
  xprompt-trainer eval OUT/prompt.safetensors --data CB/val.jsonl --superglue cb";

/// Measures a prompt on labelled rows, with the server's own scoring.
///
/// Reads the prompt file and the rows. Prints metrics, or writes predictions with --submission.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Eval {
    /// The prompt file.
    prompt: PathBuf,
    /// Labelled rows (JSONL).
    #[arg(long, env = "XPROMPT_DATA", value_name = "FILE")]
    data: PathBuf,
    /// The key of a row that holds the label or the target text.
    #[arg(long, value_name = "KEY", default_value = "label")]
    label: String,
    /// The task of SuperGLUE whose original file the rows are: boolq, cb, copa, multirc, record, rte, wic, wsc,
    /// wsc_labels. It is measured as the benchmark does.
    #[arg(long, value_name = "TASK", value_parser = benchmark, conflicts_with = "label")]
    superglue: Option<SuperGlue>,
    /// Writes what the prompt answers, in the benchmark's submission format, instead of measuring; rows need no labels.
    #[arg(long, value_name = "FILE", requires = "superglue", conflicts_with = "json")]
    submission: Option<PathBuf>,
    /// Use only the first rows.
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelOptions,
}

fn benchmark(name: &str) -> Result<SuperGlue, serde_json::Error> {
    serde_json::from_value(name.into())
}

// === impl Eval ===

impl Eval {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (file, version) = read_prompt(&self.prompt)?;
        let setup = self.model.load()?;
        file.verify(&setup.base).with_context(|| self.prompt.display().to_string())?;
        let spec = &file.manifest.task;
        let config = setup.model.config();
        let answers = Answers::new(&spec.output, &setup.tokenizer, config)?;
        let reader = Reader::new(spec, &self.label, &setup.tokenizer, config.eos_token_id)?;
        let reader = reader.benchmark(self.superglue);
        let reader = if self.submission.is_some() { reader.unlabelled() } else { reader };
        let files = Files { paths: std::slice::from_ref(&self.data), format: None };
        let data = reader.read(files, self.rows)?;
        let job = Job { rows: file.prompt.rows(), answers: &answers, examples: &data.examples };
        let predictions = setup.evaluator().predictions(&[job])?.remove(0);
        if let (Some(benchmark), Some(out)) = (self.superglue, &self.submission) {
            return self.submit(benchmark, out, &predictions, &answers);
        }
        let (wanted, classes): (&[Metric], _) = match &answers {
            Answers::Labels { names, .. } => (&[Metric::Accuracy, Metric::MacroF1], names.len()),
            Answers::Text { .. } => (&[Metric::ExactMatch], 0),
        };
        let wanted = self.superglue.map_or(wanted, |benchmark| benchmark.preset().metrics);
        let metrics: Map<String, Value> = wanted
            .iter()
            .map(|metric| {
                let judged = metric.judge(&predictions, &data.examples, classes);
                (metric.name().to_owned(), json!(judged.value()))
            })
            .collect();
        let majority = data.majority(&answers);
        if self.json {
            let report = json!({
                "prompt": self.prompt, "version": version, "data": self.data, "rows": data.examples.len(),
                "truncated": data.truncated, "metrics": metrics, "majority": majority,
            });
            println!("{report:#}");
            return Ok(());
        }
        println!("{} (version {version}) on {} rows", self.prompt.display(), data.examples.len());
        for (name, value) in &metrics {
            println!("  {name:<12} {:.2} %", 100.0 * value.as_f64().unwrap_or(f64::NAN));
        }
        if let Some(majority) = majority {
            println!("  {:<12} {:.2} %  (always the most frequent label)", "majority", 100.0 * majority);
        }
        if data.truncated > 0 {
            println!("  {} rows were cut to {} tokens", data.truncated, spec.max_input_tokens);
        }
        Ok(())
    }

    fn submit(
        &self,
        benchmark: SuperGlue,
        out: &Path,
        predictions: &[Prediction],
        answers: &Answers,
    ) -> anyhow::Result<()> {
        let files = Files { paths: std::slice::from_ref(&self.data), format: None };
        let originals = Rows::read(files, &[], self.rows).rows.into_iter();
        let originals: Vec<Map<String, Value>> =
            originals.map(|row| row.map(|row| row.values)).collect::<Result<_, _>>()?;
        let said: Vec<&str> = predictions.iter().map(|prediction| prediction.words(answers)).collect();
        let lines = benchmark.submission(&originals, &said).map_err(anyhow::Error::msg)?;
        write_atomically(out, lines.as_bytes()).with_context(|| out.display().to_string())?;
        println!("{}: {} predictions in {} lines", out.display(), said.len(), lines.lines().count());
        Ok(())
    }
}
