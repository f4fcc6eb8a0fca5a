//! `export`: a prompt file for another program.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use xprompt::exchange::to_peft;
use xprompt_trainer::foreign;

use super::read_prompt;

const EXAMPLE: &str = "\
Example:
  xprompt-trainer export OUT/prompt.safetensors --peft ADAPTER --base-model google/t5-large-lm-adapt
  python -c \"from peft import AutoPeftModelForSeq2SeqLM as A; A.from_pretrained('ADAPTER')\"";

/// Writes a prompt file as an adapter of PEFT, which answers the same.
///
/// Reads the prompt file; no model is needed. Writes adapter_config.json, adapter_model.safetensors, and task.toml with
/// what PEFT has no place for: template and labels. Masks do not exist in PEFT: pruned tokens are left out, and pruned
/// pieces are zeros.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Export {
    /// The prompt file.
    prompt: PathBuf,
    /// The adapter's folder; it is made if it is missing.
    #[arg(long, value_name = "DIR")]
    peft: PathBuf,
    /// The model that PEFT loads with it: a name on the hub, or a folder. By default its name in the prompt file.
    #[arg(long, value_name = "NAME")]
    base_model: Option<String>,
}

// === impl Export ===

impl Export {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (file, version) = read_prompt(&self.prompt)?;
        let adapter =
            to_peft(&file, self.base_model.as_deref()).with_context(|| self.prompt.display().to_string())?;
        foreign::write(&self.peft, &adapter)?;
        println!(
            "{}: {} tokens of {} (version {version})",
            self.peft.display(),
            file.prompt.kept_token_count(),
            self.prompt.display()
        );
        Ok(())
    }
}
