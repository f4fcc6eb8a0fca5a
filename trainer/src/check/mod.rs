//! `xprompt-trainer check`: what is wrong with a task's data and template, and what the model will read, before any
//! training. It needs a model's configuration and tokenizer, and no weights.

mod labels;
mod problem;
mod show;
mod split;

pub use problem::{Problem, Severity};
pub use split::{Lengths, SplitReport};

use std::path::{Path, PathBuf};

use serde::Serialize;
use xprompt::prompt::OutputSpec;
use xprompt::t5::Config;
use xprompt::task::Tokenizer;

use crate::data::{DataError, Entry, Reader, Split, divide};
use crate::example::Target;
use crate::task_file::TaskFile;
use problem::Findings;
use split::Examiner;

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The task file.
    pub task: PathBuf,
    /// How many problems are errors.
    pub errors: usize,
    /// How many problems are warnings.
    pub warnings: usize,
    /// What is wrong, errors first.
    pub problems: Vec<Problem>,
    /// Longest text in tokens.
    pub max_input_tokens: usize,
    /// Longest answer in tokens, for free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    /// The labels; none for free text.
    pub labels: Vec<LabelReport>,
    /// The splits that have a row that can be used.
    pub splits: Vec<SplitReport>,
    /// A few rows of train.
    pub examples: Vec<Shown>,
}

/// A label and what the model says for it.
#[derive(Clone, Debug, Serialize)]
pub struct LabelReport {
    /// Its name.
    pub name: String,
    /// What the model says.
    pub words: String,
    /// How many tokens that takes.
    pub tokens: usize,
}

/// A row as the model reads it.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// Its file and line, or row.
    pub place: String,
    /// The text; one that is too long as it is after the cut.
    pub text: String,
    /// Tokens before the text is cut.
    pub tokens: usize,
    /// What the model should say.
    pub target: String,
    /// The label's name; none for free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// Rows of train that are shown.
const SHOWN: usize = 3;

/// Checks the task that a file describes, for a model with this configuration and tokenizer. What is wrong is in the
/// report.
#[must_use]
pub fn check(path: &Path, tokenizer: &Tokenizer, config: &Config) -> Report {
    let mut findings = Findings::default();
    let mut report = Report {
        task: path.to_owned(),
        errors: 0,
        warnings: 0,
        problems: Vec::new(),
        max_input_tokens: 0,
        max_new_tokens: None,
        labels: Vec::new(),
        splits: Vec::new(),
        examples: Vec::new(),
    };
    match TaskFile::read(path) {
        Ok(task) => report.fill(&task, tokenizer, config, &mut findings),
        Err(error) => {
            let message = error.to_string();
            let message = message.strip_prefix(&format!("{}: ", path.display())).unwrap_or(&message);
            findings.file(Severity::Error, path, None, message.trim_end());
        }
    }
    report.problems = findings.into_problems();
    let count = |severity| report.problems.iter().filter(|problem| problem.severity == severity).count();
    (report.errors, report.warnings) = (count(Severity::Error), count(Severity::Warning));
    report
}

// === impl Report ===

impl Report {
    fn fill(&mut self, task: &TaskFile, tokenizer: &Tokenizer, config: &Config, findings: &mut Findings) {
        let spec = task.spec();
        self.max_input_tokens = spec.max_input_tokens;
        match &spec.output {
            OutputSpec::Labels { labels } => {
                self.labels = labels::check(labels, &self.task, tokenizer, config, findings);
            }
            OutputSpec::Text { max_new_tokens } => self.max_new_tokens = Some(*max_new_tokens),
        }
        let reader = match Reader::of(&task.data, &spec, tokenizer, config.eos_token_id) {
            Ok(reader) => reader,
            Err(error) => {
                return findings.file(Severity::Error, &self.task, Some("task.template"), &error.to_string());
            }
        };
        self.check_template(&reader, tokenizer, findings);
        let mut read = |split| rows(&reader, task, split, findings);
        let (train, dev, test) = (read(Split::Train), read(Split::Dev), read(Split::Test));
        let (train, drawn) = match train {
            Some(train) => match divide(&task.data, train.clone()) {
                Ok((train, drawn)) => (Some(train), drawn),
                Err(error) => {
                    findings.data(&error, &self.task);
                    (Some(train), None)
                }
            },
            None => (None, None),
        };
        let is_drawn = drawn.is_some();
        let mut examiner = Examiner::new(&task.data, &spec, &reader, tokenizer, findings);
        for (split, rows) in [(Split::Train, &train), (Split::Dev, &drawn.or(dev)), (Split::Test, &test)] {
            if let Some(rows) = rows {
                let drawn = is_drawn && split == Split::Dev;
                self.splits.push(examiner.examine(split, rows, drawn));
            }
        }
        self.examples = varied(&train.unwrap_or_default())
            .into_iter()
            .filter_map(|row| self.shown(row, &reader, tokenizer))
            .collect();
    }

    fn check_template(&self, reader: &Reader<'_>, tokenizer: &Tokenizer, findings: &mut Findings) {
        let template = reader.form().template();
        let bare = template.fill(&vec![String::new(); template.fields().len()]);
        let tokens = tokenizer.source(&bare).map_or(0, |ids| ids.len());
        if tokens > self.max_input_tokens {
            let message = format!(
                "the template alone takes {tokens} tokens, and task.max_input_tokens is {}; shorten the template, \
                 or raise the limit",
                self.max_input_tokens
            );
            findings.file(Severity::Error, &self.task, Some("task.template"), &message);
        }
    }

    fn shown(&self, row: &Entry, reader: &Reader<'_>, tokenizer: &Tokenizer) -> Option<Shown> {
        let template = reader.form().template();
        let text = if row.tokens > self.max_input_tokens {
            tokenizer.decode(&row.example.source).ok()?
        } else {
            template.fill(&template.row_values(&row.example.input).ok()?)
        };
        let (target, label) = match &row.example.target {
            Target::Label(label) => {
                let label = self.labels.get(*label)?;
                (label.words.clone(), Some(label.name.clone()))
            }
            Target::Text { text, .. } => (text.clone(), None),
        };
        Some(Shown { place: row.place.to_string(), text, tokens: row.tokens, target, label })
    }
}

/// The rows of a split that can be used; none if there is no such row.
fn rows(reader: &Reader<'_>, task: &TaskFile, split: Split, findings: &mut Findings) -> Option<Vec<Entry>> {
    let (files, limit) = split.files(&task.data);
    let first = files.paths.first()?;
    let rows = reader.rows(files, limit, split.purpose());
    if rows.rows.is_empty() {
        findings.data(&DataError::empty(files), first);
        return None;
    }
    let mut entries = Vec::new();
    for row in reader.examined(rows) {
        match row {
            Ok(entry) => entries.push(entry),
            Err(wrong) => wrong.iter().for_each(|error| findings.data(error, first)),
        }
    }
    (!entries.is_empty()).then_some(entries)
}

/// A few rows with as many different targets as there are, else the first ones.
fn varied(rows: &[Entry]) -> Vec<&Entry> {
    let mut chosen: Vec<usize> = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let known = |&other: &usize| rows[other].example.target == row.example.target;
        if chosen.len() < SHOWN && !chosen.iter().any(known) {
            chosen.push(i);
        }
    }
    let rest: Vec<usize> =
        (0..rows.len()).filter(|i| !chosen.contains(i)).take(SHOWN - chosen.len()).collect();
    chosen.extend(rest);
    chosen.into_iter().map(|i| &rows[i]).collect()
}
