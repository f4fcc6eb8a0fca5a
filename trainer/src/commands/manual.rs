//! `completions` and `manual`: what shells and `man` are to know of the program.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::Cli;

const COMPLETIONS_EXAMPLE: &str = "\
Example:
  xprompt-trainer completions bash > ~/.local/share/bash-completion/completions/xprompt-trainer";

const MANUAL_EXAMPLE: &str = "\
Example:
  xprompt-trainer manual ~/.local/share/man/man1";

/// Prints what a shell needs to complete the program's arguments.
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLE)]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

/// Writes the program's manual pages into a folder.
#[derive(Debug, Args)]
#[command(after_help = MANUAL_EXAMPLE)]
pub(crate) struct Manual {
    /// The folder; it is made if it is missing.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

// === impl Completions ===

impl Completions {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "xprompt-trainer", &mut text);
        std::io::stdout().write_all(&text).context("standard output cannot be written")
    }
}

// === impl Manual ===

impl Manual {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let folder = &self.folder;
        std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
            .with_context(|| format!("{}: the manual pages cannot be written", folder.display()))
    }
}
