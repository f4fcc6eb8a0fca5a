//! The splits of a task.

use serde::Serialize;
use xprompt::prompt::{DataSource, TaskSpec};
use xprompt::task::Tokenizer;

use super::{DataError, Dataset, Entry, Files, Reader, divide};
use crate::superglue::Purpose;
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

/// What rows are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// To tune on.
    Train,
    /// To choose by.
    Dev,
    /// To report on.
    Test,
}

// === impl Split ===

impl Split {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }

    /// What rows of a benchmark are expanded for.
    #[must_use]
    pub fn purpose(self) -> Purpose {
        match self {
            Self::Train => Purpose::Train,
            Self::Dev | Self::Test => Purpose::Evaluate,
        }
    }

    /// The files that `[data]` names for it, none if it names none, and how many rows of them are wanted.
    #[must_use]
    pub fn files(self, data: &Data) -> (Files<'_>, Option<usize>) {
        let (paths, limit) = match self {
            Self::Train => (&data.train, data.train_rows),
            Self::Dev => (&data.dev, data.dev_rows),
            Self::Test => (&data.test, data.test_rows),
        };
        (Files { paths, format: data.format }, limit)
    }
}

// === impl Sets ===

impl Sets {
    /// Reads what `[data]` names; a dev that it does not name is drawn from train.
    ///
    /// # Errors
    /// If the template is malformed, a file cannot be read, a row does not fit the task, or there are too few rows.
    pub fn read(data: &Data, spec: &TaskSpec, tokenizer: &Tokenizer, eos: u32) -> Result<Self, DataError> {
        let reader = Reader::of(data, spec, tokenizer, eos)?;
        let read = |split: Split| {
            let (files, limit) = split.files(data);
            if files.paths.is_empty() {
                return Ok(None);
            }
            let rows = reader.rows(files, limit, split.purpose());
            let fingerprint = rows.fingerprint.clone();
            let entries: Vec<Entry> = reader.entries(rows).collect::<Result<_, _>>()?;
            if entries.is_empty() { Err(DataError::empty(files)) } else { Ok(Some((entries, fingerprint))) }
        };
        let (entries, fingerprint) = read(Split::Train)?.expect("invariant: a task file names train");
        let (train, drawn) = divide(data, entries)?;
        let dataset = |(entries, fingerprint)| reader.dataset(entries, fingerprint);
        let dev = match drawn {
            Some(drawn) => Some(reader.dataset(drawn, fingerprint.clone())),
            None => read(Split::Dev)?.map(dataset),
        };
        Ok(Self {
            train: reader.dataset(train, fingerprint),
            dev: dev.expect("invariant: divide draws dev where no file is named"),
            test: read(Split::Test)?.map(dataset),
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
}
