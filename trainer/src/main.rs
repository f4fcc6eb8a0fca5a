//! `xprompt-trainer`: the command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::json;
use xprompt::engine::Answers;
use xprompt::prompt::{Limits, PromptFile, write_atomically};
use xprompt::t5::{Checkpoint, graphs};
use xprompt_trainer::data::Reader;
use xprompt_trainer::evaluate::Evaluator;
use xprompt_trainer::progress::Progress;
use xprompt_trainer::setup::Setup;
use xprompt_trainer::task_file::TaskFile;
use xprompt_trainer::{inspect, method, report};

/// Tunes, prunes and rewinds soft prompts (XPrompts) for a frozen T5.
#[derive(Debug, Parser)]
#[command(name = "xprompt-trainer", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the whole method on a task: tune, score, prune tokens and pieces, rewind, retrain.
    ///
    /// Writes OUT/prompt.safetensors, ready to be copied into a server's prompts folder, and OUT/summary.json.
    Run(Run),
    /// Measures a prompt on labelled rows, with the server's own scoring.
    Eval(Eval),
    /// Writes a run's report: one HTML file with tables, charts and a verdict, to be opened in any browser.
    Report(Report),
    /// Shows what a prompt file holds: task, history, and which tokens and pieces are left.
    Inspect(Inspect),
    /// Writes one of the model's graphs to an ONNX file, to be looked at with any ONNX viewer.
    Graph(GraphCommand),
}

#[derive(Debug, Args)]
struct ModelOptions {
    /// Hugging Face folder of the frozen T5: config.json, model.safetensors (or shards), tokenizer.json.
    #[arg(long, env = "XPROMPT_MODEL", value_name = "DIR", default_value = "models/t5-nano")]
    model: PathBuf,
    /// ONNX Runtime library; by default ORT_DYLIB_PATH, beside this program, or where `make setup` put it.
    #[arg(long, env = "XPROMPT_ONNXRUNTIME", value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// Threads that compute; by default all cores.
    #[arg(long, env = "XPROMPT_THREADS", value_name = "N")]
    threads: Option<usize>,
}

#[derive(Debug, Args)]
struct Run {
    /// The task file (TOML): data, template, labels, recipe.
    task: PathBuf,
    /// Folder for the results; it is made if it is missing.
    #[arg(long, env = "XPROMPT_OUT", value_name = "DIR")]
    out: PathBuf,
    /// Seed of everything random: the same seed on the same machine gives the same prompt, byte for byte.
    #[arg(long, env = "XPROMPT_SEED", value_name = "N", default_value_t = 42)]
    seed: u64,
    #[command(flatten)]
    model: ModelOptions,
}

#[derive(Debug, Args)]
struct Eval {
    /// The prompt file.
    prompt: PathBuf,
    /// Labelled rows (JSONL).
    #[arg(long, env = "XPROMPT_DATA", value_name = "FILE")]
    data: PathBuf,
    /// The key of a row that holds the label or the target text.
    #[arg(long, value_name = "KEY", default_value = "label")]
    label: String,
    /// Use only the first rows.
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelOptions,
}

#[derive(Debug, Args)]
struct Report {
    /// The run's folder, or its summary.json.
    run: PathBuf,
    /// The HTML file; by default report.html in the run's folder, or the summary's name with .html.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Inspect {
    /// The prompt file.
    prompt: PathBuf,
    /// Print the manifest as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Encoder and decoder over a label trie.
    Scoring,
    /// The encoder alone.
    Encoder,
    /// One decoder step with a cache.
    DecoderStep,
    /// Loss over label candidates and its prompt gradient.
    TuningLabels,
    /// Loss over the vocabulary and its prompt gradient.
    TuningText,
}

