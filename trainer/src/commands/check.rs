//! `check`: what is wrong with data and template.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use xprompt::t5::Config;
use xprompt::task::Tokenizer;
use xprompt_trainer::check;

use super::options::ModelFolder;

const EXAMPLE: &str = "\
Example:
  xprompt-trainer check task.toml";

/// Says what is wrong with a task's data and template, and shows what the model will read, before any training.
///
/// Reads the task file, its data, and of the model config.json and tokenizer.json only; writes nothing. Ends with
/// status 1 if there are errors.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Check {
    /// The task file (TOML).
    task: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelFolder,
}

// === impl Check ===

impl Check {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let folder = self.model.folder()?;
        let config = Config::read(&folder)?;
        let tokenizer = Tokenizer::open(&folder, config.vocab_size, config.eos_token_id)?;
        let report = check::check(&self.task, &tokenizer, &config);
        let shown = if self.json {
            format!("{:#}\n", json!(report))
        } else {
            report.describe(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        };
        print!("{shown}");
        Ok(if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
