//! What a task file (TOML) may say, and what holds where it is silent: the paper's settings.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xprompt::prompt::{Label, OutputSpec, TaskSpec};

/// Why a task file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TaskFileError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML of the expected form.
    #[error("{path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: String,
    },
    /// A setting is out of its range.
    #[error("{path}: {setting} is {got}; {remedy}")]
    Setting {
        /// The file.
        path: PathBuf,
        /// Which.
        setting: &'static str,
        /// Its value.
        got: String,
        /// What is allowed.
        remedy: &'static str,
    },
}

/// A task file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskFile {
    /// Where the labelled rows are.
    pub data: Data,
    /// What makes a row into a prediction.
    pub task: Task,
    /// Stage one: prompt tuning.
    #[serde(default)]
    pub tuning: Tuning,
    /// Hierarchical structured pruning.
    #[serde(default)]
    pub pruning: Pruning,
    /// Retraining after rewinding.
    #[serde(default)]
    pub rewinding: Rewinding,
}

/// `[data]`: JSONL files, relative to the task file's folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Rows to tune on.
    pub train: PathBuf,
    /// Rows to choose by.
    pub dev: PathBuf,
    /// Rows to report on.
    pub test: Option<PathBuf>,
    /// The key of a row that holds the label or the target text.
    #[serde(default = "default_label")]
    pub label: String,
    /// Use only the first rows of train.
    pub train_rows: Option<usize>,
    /// Use only the first rows of dev.
    pub dev_rows: Option<usize>,
    /// Use only the first rows of test.
    pub test_rows: Option<usize>,
}

fn default_label() -> String {
    "label".into()
}

/// `[task]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The text that the model reads, with the row's fields in braces.
    #[serde(default = "default_template")]
    pub template: String,
    /// The labels and their words; none for free text.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// Longest generated answer in tokens, for free text.
    pub max_new_tokens: Option<usize>,
    /// Longest text in tokens; longer rows are cut.
    #[serde(default = "default_max_input_tokens")]
    pub max_input_tokens: usize,
}

fn default_template() -> String {
    "{text}".into()
}

fn default_max_input_tokens() -> usize {
    512
}

/// Where a prompt starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Initialization {
    /// Embeddings drawn from the 5,000 most frequent tokens (Lester et al. 2021; the paper's choice).
    #[default]
    SampledVocabulary,
    /// Mean embeddings of the labels' words, the rest sampled (Lester et al. 2021).
    ClassLabels,
}

/// `[tuning]`. Defaults are the paper's (section 4.3), where it gives them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rewinding {
    /// Ends each retraining earlier.
    pub max_steps: Option<usize>,
    /// Steps between evaluations on dev.
    pub evaluate_every: Option<usize>,
}

// === impl TaskFile ===

impl TaskFile {
    /// Reads a task file; data paths become relative to its folder.
    ///
    /// # Errors
    /// If it is missing, malformed, or a setting is out of its range.
    pub fn read(path: &Path) -> Result<Self, TaskFileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TaskFileError::Read { path: path.to_owned(), source })?;
        let mut file: Self = toml::from_str(&text)
            .map_err(|error| TaskFileError::Parse { path: path.to_owned(), reason: error.to_string() })?;
        file.check(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for data in [&mut file.data.train, &mut file.data.dev].into_iter().chain(&mut file.data.test) {
            *data = folder.join(&data);
        }
        Ok(file)
    }

    /// The task as a prompt file states it.
    #[must_use]
    pub fn spec(&self) -> TaskSpec {
        let output = match self.task.max_new_tokens {
            Some(max_new_tokens) => OutputSpec::Text { max_new_tokens },
            None => OutputSpec::Labels { labels: self.task.labels.clone() },
        };
        TaskSpec {
            template: self.task.template.clone(),
            output,
            max_input_tokens: self.task.max_input_tokens,
        }
    }

    /// The recipe of a retraining.
    #[must_use]
    pub fn retuning(&self) -> Tuning {
        let mut recipe = self.tuning.clone();
        recipe.max_steps = self.rewinding.max_steps.or(recipe.max_steps);
        recipe.evaluate_every = self.rewinding.evaluate_every.or(recipe.evaluate_every);
        recipe
    }

    fn check(&self, path: &Path) -> Result<(), TaskFileError> {
        let wrong = |setting, got: &dyn std::fmt::Debug, remedy| {
            Err(TaskFileError::Setting { path: path.to_owned(), setting, got: format!("{got:?}"), remedy })
        };
        let t = &self.tuning;
        match (self.task.labels.len(), self.task.max_new_tokens) {
            (0 | 1, None) => {
                return wrong(
                    "task.labels",
                    &self.task.labels.len(),
                    "name at least two labels, or max_new_tokens for free text",
                );
            }
            (1.., Some(tokens)) => {
                return wrong("task.max_new_tokens", &tokens, "a task has labels or free text, not both");
            }
            _ => {}
        }
        if !(1..=512).contains(&t.prompt_tokens) {
            return wrong("tuning.prompt_tokens", &t.prompt_tokens, "1 to 512");
        }
        if !(t.learning_rate > 0.0 && t.learning_rate.is_finite()) {
            return wrong("tuning.learning_rate", &t.learning_rate, "a positive number");
        }
        if t.batch_size == 0 || t.epochs == 0 || t.patience == 0 {
            return wrong(
                "tuning.batch_size, epochs or patience",
                &(t.batch_size, t.epochs, t.patience),
                "at least 1",
            );
        }
        if self.task.max_input_tokens < 2 {
            return wrong("task.max_input_tokens", &self.task.max_input_tokens, "at least 2");
        }
        for (setting, ratios) in [
            ("pruning.token_ratios", &self.pruning.token_ratios),
            ("pruning.piece_ratios", &self.pruning.piece_ratios),
        ] {
            if ratios.is_empty() || ratios.iter().any(|ratio| !(0.0..1.0).contains(ratio)) {
                return wrong(setting, ratios, "one or more shares, from 0 to below 1");
            }
        }
        if self.pruning.importance_rows == 0 {
            return wrong("pruning.importance_rows", &0, "at least 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TaskFile, TaskFileError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("task.toml");
        std::fs::write(&path, text).unwrap();
        TaskFile::read(&path)
    }

    const MINIMAL: &str = "[data]\ntrain = 'a.jsonl'\ndev = 'b.jsonl'\n[task]\nlabels = [{ name = 'x', words = 'yes' }, { name = 'y', words = 'no' }]\n";

    #[test]
    fn silence_means_the_papers_settings() {
        let file = parse(MINIMAL).unwrap();
        assert_eq!((file.tuning.prompt_tokens, file.tuning.batch_size, file.tuning.epochs), (20, 16, 100));
        assert_eq!((file.tuning.learning_rate, file.tuning.weight_decay), (0.3, 1e-5));
        assert_eq!((file.pruning.pieces, file.pruning.token_ratios.len()), (16, 9));
        assert_eq!(file.retuning(), file.tuning);
    }

    #[test]
    fn mistakes_name_the_setting() {
        for (more, words) in [
            ("[tuning]\nlerning_rate = 1.0", "lerning_rate"),
            ("[tuning]\nprompt_tokens = 0", "tuning.prompt_tokens is 0"),
            ("[pruning]\ntoken_ratios = [1.0]", "pruning.token_ratios"),
        ] {
            let error = parse(&format!("{MINIMAL}{more}\n")).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
