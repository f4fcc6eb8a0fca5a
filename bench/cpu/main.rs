//! This project's part of the measurements on a CPU, beside the peers that `run.py` and `servers.py` start. See README.md.
//!
//! `cargo bench --bench cpu -- --help` lists the commands. They measure; they are no tests.

mod agreement;
mod load;
mod prompts;
mod worker;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Given by cargo.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures what it is told on its standard input, a line of JSON each.
    Worker(worker::Arguments),
    /// Writes random prompts for a model.
    Prompts(prompts::Arguments),
    /// Posts texts to a server and times its answers.
    Load(load::Arguments),
    /// What int8 and bf16 cost: accuracy, and labels that are not those of f32.
    Agreement(agreement::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Worker(arguments) => worker::run(&arguments),
        Command::Prompts(arguments) => prompts::run(&arguments),
        Command::Load(arguments) => load::run(&arguments),
        Command::Agreement(arguments) => agreement::run(&arguments),
    }
}