#[derive(Debug, Args)]
struct GraphCommand {
    /// Which graph.
    kind: Kind,
    /// The ONNX file; written into the model's folder it runs as it is, because it refers to the weights there.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Hugging Face folder of the frozen T5.
    #[arg(long, env = "XPROMPT_MODEL", value_name = "DIR", default_value = "models/t5-nano")]
    model: PathBuf,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Eval(args) => eval(&args),
        Command::Report(args) => write_report(&args),
        Command::Inspect(args) => inspect(&args),
        Command::Graph(args) => graph(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xprompt-trainer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl ModelOptions {
    fn load(&self) -> anyhow::Result<Setup> {
        Ok(Setup::load(&self.model, self.onnxruntime.as_deref(), self.threads)?)
    }
}

fn run(args: &Run) -> anyhow::Result<()> {
    let task = TaskFile::read(&args.task)?;
    let mut setup = args.model.load()?;
    let progress = Progress::default();
    progress.line(&format!(
        "{:<22} {} on {} threads, seed {}",
        "model",
        setup.base.model.name,
        setup.model.runtime().threads(),
        args.seed
    ));
    let outcome = method::run(&mut setup, &task, args.seed, &progress)?;
    let path = args.out.join("prompt.safetensors");
    let version = outcome.file.write(&path)?;
    let summary = args.out.join("summary.json");
    write_atomically(&summary, format!("{:#}\n", json!(outcome.summary)).as_bytes())
        .with_context(|| summary.display().to_string())?;
    progress.line(&format!(
        "{:<22} {} (version {version}), {:.0} s in all",
        "written",
        path.display(),
        outcome.summary.seconds
    ));
    Ok(())
}

fn read_prompt(path: &Path) -> anyhow::Result<(PromptFile, String)> {
    PromptFile::read(path, &Limits::default()).with_context(|| path.display().to_string())
}

fn eval(args: &Eval) -> anyhow::Result<()> {
    let (file, version) = read_prompt(&args.prompt)?;
    let mut setup = args.model.load()?;
    file.verify(&setup.base).with_context(|| args.prompt.display().to_string())?;
    let spec = &file.manifest.task;
    let config = setup.model.config();
    let answers = Answers::new(&spec.output, &setup.tokenizer, config)?;
    let reader = Reader::new(spec, &args.label, &setup.tokenizer, config.eos_token_id)?;
    let data = reader.read(&args.data, args.rows)?;
    let mut evaluator = Evaluator::new(&answers, &setup.model, &setup.tokenizer, &mut setup.scorer)?;
    let metrics = evaluator.metrics(file.prompt.rows(), &data.examples)?.to_json();
    let majority = data.majority(&answers);
    if args.json {
        let report = json!({
            "prompt": args.prompt, "version": version, "data": args.data, "rows": data.examples.len(),
            "truncated": data.truncated, "metrics": metrics, "majority": majority,
        });
        println!("{report:#}");
        return Ok(());
    }
    println!("{} (version {version}) on {} rows", args.prompt.display(), data.examples.len());
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

fn write_report(args: &Report) -> anyhow::Result<()> {
    let summary = report::read(&args.run)?;
    let html = report::html(&summary);
    let out = args.out.clone().unwrap_or_else(|| report::place(&args.run));
    write_atomically(&out, html.as_bytes()).with_context(|| out.display().to_string())?;
    for sentence in report::verdict(&summary) {
        println!("{sentence}");
    }
    println!("{}: {} kB", out.display(), html.len() / 1000);
    Ok(())
}

fn inspect(args: &Inspect) -> anyhow::Result<()> {
    let (file, version) = read_prompt(&args.prompt)?;
    if args.json {
        println!("{:#}", json!(file.manifest));
    } else {
        print!("{}", inspect::describe(&file, &version));
    }
    Ok(())
}

fn graph(args: &GraphCommand) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(&args.model)?;
    let graph = match args.kind {
        Kind::Scoring => graphs::scoring(&checkpoint),
        Kind::Encoder => graphs::encoder(&checkpoint),
        Kind::DecoderStep => graphs::decoder_step(&checkpoint),
        Kind::TuningLabels => graphs::tuning(&checkpoint, graphs::Answers::Candidates),
        Kind::TuningText => graphs::tuning(&checkpoint, graphs::Answers::Vocabulary),
    };
    let bytes = checkpoint.onnx(&graph);
    write_atomically(&args.out, &bytes).with_context(|| args.out.display().to_string())?;
    println!("{}: {} nodes, {} KiB", args.out.display(), graph.node_count(), bytes.len() / 1024);
    Ok(())
}
