//! What a task file (TOML) may say, and what holds where it is silent: the paper's settings.

mod data;
mod experiment;
mod recipe;
mod task;
mod weights;

pub use data::{Data, Format};
pub use experiment::{Controls, Selection};
pub use recipe::{Initialization, Pruning, Rewinding, Tuning};
pub use task::Task;
pub use weights::{ClassWeights, Rule};

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xprompt::prompt::{OutputSpec, TaskSpec};

use crate::superglue::SuperGlue;

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
    #[error("{path}: {wrong}")]
    Setting {
        /// The file.
        path: PathBuf,
        /// Which, and what is allowed.
        wrong: Wrong,
    },
}

/// A setting that is out of its range.
#[derive(Debug, thiserror::Error)]
#[error("{setting} is {got}; {remedy}")]
pub struct Wrong {
    setting: &'static str,
    got: String,
    remedy: &'static str,
}

impl Wrong {
    fn new(setting: &'static str, got: impl std::fmt::Debug, remedy: &'static str) -> Self {
        Self { setting, got: format!("{got:?}"), remedy }
    }
}

/// A task file.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TaskFile {
    /// Where the labelled rows are.
    pub data: Data,
    /// What makes a row into a prediction.
    #[serde(default)]
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
    /// What choices are made by.
    #[serde(default)]
    pub selection: Selection,
    /// What the result is compared with.
    #[serde(default)]
    pub controls: Controls,
}

// === impl TaskFile ===

impl TaskFile {
    /// Reads a task file; the paths in it become relative to its folder.
    ///
    /// # Errors
    /// If it is missing, malformed, or a setting is out of its range.
    pub fn read(path: &Path) -> Result<Self, TaskFileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TaskFileError::Read { path: path.to_owned(), source })?;
        let mut file: Self = toml::from_str(&text)
            .map_err(|error| TaskFileError::Parse { path: path.to_owned(), reason: error.to_string() })?;
        file.task.complete(file.data.superglue.map(SuperGlue::preset));
        let wrong = |wrong| TaskFileError::Setting { path: path.to_owned(), wrong };
        let sections = [
            file.data.check(),
            file.task.check(),
            file.tuning.check(),
            file.pruning.check(),
            file.selection.check(),
            file.controls.check(),
        ];
        for section in sections {
            section.map_err(wrong)?;
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        file.data.relative_to(folder);
        file.tuning.initialization.resolve(folder, file.task.labels.len()).map_err(wrong)?;
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
            template: self.task.template().into(),
            output,
            max_input_tokens: self.task.max_input_tokens,
            keep: self.task.keep.clone(),
            content_free: self.task.content_free.clone(),
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;

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
    fn metrics_and_class_weights_have_defaults_by_kind() {
        let file = parse(MINIMAL).unwrap();
        assert_eq!(file.task.metrics(), [Metric::Accuracy, Metric::MacroF1]);
        let text = MINIMAL.split("labels").next().unwrap().to_owned() + "max_new_tokens = 4\n";
        assert_eq!(parse(&text).unwrap().task.metrics(), [Metric::ExactMatch]);
        let weighted =
            parse(&format!("{MINIMAL}metrics = ['macro_f1']\nclass_weights = {{ y = 3 }}\n")).unwrap();
        assert_eq!(weighted.task.metrics(), [Metric::MacroF1]);
        let weights = weighted.task.class_weights.unwrap().resolve(&weighted.task.labels, &[1, 1]);
        assert_eq!(weights, [0.5, 1.5]);
    }

    #[test]
    fn a_benchmark_fills_in_what_the_task_file_leaves_out() {
        let data = "[data]\nsuperglue = 'cb'\ntrain = 'train.jsonl'\ndev = 'val.jsonl'\n";
        let silent = parse(data).unwrap();
        assert_eq!(silent.spec().template, "cb hypothesis: {hypothesis} premise: {premise}");
        assert_eq!(silent.task.labels[2].words, "neutral");
        assert_eq!(silent.task.metrics()[0], Metric::MeanAccuracyMacroF1);
        let own = parse(&format!(
            "{data}[task]\ntemplate = '{{premise}} So {{hypothesis}}?'\nlabels = [{{ name = 'entailment', words = \
             'yes' }}, {{ name = 'contradiction', words = 'no' }}, {{ name = 'neutral', words = 'maybe' }}]\n\
             metrics = ['accuracy']\nmax_input_tokens = 99\n"
        ))
        .unwrap();
        assert_eq!(own.spec().template, "{premise} So {hypothesis}?");
        assert_eq!((own.task.labels[2].words.as_str(), own.spec().max_input_tokens), ("maybe", 99));
        assert_eq!(own.task.metrics(), [Metric::Accuracy]);
    }

    #[test]
    fn a_benchmark_tells_label_and_group_itself() {
        for (setting, words) in [
            ("label = 'answer'", "data.label is \"answer\"; leave it out"),
            ("group = 'idx'", "data.group is \"idx\"; leave it out"),
            ("format = 'csv'", "data.format is Csv; leave it out"),
        ] {
            let error = parse(&format!("[data]\nsuperglue = 'rte'\ntrain = 'train.jsonl'\n{setting}\n"));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn mistakes_name_the_setting() {
        for (more, words) in [
            ("metrics = ['exact_match']", "task.metrics is \"exact_match\"; this metric is for free text"),
            ("metrics = ['accuracy', 'accuracy']", "name each metric once"),
            ("class_weights = { z = 2 }", "task.class_weights is \"z\"; a label has to be one of"),
            (
                "class_weights = { x = -1 }",
                "task.class_weights is -1.0; a weight has to be a positive number",
            ),
            ("class_weights = 'even'", "\"balanced\", or a table of labels and weights"),
            ("max_new_tokens = 4", "a task has labels or free text, not both"),
            ("[tuning]\nlerning_rate = 1.0", "lerning_rate"),
            ("[tuning]\nprompt_tokens = 0", "tuning.prompt_tokens is 0"),
            ("[pruning]\ntoken_ratios = [1.0]", "pruning.token_ratios"),
        ] {
            let error = parse(&format!("{MINIMAL}{more}\n")).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
