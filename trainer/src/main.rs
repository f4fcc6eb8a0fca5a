//! `xprompt-trainer`: the command line.

mod table;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use xprompt::engine::Answers;
use xprompt::prompt::{Limits, PromptFile, write_atomically};
use xprompt::runtime::Device;
use xprompt::t5::{Checkpoint, Config, graphs};
use xprompt::task::Tokenizer;
use xprompt_trainer::check;
use xprompt_trainer::data::{Files, Reader, Rows};
use xprompt_trainer::evaluate::Job;
use xprompt_trainer::experiment::{self, Experiment};
use xprompt_trainer::metric::Metric;
use xprompt_trainer::progress::Progress;
use xprompt_trainer::setup::{Options, Setup};
use xprompt_trainer::superglue::SuperGlue;
use xprompt_trainer::task_file::{Controls, TaskFile};
use xprompt_trainer::{inspect, report};

/// Tunes, prunes and rewinds soft prompts (XPrompts) for a frozen T5.
#[derive(Debug, Parser)]
#[command(name = "xprompt-trainer", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the whole method: tune, score, prune tokens and pieces, rewind, retrain, and compare with controls.
    ///
    /// Writes OUT/prompt.safetensors, ready to be copied into a server's prompts folder, every seed's prompts, and
    /// OUT/summary.json. Killed at any moment, the same command goes on where it stood.
    Run(Run),
    /// Says what is wrong with a task's data and template, and shows what the model will read, before any training.
    ///
    /// Ends with status 1 if there are errors. It needs config.json and tokenizer.json of the model only.
    Check(Check),
    /// Measures a prompt on labelled rows, with the server's own scoring.
    Eval(Eval),
    /// Writes a run's report: one HTML file with tables, charts and a verdict, to be opened in any browser.
    ///
    /// Of a run of several tasks, one for each task and an overview that links to them.
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
    /// Where to compute: cpu, cuda, or cuda:N for the GPU with number N.
    #[arg(long, env = "XPROMPT_DEVICE", value_name = "DEVICE", default_value_t)]
    device: Device,
    /// Memory for activations in MiB; by default half of what is free, on a GPU 16384. Runs are cut to fit.
    #[arg(long, env = "XPROMPT_MEMORY", value_name = "MIB")]
    memory: Option<usize>,
}

#[derive(Debug, Args)]
struct Run {
    /// Task files (TOML): data, template, labels, recipe. Several train side by side, each into its folder of OUT.
    #[arg(required = true)]
    tasks: Vec<PathBuf>,
    /// Folder for the results; it is made if it is missing.
    #[arg(long, env = "XPROMPT_OUT", value_name = "DIR")]
    out: PathBuf,
    /// Seeds of everything random, separated by commas; they train side by side. The same seed on the same machine
    /// gives the same prompt, byte for byte.
    #[arg(
        long,
        alias = "seed",
        env = "XPROMPT_SEEDS",
        value_name = "N",
        value_delimiter = ',',
        default_value = "42"
    )]
    seeds: Vec<u64>,
    /// Compare with every control, whatever the task files ask for.
    #[arg(long)]
    all_controls: bool,
    /// Give every pruning ratio all of its steps, as the paper does, instead of dropping those that fall behind.
    #[arg(long)]
    no_halving: bool,
    #[command(flatten)]
    model: ModelOptions,
}

#[derive(Debug, Args)]
struct Check {
    /// The task file (TOML).
    task: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Hugging Face folder of the frozen T5.
    #[arg(long, env = "XPROMPT_MODEL", value_name = "DIR", default_value = "models/t5-nano")]
    model: PathBuf,
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

#[derive(Debug, Args)]
struct Report {
    /// The run's folder, or its summary.json, or a folder of such folders.
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

fn benchmark(name: &str) -> Result<SuperGlue, serde_json::Error> {
    serde_json::from_value(name.into())
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Check(args) => match check(&args) {
            Ok(fit) => return if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE },
            Err(error) => Err(error),
        },
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
        Ok(Setup::load(&Options {
            model: self.model.clone(),
            library: self.onnxruntime.clone(),
            threads: self.threads,
            device: self.device,
            memory: self.memory.map(|mebibytes| mebibytes << 20),
        })?)
    }
}

