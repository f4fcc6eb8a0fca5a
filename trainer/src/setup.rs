//! The loaded model that a run works on.

use std::path::Path;

use xprompt::engine::{Scorer, base};
use xprompt::prompt::Base;
use xprompt::runtime::{Model, Runtime, RuntimeError};
use xprompt::t5::{Checkpoint, CheckpointError};
use xprompt::task::{Tokenizer, TokenizerError};

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

/// A frozen T5 with its tokenizer, and the scoring session that evaluates.
#[derive(Debug)]
pub struct Setup {
    /// The model.
    pub model: Model,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Scores labels.
    pub scorer: Scorer,
    /// What prompt files are checked against.
    pub base: Base,
}

// === impl Setup ===

impl Setup {
    /// Loads a model's folder.
    ///
    /// # Errors
    /// If a part of it, or ONNX Runtime, is not usable.
    pub fn load(folder: &Path, library: Option<&Path>, threads: Option<usize>) -> Result<Self, SetupError> {
        let checkpoint = Checkpoint::open(folder)?;
        let config = checkpoint.config();
        let tokenizer = Tokenizer::open(folder, config.vocab_size, config.eos_token_id)?;
        let base = base(&checkpoint, &tokenizer);
        let model = Model::new(checkpoint, Runtime::start(library, threads)?);
        let scorer = Scorer::new(&model)?;
        Ok(Self { model, tokenizer, scorer, base })
    }
}
