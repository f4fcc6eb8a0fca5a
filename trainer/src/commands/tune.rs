//! `tune`: stage one.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use xprompt_trainer::steps;

use super::options::ModelOptions;
use super::session::Session;

const EXAMPLE: &str = "\
Example:
  xprompt-trainer tune task.toml --out tuned.safetensors";

/// Stage one alone: tunes a soft prompt on the frozen model (plain prompt tuning, [tuning] of the task file).
///
/// Reads the task file and its data. Writes a prompt file, which can be served as it is. It is the tuned prompt that
/// `run` makes with the same seed. Killed, the same command goes on where it stood, by what it keeps in FILE.underway.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Tune {
    /// The task file (TOML).
    task: PathBuf,
    /// The prompt file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Seed of the initial values and of the order of examples.
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    #[command(flatten)]
    model: ModelOptions,
}

// === impl Tune ===

impl Tune {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let mut session = Session::open(&self.task, &self.model)?;
        session.make(&self.out, self.seed, json!("tune"), steps::tune)
    }
}
