//! The bare scoring session on the texts that the load test posts: what the server cannot be faster than.
//!
//! `cargo bench --bench session -- FOLDER TASK=FILE.jsonl...` scores the texts with the prompts of FOLDER, mixed, in
//! batches of 1, 8 and 32 of similar length, and prints the median texts a second of five rounds.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use xprompt::engine::{Answers, ReadyTask, Scorer, Source};
use xprompt::prompt::{Limits, PromptFile};
use xprompt::runtime::{Model, Runtime};
use xprompt::t5::Checkpoint;
use xprompt::task::{LabelTrie, Tokenizer};

const ROUNDS: usize = 5;
const TEXTS: usize = 400;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let usage = "usage: cargo bench --bench session -- PROMPTS_FOLDER TASK=FILE.jsonl...";
    let folder = arguments.next().context(usage)?;
    let sets: Vec<String> = arguments.collect();
    anyhow::ensure!(!sets.is_empty(), usage);

    let model_folder = Path::new("models/t5-nano");
    let model = Model::new(Checkpoint::open(model_folder)?, Runtime::start(None, None)?);
    let config = model.config();
    let tokenizer = Tokenizer::open(model_folder, config.vocab_size, config.eos_token_id)?;
    let mut tasks = Vec::new();
    let mut examples: Vec<(usize, Vec<u32>)> = Vec::new();
    for set in &sets {
        let (task, path) = set.split_once('=').context(usage)?;
        let file = Path::new(&folder).join(format!("{task}.safetensors"));
        let (file, version) =
            PromptFile::read(&file, &Limits::default()).with_context(|| file.display().to_string())?;
        let task = ReadyTask::new(file, version, &tokenizer, config)?;
        let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
        for line in text.lines().take(TEXTS / sets.len()) {
            let row: serde_json::Value = serde_json::from_str(line)?;
            examples.push((tasks.len(), task.encode(&row["text"], &tokenizer, true)?.0));
        }
        tasks.push(task);
    }
    let length = |&(task, ref text): &(usize, Vec<u32>)| tasks[task].kept_tokens() + text.len();
    examples.sort_by_key(length);
    let total: usize = examples.iter().map(length).sum();
    println!("{} texts, {} tokens each on average, prompts included", examples.len(), total / examples.len());

    let mut scorer = Scorer::new(&model)?;
    for batch in [1, 8, 32] {
        let mut rates: Vec<f64> = Vec::new();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for chunk in examples.chunks(batch) {
                let items: Vec<(Source<'_>, &LabelTrie)> = chunk
                    .iter()
                    .filter_map(|(task, text)| match tasks[*task].answers() {
                        Answers::Labels { trie, .. } => {
                            Some((Source { prompt: tasks[*task].rows(), text }, trie))
                        }
                        Answers::Text { .. } => None,
                    })
                    .collect();
                scorer.score(&items)?;
            }
            rates.push(examples.len() as f64 / start.elapsed().as_secs_f64());
        }
        rates.sort_by(f64::total_cmp);
        println!("batch {batch:>2}: {:>6.0} texts a second (of {ROUNDS} rounds)", rates[ROUNDS / 2]);
    }
    Ok(())
}
