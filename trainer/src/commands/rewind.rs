//! `rewind`: the last stage.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use xprompt_trainer::steps::Rewinding;

use super::options::ModelOptions;
use super::read_prompt;
use super::session::Session;

const EXAMPLE: &str = "\
Example:
  xprompt-trainer rewind pruned.safetensors --to tuned.safetensors \\
    --task task.toml --out xprompt.safetensors";

/// Sets what is left of a pruned prompt back to the tuned values and retrains it: the XPrompt.
///
/// Reads both prompt files, the task file and its data. Writes a prompt file, ready to be served. It is retrained by
/// [rewinding] of the task file, on the examples in the order that `run` has. Killed, the same command goes on where
/// it stood, by what it keeps in OUT.underway, OUT being the file that it writes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Rewind {
    /// The pruned prompt file: what is left.
    pruned: PathBuf,
    /// The tuned prompt file: the values.
    #[arg(long, value_name = "TUNED")]
    to: PathBuf,
    /// The task file (TOML) of both.
    #[arg(long, value_name = "FILE")]
    task: PathBuf,
    /// The prompt file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Seed of the order of examples; by default that of the tuned prompt.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    model: ModelOptions,
}

// === impl Rewind ===

impl Rewind {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (pruned, pruned_version) = read_prompt(&self.pruned)?;
        let (tuned, tuned_version) = read_prompt(&self.to)?;
        let mut session = Session::open(&self.task, &self.model)?;
        let seed = self.seed.unwrap_or(tuned.manifest.seed);
        let rewinding = Rewinding::new(&pruned, &tuned, &session.setup.base, &session.task.spec)
            .with_context(|| format!("{} to {}", self.pruned.display(), self.to.display()))?;
        let what = json!({"rewind": pruned_version, "to": tuned_version});
        session.make(&self.out, seed, what, |lab, line| rewinding.retrain(lab, line))
    }
}
