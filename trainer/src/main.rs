//! `xprompt-trainer`: the command line.

mod commands;
#[cfg(test)]
#[path = "../../tests/reference/command_line.rs"]
mod reference;
#[cfg(test)]
#[path = "../../tests/reference/page.rs"]
mod reference_page;

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
            eprintln!("xprompt-trainer: {}", described(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, each said once: many messages hold their cause already.
fn described(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |said, cause| {
        let cause = cause.to_string();
        if said.contains(&cause) { said } else { format!("{said}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_reference_of_the_command_line_is_in_step() {
        reference_page::is_in_step("xprompt-trainer.md", &reference::page(Cli::command()));
    }
}