fn run(args: &Run) -> anyhow::Result<()> {
    let mut tasks: Vec<(String, TaskFile)> = Vec::new();
    for path in &args.tasks {
        let mut file = TaskFile::read(path)?;
        if args.all_controls {
            file.controls = Controls::all();
        }
        file.pruning.successive_halving &= !args.no_halving;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        anyhow::ensure!(
            tasks.iter().all(|(known, _)| *known != name),
            "two task files are named {name}; a task's results are kept under its file's name, so rename one"
        );
        tasks.push((name, file));
    }
    let mut setup = args.model.load()?;
    let progress = Progress::default();
    progress.line(&format!("{:<22} {} on {}", "model", setup.base.model.name, setup.device(),));
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let experiment = Experiment { tasks, seeds: args.seeds.clone(), out: args.out.clone(), command };
    let summaries = experiment::run(&mut setup, &experiment, progress)?;
    summaries.iter().for_each(|summary| print!("{}", table::of(summary)));
    Ok(())
}

/// Whether the task can be trained on.
fn check(args: &Check) -> anyhow::Result<bool> {
    let config = Config::read(&args.model)?;
    let tokenizer = Tokenizer::open(&args.model, config.vocab_size, config.eos_token_id)?;
    let report = check::check(&args.task, &tokenizer, &config);
    let shown = if args.json {
        format!("{:#}\n", json!(report))
    } else {
        report.describe(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
    };
    print!("{shown}");
    Ok(report.errors == 0)
}

fn read_prompt(path: &Path) -> anyhow::Result<(PromptFile, String)> {
    PromptFile::read(path, &Limits::default()).with_context(|| path.display().to_string())
}

fn eval(args: &Eval) -> anyhow::Result<()> {
    let (file, version) = read_prompt(&args.prompt)?;
    let setup = args.model.load()?;
    file.verify(&setup.base).with_context(|| args.prompt.display().to_string())?;
    let spec = &file.manifest.task;
    let config = setup.model.config();
    let answers = Answers::new(&spec.output, &setup.tokenizer, config)?;
    let reader = Reader::new(spec, &args.label, &setup.tokenizer, config.eos_token_id)?;
    let reader = reader.benchmark(args.superglue);
    let reader = if args.submission.is_some() { reader.unlabelled() } else { reader };
    let files = Files { paths: std::slice::from_ref(&args.data), format: None };
    let data = reader.read(files, args.rows)?;
    let job = Job { rows: file.prompt.rows(), answers: &answers, examples: &data.examples };
    let predictions = setup.evaluator().predictions(&[job])?.remove(0);
    if let (Some(benchmark), Some(out)) = (args.superglue, &args.submission) {
        let originals = Rows::read(files, &[], args.rows).rows.into_iter();
        let originals: Vec<Map<String, Value>> =
            originals.map(|row| row.map(|row| row.values)).collect::<Result<_, _>>()?;
        let said: Vec<&str> = predictions.iter().map(|prediction| prediction.words(&answers)).collect();
        let lines = benchmark.submission(&originals, &said).map_err(anyhow::Error::msg)?;
        write_atomically(out, lines.as_bytes()).with_context(|| out.display().to_string())?;
        println!("{}: {} predictions in {} lines", out.display(), said.len(), lines.lines().count());
        return Ok(());
    }
    let (wanted, classes): (&[Metric], _) = match &answers {
        Answers::Labels { names, .. } => (&[Metric::Accuracy, Metric::MacroF1], names.len()),
        Answers::Text { .. } => (&[Metric::ExactMatch], 0),
    };
    let wanted = args.superglue.map_or(wanted, |benchmark| benchmark.preset().metrics);
    let metrics: Map<String, Value> = wanted
        .iter()
        .map(|metric| {
            let judged = metric.judge(&predictions, &data.examples, classes);
            (metric.name().to_owned(), json!(judged.value()))
        })
        .collect();
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
    for page in report::pages(&args.run, args.out.as_deref())? {
        write_atomically(&page.path, page.html.as_bytes())
            .with_context(|| page.path.display().to_string())?;
        page.sentences.iter().for_each(|sentence| println!("{sentence}"));
        println!("{}: {} kB", page.path.display(), page.html.len() / 1000);
    }
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
