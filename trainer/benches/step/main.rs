//! A tuning step, label scoring and generation on random weights of the paper's shapes, on any device: what
//! `bench/gpu/peers.py` measures of PyTorch. See `bench/gpu/README.md`.
//!
//! Prints one JSON object a line. It is a measurement, not a test.

mod memory;
mod random;

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use serde_json::{Map, Value, json};
use xprompt::engine::{Answers, Generator, Scorer, Source};
use xprompt::runtime::{Device, DeviceChoice, Model, Placed, Precision, Runtime};
use xprompt::t5::Checkpoint;
use xprompt::task::LabelTrie;
use xprompt_trainer::example::Target;
use xprompt_trainer::plan::Plan;
use xprompt_trainer::tuner::{Tuned, Tuner};

use self::random::Shape;

const WARM_UP: usize = 3;
/// Nodes that `--placement` shows of those that took longest.
const SLOWEST: usize = 25;

/// What is measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "kebab-case")]
enum What {
    /// A step: loss among two labels, and each example's gradient at its prompt rows.
    TuneLabels,
    /// The same for free text: the loss is over the whole vocabulary.
    TuneText,
    /// Encoder and one decoder step, two candidates.
    Score,
    /// Greedy generation with a cache.
    Generate,
    /// All of it in one process: what the card's memory holds when each was loaded and run.
    Memory,
}

/// Random weights of the paper's shapes, on any device.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_value = "tune-labels,tune-text,score,generate")]
    what: Vec<What>,
    /// tiny, base, large, xl or xxl.
    #[arg(long, value_delimiter = ',', default_value = "base,large,xl")]
    shapes: Vec<Shape>,
    /// Examples in a batch.
    #[arg(long, value_delimiter = ',', default_value = "32")]
    batches: Vec<usize>,
    /// Text tokens of an example.
    #[arg(long, default_value_t = 128)]
    text: usize,
    /// Prompt rows in front of them.
    #[arg(long, default_value_t = 20)]
    prompt: usize,
    /// Decoder tokens of a tuning step.
    #[arg(long, default_value_t = 4)]
    target: usize,
    /// Tokens to generate.
    #[arg(long, default_value_t = 16)]
    new_tokens: usize,
    /// Repetitions.
    #[arg(long, default_value_t = 15)]
    reps: usize,
    /// Where to compute, as the programs' --device.
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// f32, tf32, bf16 or f16; by default what is usual on the device.
    #[arg(long)]
    precision: Option<Precision>,
    /// ONNX Runtime library.
    #[arg(long)]
    onnxruntime: Option<PathBuf>,
    /// Memory for a tuning step's activations in MiB; runs are cut to fit.
    #[arg(long, default_value_t = 65536)]
    memory: usize,
    /// Give each session of a card a copy of the weights of its own.
    #[arg(long)]
    copy_weights: bool,
    /// Folder for the weights, made where they are missing and left there; by default a temporary one.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Instead of measuring, print the nodes that are not on the device, and the slowest.
    #[arg(long)]
    placement: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A batch to work on.
