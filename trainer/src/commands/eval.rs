//! `eval`: a prompt on labelled rows.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Map, Value, json};
use xprompt::engine::Answers;
use xprompt::prompt::write_atomically;
use xprompt::runtime::{Model, Precision};
use xprompt_trainer::agreement::Agreement;
use xprompt_trainer::data::{Files, Reader, Rows};
use xprompt_trainer::evaluate::{Answer, Evaluator, Job};
use xprompt_trainer::metric::{Metric, Prediction};
use xprompt_trainer::setup::Setup;
use xprompt_trainer::superglue::SuperGlue;

use super::options::ModelOptions;
use super::read_prompt;

const EXAMPLE: &str = "\
Examples:
  xprompt-trainer eval OUT/prompt.safetensors --data test.jsonl
  xprompt-trainer eval OUT/prompt.safetensors --data CB/val.jsonl --superglue cb
  xprompt-trainer eval OUT/prompt.safetensors --data test.jsonl --precision bf16 --against f32";

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
    /// Answer in this precision too, and say how far the answers are from those of --precision.
    #[arg(long, value_name = "PRECISION", conflicts_with = "submission")]
    against: Option<Precision>,
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
        let answered = setup.evaluator().answers(&[job])?.remove(0);
        let predictions: Vec<Prediction> = answered.iter().map(Answer::prediction).collect();
        if let (Some(benchmark), Some(out)) = (self.superglue, &self.submission) {
            return self.submit(benchmark, out, &predictions, &answers);
        }
        let agreement = match self.against {
            Some(other) => Some((other, Agreement::between(&answered, &answers_in(other, &setup, job)?))),
            None => None,
        };
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
                "precision": setup.model.precision().to_string(),
                "against": agreement.map(|(other, agreement)| json!({"precision": other.to_string(), "agreement": agreement})),
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
        if let Some((other, agreement)) = agreement {
            println!("{}", in_words(setup.model.precision(), other, &agreement));
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

/// The answers in another precision, on the same devices.
fn answers_in(precision: Precision, setup: &Setup, job: Job<'_>) -> anyhow::Result<Vec<Answer>> {
    let precision = precision.on(setup.model.device())?;
    let lanes: Vec<Model> = setup.lanes.iter().map(|model| model.clone().in_precision(precision)).collect();
    Ok(Evaluator::new(&lanes, &setup.tokenizer, setup.plan).answers(&[job])?.remove(0))
}

fn in_words(precision: Precision, other: Precision, agreement: &Agreement) -> String {
    let Agreement { rows, same, mean_difference, ninth_tenth, largest_difference } = agreement;
    let scores = match (mean_difference, ninth_tenth, largest_difference) {
        (Some(mean), Some(most), Some(largest)) => format!(
            "; probabilities are {mean:.1e} apart on average, {most:.1e} in nine of ten rows at most, {largest:.1e} at most"
        ),
        _ => String::new(),
    };
    format!("  {precision} and {other} answer {same} of {rows} rows alike{scores}")
}
