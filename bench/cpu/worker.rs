//! One engine of the comparison: loads the model, then does the work that it is told, a batch after the other.

use std::collections::HashMap;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::json;
use xprompt::engine::{Generator, Scorer, Source};
use xprompt::runtime::{Model, Precision, Runtime};
use xprompt::t5::Checkpoint;
use xprompt::task::LabelTrie;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Folder of the model.
    #[arg(long)]
    model: PathBuf,
    /// f32, bf16 or int8.
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// Threads that compute.
    #[arg(long)]
    threads: usize,
    /// Texts, labels and lengths, as `run.py` writes them.
    #[arg(long)]
    workload: PathBuf,
}

/// What all engines work on.
#[derive(Debug, Deserialize)]
struct Workload {
    /// Rows in front of each text.
    prompt: usize,
    /// Token ids by kind of text.
    texts: HashMap<String, Vec<Vec<u32>>>,
    /// Tokens of the labels by work.
    labels: HashMap<String, Vec<Vec<u32>>>,
    /// Tokens to generate by work.
    generate: HashMap<String, usize>,
}

/// A line of the standard input.
#[derive(Debug, Deserialize)]
struct Order {
    work: String,
    texts: String,
    #[serde(default = "usual_batch")]
    batch: usize,
    /// Rows in front of each text, of those that there are.
    prompt: Option<usize>,
}

fn usual_batch() -> usize {
    8
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let start = Instant::now();
    let text = std::fs::read_to_string(&arguments.workload)
        .with_context(|| arguments.workload.display().to_string())?;
    let workload: Workload = serde_json::from_str(&text)?;
    let runtime = Runtime::start(None, Some(arguments.threads))?;
    let model = Model::new(Checkpoint::open(&arguments.model)?, runtime).in_precision(arguments.precision);
    let (mut scorer, mut generator) = (Scorer::new(&model)?, Generator::new(&model)?);
    // as the server does behind its start
    if let Err(reason) = model.into_huge_pages() {
        eprintln!("weights stay where they are: {reason}");
    }
    let rows: Vec<f32> = random_rows(workload.prompt * model.config().d_model);
    println!("{}", json!({"ready_s": start.elapsed().as_secs_f64(), "peak_mib": peak_mib()}));
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let texts = workload.texts.get(&order.texts).with_context(|| format!("no texts {}", order.texts))?;
        let prompt =
            &rows[..order.prompt.unwrap_or(workload.prompt).min(workload.prompt) * model.config().d_model];
        let sources: Vec<Source<'_>> = texts.iter().map(|text| Source { prompt, text }).collect();
        let (seconds, tokens) = if let Some(&limit) = workload.generate.get(&order.work) {
            let start = Instant::now();
            let mut tokens = 0;
            for batch in sources.chunks(order.batch) {
                let texts = generator.generate(batch, &vec![limit; batch.len()])?;
                tokens += texts.iter().map(|text| text.tokens.len()).sum::<usize>();
            }
            (start.elapsed().as_secs_f64(), tokens)
        } else {
            let labels =
                workload.labels.get(&order.work).with_context(|| format!("no work {}", order.work))?;
            let named: Vec<_> = labels.iter().map(|tokens| (format!("{tokens:?}"), tokens.clone())).collect();
            let trie =
                LabelTrie::new(&named, model.config().decoder_start_token_id, model.config().eos_token_id)?;
            let start = Instant::now();
            for batch in sources.chunks(order.batch) {
                let examples: Vec<_> = batch.iter().map(|&source| (source, &trie)).collect();
                scorer.score(&examples)?;
            }
            (start.elapsed().as_secs_f64(), 0)
        };
        println!("{}", json!({"seconds": seconds, "tokens": tokens, "peak_mib": peak_mib()}));
    }
    Ok(())
}

/// Numbers about as large as embeddings; the same ones each time.
pub(super) fn random_rows(count: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut next = move || {
        // Knuth's MMIX
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The most memory that the process ever held, mapped files included.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1024)
}
