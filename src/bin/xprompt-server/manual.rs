//! `xprompt-server completions` and `xprompt-server manual`: what shells and `man` are to know of the program.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Command, Parser};
use clap_complete::Shell;

/// Print what a shell needs to complete the program's arguments
///
/// xprompt-server completions bash > ~/.local/share/bash-completion/completions/xprompt-server
#[derive(Debug, Parser)]
#[command(name = "completions")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Write the program's manual pages into a folder
///
/// xprompt-server manual ~/.local/share/man/man1
#[derive(Debug, Parser)]
#[command(name = "manual")]
pub(crate) struct Manual {
    /// The folder; it is made if it is missing
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

// === impl Completions ===

impl Completions {
    pub(crate) fn print(&self, mut command: Command) -> anyhow::Result<()> {
        let name = command.get_name().to_owned();
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut text);
        std::io::stdout().write_all(&text).context("standard output cannot be written")
    }
}

// === impl Manual ===

impl Manual {
    pub(crate) fn write(&self, command: Command) -> anyhow::Result<()> {
        let folder = &self.folder;
        std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(command, folder))
            .with_context(|| format!("{}: the manual pages cannot be written", folder.display()))
    }
}
