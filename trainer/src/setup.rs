//! The loaded model that a run works on.

use std::path::PathBuf;

use xprompt::engine::base;
use xprompt::prompt::Base;
use xprompt::runtime::{Device, DeviceChoice, Model, Precision, Runtime, RuntimeError};
use xprompt::t5::{Checkpoint, CheckpointError};
use xprompt::task::{Tokenizer, TokenizerError};

use crate::evaluate::Evaluator;
use crate::plan::Plan;
use crate::tuner::Tuner;

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The checkpoint is not usable.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The tokenizer is not usable.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// ONNX Runtime is not usable.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// What to load, and where to.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The model's folder.
    pub model: PathBuf,
    /// ONNX Runtime's library; none: where it is usually found.
    pub library: Option<PathBuf>,
    /// Threads that compute; none: all cores.
    pub threads: Option<usize>,
    /// Where to compute.
    pub device: DeviceChoice,
    /// What to compute in; none: what is usual on the device.
    pub precision: Option<Precision>,
    /// Bytes that a run may take for activations on a device; none: planned from what is free.
    pub memory: Option<usize>,
}

/// A frozen T5 with its tokenizer.
#[derive(Debug)]
pub struct Setup {
    /// The model, on the first of the devices.
    pub model: Model,
    /// The same model on each of the devices, the first included.
    pub lanes: Vec<Model>,
    /// Why these devices, in words.
    pub device_reason: String,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// What prompt files are checked against.
    pub base: Base,
    /// How much a run holds at once.
    pub plan: Plan,
    /// Whether the plan's memory was asked for, and not taken from what is free.
    pub plan_is_given: bool,
}

// === impl Setup ===

impl Setup {
    /// Loads a model's folder.
    ///
    /// # Errors
    /// If a part of it, or ONNX Runtime, is not usable.
    pub fn load(options: &Options) -> Result<Self, SetupError> {
        let checkpoint = Checkpoint::open(&options.model)?;
        let config = checkpoint.config();
        let tokenizer = Tokenizer::open(&options.model, config.vocab_size, config.eos_token_id)?;
        let base = base(&checkpoint, &tokenizer);
        let runtime = Runtime::start(options.library.as_deref(), options.threads)?;
        let chosen = options.device.find(&runtime)?;
        let first = chosen.devices[0];
        let precision = options.precision.unwrap_or(Precision::of(first)).on(first)?;
        let model = Model::new(checkpoint, runtime).on(chosen.devices[0]).in_precision(precision);
        let lanes = on_each(&model, &chosen.devices);
        let plan = Plan::of(&lanes, options.memory)?;
        Ok(Self {
            model,
            lanes,
            device_reason: chosen.reason,
            tokenizer,
            base,
            plan,
            plan_is_given: options.memory.is_some(),
        })
    }

    /// The same over other devices, in the same precision; the processor may be named several times, to try what several
    /// devices do.
    ///
    /// # Panics
    /// If no device is named.
    #[must_use]
    pub fn over(self, devices: &[Device]) -> Self {
        let lanes = on_each(&self.model, devices);
        Self { model: lanes[0].clone(), plan: self.plan.over(lanes.len()), lanes, ..self }
    }

    /// Where it computes, in words.
    #[must_use]
    pub fn device(&self) -> String {
        let names: Vec<String> = self.lanes.iter().map(|model| model.device().to_string()).collect();
        let names = names.join(",");
        format!("{names} in {}, {} threads", self.model.precision(), self.model.runtime().threads())
    }

    /// A tuner of prompts for the model.
    #[must_use]
    pub fn tuner(&self) -> Tuner<'_> {
        Tuner::new(&self.lanes, self.plan)
    }

    /// An evaluator of prompts for the model.
    #[must_use]
    pub fn evaluator(&self) -> Evaluator<'_> {
        Evaluator::new(&self.lanes, &self.tokenizer, self.plan)
    }
}

/// A model on each of the devices, in its precision.
fn on_each(model: &Model, devices: &[Device]) -> Vec<Model> {
    let precision = model.precision();
    devices.iter().map(|&device| model.clone().on(device).in_precision(precision)).collect()
}
