//! `inspect`: a prompt file as text.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use xprompt_trainer::inspect;

use super::read_prompt;

const EXAMPLE: &str = "\
Example:
  xprompt-trainer inspect OUT/prompt.safetensors";

/// Shows what a prompt file holds: task, history, and which tokens and pieces are left.
///
/// Reads the prompt file only and writes nothing; no model is needed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Inspect {
    /// The prompt file.
    prompt: PathBuf,
    /// Print the manifest as JSON.
    #[arg(long)]
    json: bool,
}

// === impl Inspect ===

impl Inspect {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (file, version) = read_prompt(&self.prompt)?;
        if self.json {
            println!("{:#}", json!(file.manifest));
        } else {
            print!("{}", inspect::describe(&file, &version));
        }
        Ok(())
    }
}
