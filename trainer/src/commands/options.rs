//! Options that commands share.

use std::path::PathBuf;

use clap::Args;
use xprompt::hub::{self, Hub};
use xprompt::runtime::{DeviceChoice, Precision};
use xprompt_trainer::progress::Progress;
use xprompt_trainer::setup::{Options, Setup};

use super::fetch::Shown;

/// Which model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model and machine")]
pub(super) struct ModelFolder {
    /// The frozen T5: a Hugging Face folder with config.json, model.safetensors (or shards) and tokenizer.json, or
    /// hf:NAME or hf:NAME@REVISION for one of the hub, which is fetched once.
    #[arg(long, env = "XPROMPT_MODEL", value_name = "DIR", default_value = "models/t5-nano")]
    model: PathBuf,
}

/// Which model, and how it runs. To be flattened behind a command's own arguments.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model and machine")]
pub(super) struct ModelOptions {
    #[command(flatten)]
    folder: ModelFolder,
    /// ONNX Runtime library; by default ORT_DYLIB_PATH, beside this program, in ../lib, or where `make setup` put it.
    #[arg(long, env = "XPROMPT_ONNXRUNTIME", value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// Threads that compute; by default all cores.
    #[arg(long, env = "XPROMPT_THREADS", value_name = "N")]
    threads: Option<usize>,
    /// Where to compute: auto (the first GPU if one can be used, else cpu), cpu, cuda:N for the GPU with number N,
    /// several as cuda:0,cuda:1, or cuda:all.
    #[arg(long, env = "XPROMPT_DEVICE", value_name = "DEVICE", default_value_t)]
    device: DeviceChoice,
    /// What to compute in: f32, tf32, bf16 or f16 on a GPU, by default tf32; f32, bf16 (with AMX or AVX512-BF16) or int8 on a
    /// CPU, by default f32, and the other two in evaluations only. Prompts, losses and the optimizer are f32 in any case.
    #[arg(long, env = "XPROMPT_PRECISION", value_name = "PRECISION")]
    precision: Option<Precision>,
    /// Memory for activations in MiB; by default half of what is free, on a GPU three quarters of what is free beside the
    /// weights. Runs are cut to fit.
    #[arg(long, env = "XPROMPT_MEMORY", value_name = "MIB")]
    memory: Option<usize>,
}

// === impl ModelFolder ===

impl ModelFolder {
    /// The folder, with a model of the hub fetched into the cache.
    pub(super) fn folder(&self) -> anyhow::Result<PathBuf> {
        let mut shown = Shown::default();
        Ok(hub::model_folder(&self.model, &Hub::from_env(), &mut |event| shown.show(event))?)
    }
}

// === impl ModelOptions ===

impl ModelOptions {
    /// The model's folder, with a model of the hub fetched into the cache.
    pub(super) fn folder(&self) -> anyhow::Result<PathBuf> {
        self.folder.folder()
    }

    pub(super) fn load(&self) -> anyhow::Result<Setup> {
        let setup = Setup::load(&Options {
            model: self.folder.folder()?,
            library: self.onnxruntime.clone(),
            threads: self.threads,
            device: self.device.clone(),
            precision: self.precision,
            memory: self.memory.map(|mebibytes| mebibytes << 20),
        })?;
        if self.device == DeviceChoice::Auto {
            Progress::default().line(&format!(
                "{:<22} {}: {}",
                "device",
                setup.device(),
                setup.device_reason
            ));
        }
        Ok(setup)
    }
}
