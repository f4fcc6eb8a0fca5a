//! `run`: the whole method, with controls.

use std::path::PathBuf;

use clap::Args;
use xprompt_trainer::experiment::{self, Experiment};
use xprompt_trainer::progress::Progress;
use xprompt_trainer::table;
use xprompt_trainer::task_file::{Controls, TaskFile};

use super::options::ModelOptions;
use super::read_task;

const EXAMPLE: &str = "\
Example:
  xprompt-trainer run task.toml --out OUT --seeds 1,2,3 --all-controls";

/// Runs the whole method: tune, score, prune tokens and pieces, rewind, retrain, and compare with controls.
///
/// Reads task files and the data they name. Writes OUT/prompt.safetensors, ready to be copied into a server's prompts
/// folder, every seed's prompts, OUT/summary.json for `report`, and a log. Killed at any moment, the same command goes
/// on where it stood. At its end it prints a table; what it says meanwhile goes to standard error.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Run {
    /// Task files (TOML): data, template, labels, recipe. Several train side by side, each into its folder of OUT.
    #[arg(required = true)]
    tasks: Vec<PathBuf>,
    /// Folder for the results; it is made if it is missing.
    #[arg(long, env = "XPROMPT_OUT", value_name = "DIR")]
    out: PathBuf,
    /// Seeds of everything random, separated by commas; they train side by side. The same seed on the same machine
    /// gives the same prompt, byte for byte.
    #[arg(
        long,
        alias = "seed",
        env = "XPROMPT_SEEDS",
        value_name = "N",
        value_delimiter = ',',
        default_value = "42"
    )]
    seeds: Vec<u64>,
    /// Compare with every control, whatever the task files ask for.
    #[arg(long)]
    all_controls: bool,
    /// Give every pruning ratio all of its steps, as the paper does, instead of dropping those that fall behind.
    #[arg(long)]
    no_halving: bool,
    #[command(flatten)]
    model: ModelOptions,
}

// === impl Run ===

impl Run {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let mut tasks: Vec<(String, TaskFile)> = Vec::new();
        for path in &self.tasks {
            let (name, mut file) = read_task(path)?;
            if self.all_controls {
                file.controls = Controls::all();
            }
            file.pruning.successive_halving &= !self.no_halving;
            anyhow::ensure!(
                tasks.iter().all(|(known, _)| *known != name),
                "two task files are named {name}; a task's results are kept under its file's name, so rename one"
            );
            tasks.push((name, file));
        }
        let mut seeds = self.seeds.clone();
        seeds.sort_unstable();
        seeds.dedup();
        anyhow::ensure!(seeds.len() == self.seeds.len(), "--seeds names a seed twice; name each once");
        let mut setup = self.model.load()?;
        let progress = Progress::default();
        progress.line(&format!("{:<22} {} on {}", "model", setup.base.model.name, setup.device()));
        let command = std::env::args().collect::<Vec<_>>().join(" ");
        let experiment = Experiment { tasks, seeds: self.seeds.clone(), out: self.out.clone(), command };
        let summaries = experiment::run(&mut setup, &experiment, progress)?;
        for summary in &summaries {
            let out = experiment.folder_of(&summary.name);
            print!("\n{}", table::of(summary));
            let result = out.join("prompt.safetensors");
            println!("\nresult    {} (of the seed that is best on dev)", result.display());
            println!("report    xprompt-trainer report {}", out.display());
        }
        Ok(())
    }
}
