//! The commands: each room holds the arguments of one and what it does. What is reported goes to standard output, what
//! is said meanwhile to standard error. The work itself is the library's.

mod check;
mod eval;
mod export;
mod fetch;
mod graph;
mod import;
mod inspect;
mod manual;
mod options;
mod prune;
mod report;
mod rewind;
mod run;
mod score;
mod session;
mod tune;

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use xprompt::prompt::{Limits, PromptError, PromptFile};
use xprompt_trainer::task_file::TaskFile;

/// The commands in the order of the method: data, the whole of it, its stages one by one, what came of it.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(check::Check),
    Run(run::Run),
    Tune(tune::Tune),
    Score(score::Score),
    Prune(prune::Prune),
    Rewind(rewind::Rewind),
    Eval(eval::Eval),
    Report(report::Report),
    Inspect(inspect::Inspect),
    Import(import::Import),
    Export(export::Export),
    Graph(graph::Graph),
    Fetch(fetch::Fetch),
    Completions(manual::Completions),
    Manual(manual::Manual),
}

// === impl Command ===

impl Command {
    /// Does what was asked for; the status says whether what was looked at is good.
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Check(args) => return args.run(),
            Self::Run(args) => args.run(),
            Self::Tune(args) => args.run(),
            Self::Score(args) => args.run(),
            Self::Prune(args) => args.run(),
            Self::Rewind(args) => args.run(),
            Self::Eval(args) => args.run(),
            Self::Report(args) => args.run(),
            Self::Inspect(args) => args.run(),
            Self::Import(args) => args.run(),
            Self::Export(args) => args.run(),
            Self::Graph(args) => args.run(),
            Self::Fetch(args) => args.run(),
            Self::Completions(args) => args.run(),
            Self::Manual(args) => args.run(),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads a prompt file. Returns its version beside it.
fn read_prompt(path: &Path) -> anyhow::Result<(PromptFile, String)> {
    PromptFile::read(path, &Limits::default()).map_err(|error| match error {
        PromptError::Io { .. } => error.into(),
        _ => anyhow::Error::from(error).context(path.display().to_string()),
    })
}

/// Reads a task file. Returns the task's name beside it.
fn read_task(path: &Path) -> anyhow::Result<(String, TaskFile)> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok((name, TaskFile::read(path)?))
}

/// Writes a prompt file and says so. Returns its version.
fn write_prompt(file: &PromptFile, path: &Path) -> anyhow::Result<String> {
    let version = file.write(path)?;
    let prompt = &file.prompt;
    println!(
        "{} (version {version}): {} of {} tokens, {} of {} pieces",
        path.display(),
        prompt.kept_token_count(),
        prompt.tokens(),
        prompt.kept_piece_count(),
        prompt.piece_mask().len(),
    );
    Ok(version)
}
