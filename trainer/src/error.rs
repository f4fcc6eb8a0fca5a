//! Why a run ended early.

use std::path::PathBuf;

use xprompt::engine::TaskError;
use xprompt::prompt::PromptError;
use xprompt::runtime::RuntimeError;
use xprompt::task::{TemplateError, TokenizerError};

use crate::data::DataError;
use crate::evaluate::EvaluateError;
use crate::folder::FolderError;
use crate::initialize::InitializeError;
use crate::log::LogError;
use crate::plan::Plan;

/// Why a run ended early. What was finished before is kept in the run's folder.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data is not usable.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The template is malformed.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The labels cannot be told apart.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// There is nothing to start from.
    #[error(transparent)]
    Initialize(#[from] InitializeError),
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// ONNX Runtime failed.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// An evaluation failed.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The run's folder is not usable.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The memory of the machine or the GPU does not suffice.
    #[error(
        "out of memory; run the same command with a lower --memory (it was {mebibytes} MiB), and it goes on from its last \
         checkpoint (ONNX Runtime: {reason})"
    )]
    OutOfMemory {
        /// What ONNX Runtime said.
        reason: String,
        /// Memory for activations that was planned with, in MiB.
        mebibytes: usize,
    },
    /// A prompt cannot be written, or is not one that a server would load.
    #[error("{path}: {source}")]
    Prompt {
        /// The prompt's file.
        path: PathBuf,
        /// What is wrong.
        source: PromptError,
    },
    /// The pieces do not divide the model's width.
    #[error("{task}: pruning.pieces is {pieces}, which does not divide the model's width {d_model}")]
    Pieces {
        /// The task.
        task: String,
        /// Pieces asked for.
        pieces: usize,
        /// The model's width.
        d_model: usize,
    },
    /// Nothing is left to choose by or to report on.
    #[error(
        "{task}: {rows} rows of dev cannot be parted into {share} to report on and the rest to choose by; give more \
         rows, or set selection.report_share to 0 and name a test set"
    )]
    Selection {
        /// The task.
        task: String,
        /// Rows of dev.
        rows: usize,
        /// The share to report on.
        share: f64,
    },
    /// A loss or gradient became infinite or not a number.
    #[error(
        "{part}, {task} with seed {seed}: the loss of {candidate} is {loss} at step {step}; lower tuning.learning_rate \
         (it is {learning_rate})"
    )]
    Diverged {
        /// The part of the run.
        part: String,
        /// The task.
        task: String,
        /// The seed.
        seed: u64,
        /// The candidate.
        candidate: String,
        /// The optimizer step.
        step: usize,
        /// The loss.
        loss: f32,
        /// The recipe's learning rate.
        learning_rate: f32,
    },
}

// === impl RunError ===

impl RunError {
    /// The error as a run says it that is planned like this: with a remedy, if the memory did not suffice.
    #[must_use]
    pub fn under(self, plan: Plan) -> Self {
        let short = match &self {
            Self::Runtime(error) | Self::Evaluate(EvaluateError::Runtime(error)) => error.out_of_memory(),
            _ => None,
        };
        match short {
            Some(reason) => Self::OutOfMemory { reason, mebibytes: plan.mebibytes() },
            None => self,
        }
    }
}
