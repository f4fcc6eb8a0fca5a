//! `xprompt-trainer`: the command line.

mod commands;

use std::process::ExitCode;

use clap::Parser;

/// Tunes, prunes and rewinds soft prompts (XPrompts) for a frozen T5.
#[derive(Debug, Parser)]
#[command(name = "xprompt-trainer", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("xprompt-trainer: {error:#}");
            ExitCode::FAILURE
        }
    }
}
