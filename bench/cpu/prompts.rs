//! Random prompts for a model: a server does not compute faster or slower for their values.

use std::path::PathBuf;

use xprompt::engine::base;
use xprompt::prompt::{FORMAT, Label, Manifest, OutputSpec, Prompt, PromptFile, TaskSpec};
use xprompt::t5::Checkpoint;
use xprompt::task::Tokenizer;

use super::worker::random_rows;

/// Pieces of a token.
const PIECES: usize = 16;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Folder of the model.
    #[arg(long)]
    model: PathBuf,
    /// Folder for the prompts.
    #[arg(long)]
    out: PathBuf,
    /// How many.
    #[arg(long, default_value_t = 10)]
    tasks: usize,
    /// Tokens of each.
    #[arg(long, default_value_t = 20)]
    tokens: usize,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(&arguments.model)?;
    let config = checkpoint.config();
    let tokenizer = Tokenizer::open(&arguments.model, config.vocab_size, config.eos_token_id)?;
    let base = base(&checkpoint, &tokenizer);
    let values = random_rows(arguments.tasks * arguments.tokens * config.d_model);
    std::fs::create_dir_all(&arguments.out)?;
    for (task, rows) in values.chunks(arguments.tokens * config.d_model).enumerate() {
        let label = |words: &str| Label { name: words.into(), words: words.into() };
        let manifest = Manifest {
            format: FORMAT,
            producer: "bench/cpu".into(),
            tokens: arguments.tokens,
            pieces: PIECES,
            d_model: config.d_model,
            base_model: base.model.clone(),
            tokenizer: base.tokenizer.clone(),
            task: TaskSpec {
                template: "{text}".into(),
                output: OutputSpec::Labels { labels: ["good", "bad", "fair", "new"].map(label).into() },
                max_input_tokens: 512,
                keep: Vec::new(),
                content_free: Vec::new(),
            },
            history: Vec::new(),
            scored_by: Default::default(),
            seed: 0,
            data: Vec::new(),
            golden: Vec::new(),
        };
        let prompt = Prompt::dense(config.d_model, PIECES, rows.to_vec());
        let file = PromptFile { manifest, prompt, token_importance: None, piece_importance: None };
        file.write(&arguments.out.join(format!("task-{task}.safetensors")))?;
    }
    Ok(())
}
