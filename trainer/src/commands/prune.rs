//! `prune`: a mask by importance.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use xprompt_trainer::steps;

use super::{read_prompt, write_prompt};

const EXAMPLE: &str = "\
Example, as the method does it (pieces are scored when the tokens are gone):
  xprompt-trainer score tuned.safetensors --task task.toml
  xprompt-trainer prune tuned.safetensors --tokens 0.4 --out pruned.safetensors
  xprompt-trainer score pruned.safetensors --task task.toml
  xprompt-trainer prune pruned.safetensors --pieces 0.5 --out pruned.safetensors";

/// Prunes the least important tokens of a prompt, and the least important pieces of each token that is left.
///
/// Reads a scored prompt file and writes a pruned one; no model is needed. The values that are left stay as they are:
/// `rewind` retrains them. With both shares at once pieces go by the scores in the file; the method (and `run`) scores
/// pieces again after tokens were pruned, which is --tokens, `score`, --pieces, as in the example. Golden examples are
/// left out, because the pruned prompt no longer answers alike.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Prune {
    /// The prompt file, with the importance that `score` writes.
    prompt: PathBuf,
    /// Share of the tokens to prune, from 0 to below 1.
    #[arg(long, value_name = "SHARE", value_parser = share, allow_negative_numbers = true, required_unless_present = "pieces")]
    tokens: Option<f64>,
    /// Share of each token's pieces to prune, from 0 to below 1.
    #[arg(long, value_name = "SHARE", value_parser = share, allow_negative_numbers = true)]
    pieces: Option<f64>,
    /// The prompt file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..1.0).contains(share));
    share.ok_or_else(|| "a share is a number from 0 to below 1, such as 0.4 for 40 %".to_owned())
}

// === impl Prune ===

impl Prune {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (file, _) = read_prompt(&self.prompt)?;
        let pruned = steps::prune(file, self.tokens, self.pieces)
            .with_context(|| self.prompt.display().to_string())?;
        write_prompt(&pruned, &self.out).map(drop)
    }
}
