//! The commands: each room holds the arguments of one and what it does. What is reported goes to standard output, what
//! is said meanwhile to standard error. The work itself is the library's.

mod check;
mod eval;
mod graph;
mod inspect;
mod options;
mod report;
mod run;

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
    Eval(eval::Eval),
    Report(report::Report),
    Inspect(inspect::Inspect),
    Graph(graph::Graph),
}

// === impl Command ===

impl Command {
    /// Does what was asked for; the status says whether what was looked at is good.
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Check(args) => return args.run(),
            Self::Run(args) => args.run(),
            Self::Eval(args) => args.run(),
            Self::Report(args) => args.run(),
            Self::Inspect(args) => args.run(),
            Self::Graph(args) => args.run(),
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
