//! `fetch`: a model of the Hugging Face hub.

use clap::Args;
use indicatif::{HumanBytes, ProgressBar};
use xprompt::hub::{Event, Hub, HubError, Repository};
use xprompt_trainer::progress::Progress;

const EXAMPLE: &str = "\
Example:
  xprompt-trainer fetch google/flan-t5-small
  xprompt-trainer run task.toml --model hf:google/flan-t5-small --out OUT

The variables of Python's huggingface_hub hold: HF_HUB_CACHE or HF_HOME for the cache, which is the same, HF_TOKEN for
models that only some may read, HF_ENDPOINT for another hub, HF_HUB_OFFLINE=1.";

/// Fetches a model of the Hugging Face hub into the cache that Python has too, and prints its folder.
///
/// Only what is needed comes: config.json, the tokenizer, and safetensors. A download that breaks off goes on where it
/// stopped. `--model hf:NAME@REVISION` does the same by itself.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Fetch {
    /// The model, as NAME or NAME@REVISION.
    #[arg(value_name = "NAME")]
    model: String,
    /// A branch, tag, commit, or refs/pr/N; by default main.
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Ask nobody: say where the cache has it, or what is missing there.
    #[arg(long)]
    offline: bool,
}

/// Shows on standard error how it goes.
#[derive(Default)]
pub(super) struct Shown {
    progress: Progress,
    bar: Option<ProgressBar>,
}

// === impl Fetch ===

impl Fetch {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let name = self.model.strip_prefix("hf:").unwrap_or(&self.model);
        let mut repository: Repository = name.parse()?;
        if let Some(revision) = &self.revision {
            repository = repository.at(revision)?;
        }
        let mut shown = Shown::default();
        let fetched: Result<_, HubError> =
            Hub::from_env().offline(self.offline).fetch(&repository, &mut |event| shown.show(event));
        println!("{}", fetched?.display());
        Ok(())
    }
}

// === impl Shown ===

impl Shown {
    pub(super) fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Bytes { file, done, size } => {
                let bar = self.bar.get_or_insert_with(|| self.progress.download(file));
                bar.set_length(size.unwrap_or(done));
                bar.set_position(done);
            }
            Event::Done { file } => {
                let bytes = self.bar.take().map(|bar| {
                    bar.finish_and_clear();
                    bar.position()
                });
                let size = bytes.map_or_else(|| "in the cache".into(), |bytes| HumanBytes(bytes).to_string());
                self.progress.line(&format!("{file:<32} {size}"));
            }
            Event::Again { file, reason } => {
                self.progress.line(&format!("{file:<32} broke off, and goes on ({reason})"));
            }
            Event::Waiting { file } => {
                self.progress.line(&format!("{file:<32} is downloaded by another process: waiting for it"));
            }
            Event::Cached { reason } => {
                self.progress.line(&format!("the cache has what the hub had last: {reason}"));
            }
        }
    }
}
