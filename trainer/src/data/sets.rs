//! The splits of a task.

use serde_json::{Map, Value, json};
use xprompt::engine::Answers;
use xprompt::prompt::{DataSource, TaskSpec};
use xprompt::task::Tokenizer;

use super::{DataError, Dataset, Entry, Files, Reader, divide};
use crate::task_file::Data;

/// The examples of a task, by what they are for.
#[derive(Clone, Debug)]
pub struct Sets {
    /// To tune on.
    pub train: Dataset,
    /// To choose by.
    pub dev: Dataset,
    /// To report on.
    pub test: Option<Dataset>,
}

// === impl Sets ===

impl Sets {
    /// Reads what `[data]` names; a dev that it does not name is drawn from train.
    ///
    /// # Errors
    /// If the template is malformed, a file cannot be read, a row does not fit the task, or there are too few rows.
    pub fn read(data: &Data, spec: &TaskSpec, tokenizer: &Tokenizer, eos: u32) -> Result<Self, DataError> {
        let reader = Reader::new(spec, &data.label, tokenizer, eos)?.grouped(data.group.as_deref());
        let files = |paths| Files { paths, format: data.format };
        let named = |paths, limit| match files(paths) {
            Files { paths: [], .. } => Ok(None),
            files => reader.read(files, limit).map(Some),
        };
        let rows = reader.rows(files(&data.train), data.train_rows);
        let fingerprint = rows.fingerprint.clone();
        let entries: Vec<Entry> = reader.entries(rows).collect::<Result<_, _>>()?;
        if entries.is_empty() {
            return Err(DataError::empty(files(&data.train)));
        }
        let (train, drawn) = divide(data, entries)?;
        let dev = match drawn {
            Some(drawn) => Some(reader.dataset(drawn, fingerprint.clone())),
            None => named(&data.dev, data.dev_rows)?,
        };
        Ok(Self {
            train: reader.dataset(train, fingerprint),
            dev: dev.expect("invariant: divide draws dev where no file is named"),
            test: named(&data.test, data.test_rows)?,
        })
    }

    /// The splits by name.
    pub fn splits(&self) -> impl Iterator<Item = (&'static str, &Dataset)> {
        let splits = [("train", Some(&self.train)), ("dev", Some(&self.dev)), ("test", self.test.as_ref())];
        splits.into_iter().filter_map(|(name, set)| Some((name, set?)))
    }

    /// The splits as a prompt's manifest names them.
    #[must_use]
    pub fn sources(&self) -> Vec<DataSource> {
        self.splits().map(|(name, set)| set.source(name)).collect()
    }

    /// Accuracy of always answering the most frequent label, by split; empty for free text.
    #[must_use]
    pub fn majority(&self, answers: &Answers) -> Map<String, Value> {
        let share = |set: &Dataset| set.majority(answers);
        self.splits().filter_map(|(name, set)| Some((name.to_owned(), json!(share(set)?)))).collect()
    }
}
