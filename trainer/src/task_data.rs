//! A task ready to be trained on: its rows as examples, parted into what is tuned on, chosen by and reported on.

use serde_json::{Map, Value, json};
use xprompt::engine::Answers;
use xprompt::prompt::{DataSource, TaskSpec};

use crate::data::{Sets, part};
use crate::error::RunError;
use crate::example::{Example, Target};
use crate::metric::{Judged, Metric, Prediction};
use crate::setup::Setup;
use crate::task_file::TaskFile;

/// A task ready to be trained on.
#[derive(Debug)]
pub struct TaskData {
    /// The task's name: the stem of its file.
    pub name: String,
    /// Every setting.
    pub file: TaskFile,
    /// The task as a prompt file states it.
    pub spec: TaskSpec,
    /// What it answers with.
    pub answers: Answers,
    /// Examples to tune on.
    pub train: Vec<Example>,
    /// The part of dev that choices are made by.
    pub choose: Vec<Example>,
    /// The part of dev that nothing is chosen by.
    pub report: Vec<Example>,
    /// The test set.
    pub test: Vec<Example>,
    /// What it is measured by; choices are made by the first.
    pub metrics: Vec<Metric>,
    /// Where the rows come from.
    pub sources: Vec<DataSource>,
    /// Rows that were longer than the task allows and were cut.
    pub truncated: usize,
    /// Weight of each label in the loss.
    pub weights: Option<Vec<f32>>,
}

// === impl TaskData ===

impl TaskData {
    /// Reads a task's data.
    ///
    /// # Errors
    /// If the data does not fit the task, or dev is too small to be parted.
    pub fn read(name: &str, file: TaskFile, setup: &Setup) -> Result<Self, RunError> {
        let (pieces, d_model) = (file.pruning.pieces, setup.base.d_model);
        if pieces == 0 || !d_model.is_multiple_of(pieces) {
            return Err(RunError::Pieces { task: name.to_owned(), pieces, d_model });
        }
        let spec = file.spec();
        let answers = Answers::new(&spec.output, &setup.tokenizer, setup.model.config())?;
        let sets = Sets::read(&file.data, &spec, &setup.tokenizer, setup.model.config().eos_token_id)?;
        let (sources, truncated) = (sets.sources(), sets.splits().map(|(_, set)| set.truncated).sum());
        let Sets { train, dev, test } = sets;
        let share = file.selection.report_share;
        let rows = dev.examples.len();
        let test = test.map(|test| test.examples).unwrap_or_default();
        let unparted = || RunError::Selection { task: name.to_owned(), rows, share };
        if share == 0.0 && test.is_empty() {
            return Err(unparted());
        }
        let (choose, report) = part(dev.examples, share).map_err(|_| unparted())?;
        let labels = &file.task.labels;
        let weights = file.task.class_weights.as_ref();
        let weights = weights.map(|weights| weights.resolve(labels, &train.label_counts(labels.len())));
        Ok(Self {
            name: name.to_owned(),
            spec,
            answers,
            train: train.examples,
            choose,
            report,
            test,
            metrics: file.task.metrics(),
            sources,
            truncated,
            weights,
            file,
        })
    }

    /// Number of labels; 0 for free text.
    #[must_use]
    pub fn classes(&self) -> usize {
        match &self.answers {
            Answers::Labels { names, .. } => names.len(),
            Answers::Text { .. } => 0,
        }
    }

    /// Judges predictions for examples of this task.
    #[must_use]
    pub fn judge(&self, metric: Metric, predictions: &[Prediction], examples: &[Example]) -> Judged {
        metric.judge(predictions, examples, self.classes())
    }

    /// An example's weight in the loss.
    #[must_use]
    pub fn weight(&self, example: &Example) -> f32 {
        match (&self.weights, &example.target) {
            (Some(weights), Target::Label(label)) => weights[*label],
            _ => 1.0,
        }
    }

    /// The parts that prompts are measured on, those that are not empty.
    pub fn measured(&self) -> impl Iterator<Item = (&'static str, &[Example])> {
        let parts = [("choose", &self.choose), ("report", &self.report), ("test", &self.test)];
        parts
            .into_iter()
            .filter(|(_, examples)| !examples.is_empty())
            .map(|(name, set)| (name, set.as_slice()))
    }

    /// All parts, those that are not empty.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &[Example])> {
        std::iter::once(("train", self.train.as_slice())).chain(self.measured())
    }

    /// Accuracy of always answering a part's most frequent label, by part. Empty for free text.
    #[must_use]
    pub fn majority(&self) -> Map<String, Value> {
        let share = |examples: &[Example]| {
            let count = |label| examples.iter().filter(|e| e.target == Target::Label(label)).count();
            let most = (0..self.classes()).map(count).max()?;
            Some(most as f64 / examples.len() as f64)
        };
        self.parts().filter_map(|(name, part)| Some((name.to_owned(), json!(share(part)?)))).collect()
    }
}
