//! `[tuning]`, `[pruning]` and `[rewinding]`: the recipe. Defaults are the paper's.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Wrong;

/// Where a prompt starts. Whatever gives fewer rows than there are prompt tokens comes first, and sampled vocabulary
/// after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Initialization {
    /// Embeddings drawn from the 5,000 most frequent tokens (Lester et al. 2021, section 3.2; the paper's choice).
    #[default]
    SampledVocabulary,
    /// Uniform in [-0.5, 0.5] (Lester et al. 2021, section 3.2; compared in the paper's table 6).
    RandomUniform,
    /// Mean embeddings of each label's words (Lester et al. 2021, section 3.2).
    ClassLabels,
    /// Embeddings of a text's tokens, such as an instruction; the first ones if there are too many. (PEFT's
    /// `prompt_tuning_init_text`, which repeats a short text instead.)
    Text(String),
    /// The surviving rows of a prompt file of the same model; the path is relative to the task file's folder. A tuned
    /// prompt makes this the paper's task transfer, an XPrompt its XPrompt transfer (table 7). What was pruned inside
    /// a row starts at zero and can be trained again.
    Prompt(PathBuf),
}

/// `[tuning]`. Defaults are the paper's (section 4.3), where it gives them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// Soft prompt tokens (paper: 20).
    pub prompt_tokens: usize,
    /// Where the prompt starts (paper: sampled vocabulary).
    pub initialization: Initialization,
    /// Adafactor's constant learning rate (paper: 0.3).
    pub learning_rate: f32,
    /// Adafactor's weight decay (paper: 1e-5).
    pub weight_decay: f32,
    /// Examples a step (paper: 16).
    pub batch_size: usize,
    /// Passes over train (paper: 100).
    pub epochs: usize,
    /// Ends tuning earlier.
    pub max_steps: Option<usize>,
    /// Steps between evaluations on dev; by default an epoch, at least 50 and at most 500.
    pub evaluate_every: Option<usize>,
    /// Evaluations without a better dev metric after which tuning ends.
    pub patience: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            prompt_tokens: 20,
            initialization: Initialization::default(),
            learning_rate: 0.3,
            weight_decay: 1e-5,
            batch_size: 16,
            epochs: 100,
            max_steps: None,
            evaluate_every: None,
            patience: 10,
        }
    }
}

/// `[pruning]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pruning {
    /// Pieces a token is made of (paper: 16).
    pub pieces: usize,
    /// Shares of tokens to prune that are tried (paper: 10 to 90 %).
    pub token_ratios: Vec<f64>,
    /// Shares of each token's pieces to prune that are tried (paper: 10 to 90 %).
    pub piece_ratios: Vec<f64>,
    /// Train rows over which importance is averaged; by default all, at most 2,048.
    pub importance_rows: usize,
    /// Whether ratios that fall behind are dropped before they took all steps (successive halving); without it every
    /// ratio takes all steps, as in the paper.
    pub successive_halving: bool,
}

impl Default for Pruning {
    fn default() -> Self {
        let tenths: Vec<f64> = (1..10).map(|tenth| f64::from(tenth) / 10.0).collect();
        Self {
            pieces: 16,
            token_ratios: tenths.clone(),
            piece_ratios: tenths,
            importance_rows: 2048,
            successive_halving: true,
        }
    }
}

/// `[rewinding]`: where it is silent, the recipe of `[tuning]`, as in the paper.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rewinding {
    /// Ends each retraining earlier.
    pub max_steps: Option<usize>,
    /// Steps between evaluations on dev.
    pub evaluate_every: Option<usize>,
}

// === impl Initialization ===

impl Initialization {
    /// Makes the path of a prompt relative to the task file's folder, and checks that there is something to start from.
    pub(super) fn resolve(&mut self, folder: &Path, labels: usize) -> Result<(), Wrong> {
        match self {
            Self::ClassLabels if labels == 0 => {
                let remedy = "a free-text task has no labels; choose another, such as sampled_vocabulary";
                Err(Wrong::new("tuning.initialization", self, remedy))
            }
            Self::Text(text) if text.trim().is_empty() => Err(Wrong::new(
                "tuning.initialization.text",
                text,
                "write the text whose tokens to start from",
            )),
            Self::Prompt(path) => {
                *path = folder.join(&path);
                let remedy = "there is no such file; name a prompt file, relative to the task file's folder";
                if path.is_file() {
                    Ok(())
                } else {
                    Err(Wrong::new("tuning.initialization.prompt", path, remedy))
                }
            }
            Self::SampledVocabulary | Self::RandomUniform | Self::ClassLabels | Self::Text(_) => Ok(()),
        }
    }
}

// === impl Tuning ===

impl Tuning {
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if !(1..=512).contains(&self.prompt_tokens) {
            return Err(Wrong::new("tuning.prompt_tokens", self.prompt_tokens, "1 to 512"));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return Err(Wrong::new("tuning.learning_rate", self.learning_rate, "a positive number"));
        }
        for (setting, got) in [
            ("tuning.batch_size", self.batch_size),
            ("tuning.epochs", self.epochs),
            ("tuning.patience", self.patience),
        ] {
            if got == 0 {
                return Err(Wrong::new(setting, got, "at least 1"));
            }
        }
        Ok(())
    }
}

// === impl Pruning ===

impl Pruning {
    pub(super) fn check(&self) -> Result<(), Wrong> {
        for (setting, ratios) in
            [("pruning.token_ratios", &self.token_ratios), ("pruning.piece_ratios", &self.piece_ratios)]
        {
            if ratios.is_empty() || ratios.iter().any(|ratio| !(0.0..1.0).contains(ratio)) {
                return Err(Wrong::new(setting, ratios, "one or more shares, from 0 to below 1"));
            }
        }
        if self.importance_rows == 0 {
            return Err(Wrong::new("pruning.importance_rows", 0, "at least 1"));
        }
        Ok(())
    }
}