struct Batch<'a> {
    arguments: &'a Arguments,
    what: What,
    size: usize,
    prompt: &'a [f32],
    text: &'a [u32],
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let temporary = tempfile::tempdir()?;
    let weights = arguments.weights.as_deref().unwrap_or(temporary.path());
    // before the first use of the card, which takes memory for itself
    let first = match &arguments.device {
        DeviceChoice::These(devices) => devices[0],
        DeviceChoice::Auto | DeviceChoice::AllGpus => Device::Cuda(0),
    };
    let before = used_mib(first);
    let runtime = Runtime::start(arguments.onnxruntime.as_deref(), None)?;
    let devices = arguments.device.find(&runtime)?.devices;
    for &shape in &arguments.shapes {
        let folder = weights.join(shape.name());
        shape.write(&folder).with_context(|| folder.display().to_string())?;
        let model = Model::new(Checkpoint::open(&folder)?, runtime.clone());
        for &what in &arguments.what {
            for &size in &arguments.batches {
                let on = |&device: &Device| {
                    let precision = arguments.precision.unwrap_or(Precision::of(device));
                    model
                        .clone()
                        .on(device)
                        .in_precision(precision)
                        .sharing_weights(!arguments.copy_weights && device != Device::Cpu)
                };
                let models: Vec<Model> = devices.iter().map(on).collect();
                if matches!(what, What::Memory) {
                    memory::measure(&arguments, shape, size, &models, before)?;
                } else {
                    measure(&arguments, shape, what, size, &models, before)?;
                }
            }
        }
        if arguments.weights.is_none() {
            drop(model);
            std::fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}

fn measure(
    arguments: &Arguments,
    shape: Shape,
    what: What,
    size: usize,
    models: &[Model],
    before: Option<usize>,
) -> anyhow::Result<()> {
    let rows = random::normals(arguments.prompt * models[0].config().d_model);
    let text: Vec<u32> = (0..arguments.text as u32).map(|i| 100 + i * 37 % 30_000).collect();
    let batch = Batch { arguments, what, size, prompt: &rows, text: &text };
    if arguments.placement {
        let folder = tempfile::tempdir()?;
        let models: Vec<Model> = models.iter().map(|model| model.clone().profiled(folder.path())).collect();
        batch.run(&models, 1, &mut Vec::new())?;
        println!("# {} {} batch {size}", what.name(), shape.name());
        show(&Placed::read(folder.path())?, models[0].device());
        return Ok(());
    }
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| drop(line.insert(key.into(), value));
    put("bench", json!(what.name()));
    put("by", json!("xprompt"));
    put("shape", json!(shape.name()));
    put("batch", json!(size));
    let mut times = Vec::new();
    match batch.run(models, 1 + WARM_UP + arguments.reps, &mut times) {
        Ok((made, used)) => {
            let first = times[0];
            let mut times = times.split_off(1 + WARM_UP);
            times.sort_by(f64::total_cmp);
            let median = times[times.len() / 2];
            let positions =
                if made > 0 { made } else { size * (rows.len() / models[0].config().d_model + text.len()) };
            put("status", json!("ok"));
            put("device", json!(models.iter().map(|model| model.device().to_string()).collect::<Vec<_>>()));
            put("precision", json!(models[0].precision().to_string()));
            if arguments.copy_weights {
                put("mode", json!("copied weights"));
            }
            put("text", json!(arguments.text));
            put("prompt", json!(arguments.prompt));
            put("reps", json!(times.len()));
            put("median_ms", json!(rounded(median)));
            put("min_ms", json!(rounded(times[0])));
            put("p90_ms", json!(rounded(times[(times.len() - 1) * 9 / 10])));
            put("first_ms", json!(rounded(first)));
            put("tokens_per_s", json!((1000.0 * positions as f64 / median).round()));
            put("examples_per_s", json!(rounded(1000.0 * size as f64 / median)));
            let rise = before.zip(used).map(|(before, used)| used.saturating_sub(before));
            put("rise_mib", json!(rise));
        }
        Err(error) => {
            put("status", json!("failed"));
            put("reason", json!(format!("{error:#}")));
        }
    }
    println!("{}", Value::Object(line));
    Ok(())
}

// === impl What ===

impl What {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

// === impl Batch ===

impl Batch<'_> {
    /// Computes `times` times, adding the milliseconds of each, the loading of the first included. Returns how many
    /// tokens each time generated, and the card's memory in use while the sessions are loaded.
    fn run(
        &self,
        models: &[Model],
        times: usize,
        milliseconds: &mut Vec<f64>,
    ) -> anyhow::Result<(usize, Option<usize>)> {
        let device = models[0].device();
        let source = Source { prompt: self.prompt, text: self.text };
        let mut timed = |work: &mut dyn FnMut() -> anyhow::Result<usize>| -> anyhow::Result<usize> {
            let mut made = 0;
            for _ in 0..times {
                let start = Instant::now();
                made = work()?;
                milliseconds.push(1000.0 * start.elapsed().as_secs_f64());
            }
            Ok(made)
        };
        match self.what {
            What::TuneLabels | What::TuneText => {
                let (answers, target) = self.task()?;
                let examples = vec![Tuned { source, target: &target, answers: &answers }; self.size];
                let plan = Plan::of(models, Some(self.arguments.memory << 20))?;
                let mut tuner = Tuner::new(models, plan);
                let made = timed(&mut || {
                    let done = tuner.contributions(&examples)?;
                    anyhow::ensure!(done.iter().all(|done| done.loss.is_finite()), "a loss is not finite");
                    Ok(0)
                })?;
                Ok((made, used_mib(device)))
            }
            What::Score => {
                let trie = trie(1)?;
                let examples = vec![(source, &trie); self.size];
                let mut scorer = Scorer::new(&models[0])?;
                timed(&mut || Ok(scorer.score(&examples).map(|_| 0)?))?;
                Ok((0, used_mib(device)))
            }
            What::Generate => {
                let mut generator = Generator::new(&models[0])?;
                let (sources, limits) = (vec![source; self.size], vec![self.arguments.new_tokens; self.size]);
                let made = timed(&mut || {
                    let texts = generator.generate(&sources, &limits)?;
                    Ok(texts.iter().map(|text| text.tokens.len()).sum())
                })?;
                Ok((made, used_mib(device)))
            }
            What::Memory => anyhow::bail!("memory is measured by itself"),
        }
    }

    fn task(&self) -> anyhow::Result<(Answers, Target)> {
        let target = self.arguments.target;
        Ok(if matches!(self.what, What::TuneLabels) {
            let names = vec!["first".into(), "second".into()];
            (Answers::Labels { names, trie: trie(target)? }, Target::Label(1))
        } else {
            let tokens = (0..target as u32).map(|i| 300 + i).collect();
            (Answers::Text { max_new_tokens: target }, Target::Text { tokens, text: String::new() })
        })
    }
}

/// Two labels that differ in the last of their tokens.
fn trie(tokens: usize) -> anyhow::Result<LabelTrie> {
    let label = |last: u32| (0..tokens as u32 - 1).map(|i| 300 + i).chain([last]).collect::<Vec<u32>>();
    Ok(LabelTrie::new(&[("first".into(), label(400)), ("second".into(), label(401))], 0, 1)?)
}

fn show(nodes: &[Placed], device: Device) {
    let on_host = |node: &&Placed| node.is_on_cpu() && device != Device::Cpu;
    let (small, large): (Vec<_>, Vec<_>) =
        nodes.iter().filter(on_host).partition(|node| node.is_shape_arithmetic());
    println!(
        "{} nodes; {} of shape arithmetic and {} others on the processor; {} copies",
        nodes.len(),
        small.len(),
        large.len(),
        nodes.iter().filter(|node| node.is_copy()).count()
    );
    large.iter().for_each(|node| println!("on the processor: {node}"));
    nodes.iter().filter(|node| node.is_copy()).for_each(|node| println!("copy: {node}"));
    let mut slowest: Vec<&Placed> = nodes.iter().collect();
    slowest.sort_by_key(|node| std::cmp::Reverse(node.microseconds));
    slowest.iter().take(SLOWEST).for_each(|node| println!("{node}"));
}

fn rounded(x: f64) -> f64 {
    (1000.0 * x).round() / 1000.0
}

/// Memory that is taken on a card, by all processes.
fn used_mib(device: Device) -> Option<usize> {
    let Device::Cuda(number) = device else { return None };
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    let gpu = visible
        .split(',')
        .nth(number as usize)
        .filter(|gpu| !gpu.is_empty())
        .map_or(number.to_string(), Into::into);
    let query = ["--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", &gpu];
    let output = Command::new("nvidia-smi").args(query).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
