//! `score`: importance of tokens and pieces.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use xprompt::prompt;
use xprompt_trainer::{inspect, steps};

use super::options::ModelOptions;
use super::session::Session;
use super::{read_prompt, write_prompt};

const EXAMPLE: &str = "\
Example:
  xprompt-trainer score tuned.safetensors --task task.toml";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// The absolute derivative of the loss by the mask: the paper's.
    Absolute,
    /// The derivative with its sign: what lowers the loss scores high.
    Signed,
    /// How much the loss rises when a token or piece is left out: a pass over the rows for each, at most 128 rows.
    LeaveOneOut,
}

/// Scores what each token and piece of a prompt contributes, and shows it as bars.
///
/// Reads the prompt file and the task's train rows ([pruning] importance_rows of them). Writes the scores into the
/// prompt file, or with --out into a copy of it; `prune` prunes by them, and the file names the score.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Score {
    /// The prompt file.
    prompt: PathBuf,
    /// The task file (TOML) of the prompt's task.
    #[arg(long, value_name = "FILE")]
    task: PathBuf,
    /// The prompt file to write; by default the same one, replaced when all is done.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// What to score by.
    #[arg(long, value_name = "SCORE", value_enum, default_value_t = By::Absolute)]
    by: By,
    #[command(flatten)]
    model: ModelOptions,
}

// === impl Score ===

impl Score {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (file, _) = read_prompt(&self.prompt)?;
        let session = Session::open(&self.task, &self.model)?;
        let by = match self.by {
            By::Absolute => prompt::Score::AbsoluteGradient,
            By::Signed => prompt::Score::SignedGradient,
            By::LeaveOneOut => prompt::Score::LeaveOneOut,
        };
        let scored = session.with_line(file.manifest.seed, |lab, line| {
            steps::score(lab, line, file, by).with_context(|| self.prompt.display().to_string())
        })?;
        let version = write_prompt(&scored, self.out.as_ref().unwrap_or(&self.prompt))?;
        print!("\n{}", inspect::describe(&scored, &version));
        Ok(())
    }
}
