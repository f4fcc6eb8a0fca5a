//! Labelled rows: JSONL files as token ids.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use xprompt::engine::Answers;
use xprompt::fingerprint;
use xprompt::prompt::{DataSource, OutputSpec, TaskSpec};
use xprompt::task::{Template, TemplateError, Tokenizer, TokenizerError};

/// Why data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not a JSON object.
    #[error("{path}:{line}: {reason}; each line is one JSON object")]
    Json {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What the reader said.
        reason: String,
    },
    /// A row does not fit the template.
    #[error("{path}:{line}: {source}")]
    Row {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        source: TemplateError,
    },
    /// A row's label is missing or unknown.
    #[error("{path}:{line}: {key} is {got}; the task's labels are {labels}")]
    Label {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// The key that holds the label.
        key: String,
        /// What is there.
        got: String,
        /// The names of the labels.
        labels: String,
    },
    /// A free-text row has no target text.
    #[error("{path}:{line}: no text under the key {key:?}; name the key with data.label")]
    Target {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// The key that should hold the text.
        key: String,
    },
    /// No row at all.
    #[error("{path}: no rows")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// What the model should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A label, by its number in the task.
    Label(usize),
    /// A text: its tokens with the end token, and as it stands.
    Text {
        /// Token ids.
        tokens: Vec<u32>,
        /// The text.
        text: String,
    },
}

/// A labelled example.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The template's fields.
    pub input: Map<String, Value>,
    /// Token ids of the rendered template, with the end token.
    pub source: Vec<u32>,
    /// What the model should say.
    pub target: Target,
    /// Answers of a text task that count as right; none means that only the target's text does.
    pub accepted: Vec<String>,
    /// Which examples belong together, such as the answers to one question: a number that they share.
    pub group: Option<usize>,
}

/// A file's examples.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The examples, in the file's order.
    pub examples: Vec<Example>,
    /// How many were longer than the task allows and were cut.
    pub truncated: usize,
    /// SHA-256 of the file, 16 hexadecimal digits.
    pub fingerprint: String,
}

/// Makes rows into examples of one task.
#[derive(Debug)]
pub struct Reader<'a> {
    template: Template,
    spec: &'a TaskSpec,
    label: &'a str,
    tokenizer: &'a Tokenizer,
    eos: u32,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// A reader for a task whose rows hold the label under the key `label`.
    ///
    /// # Errors
    /// If the template is malformed.
    pub fn new(
        spec: &'a TaskSpec,
        label: &'a str,
        tokenizer: &'a Tokenizer,
        eos: u32,
    ) -> Result<Self, TemplateError> {
        Ok(Self { template: Template::parse(&spec.template)?, spec, label, tokenizer, eos })
    }

    /// Reads a JSONL file, the first `rows` rows of it if given.
    ///
    /// # Errors
    /// If the file cannot be read or a row does not fit the task; the error names file and line.
    pub fn read(&self, path: &Path, rows: Option<usize>) -> Result<Dataset, DataError> {
        let bytes =
            std::fs::read(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
        let fingerprint = fingerprint::of_bytes(&bytes);
        let mut set = Dataset { examples: Vec::new(), truncated: 0, fingerprint };
        let lines = bytes.split(|&byte| byte == b'\n').enumerate();
        let filled = lines.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace));
        for (i, line) in filled.take(rows.unwrap_or(usize::MAX)) {
            let json = |reason: String| DataError::Json { path: path.to_owned(), line: i + 1, reason };
            let row: Map<String, Value> =
                serde_json::from_slice(line).map_err(|error| json(error.to_string()))?;
            set.examples.push(self.example(&row, path, i + 1, &mut set.truncated)?);
        }
        if set.examples.is_empty() {
            return Err(DataError::Empty { path: path.to_owned() });
        }
        Ok(set)
    }

    fn example(
        &self,
        row: &Map<String, Value>,
        path: &Path,
        line: usize,
        truncated: &mut usize,
    ) -> Result<Example, DataError> {
        let misfit = |source| DataError::Row { path: path.to_owned(), line, source };
        let text = self.template.render_row(row).map_err(misfit)?;
        let limit = self.spec.max_input_tokens;
        let (source, tokens) = self.tokenizer.source_within(&text, limit)?;
        *truncated += usize::from(tokens > limit);
        let fields = self.template.fields().iter();
        let input = fields.map(|field| (field.clone(), row[field].clone())).collect();
        let target = self.target(row, path, line)?;
        Ok(Example { input, source, target, accepted: Vec::new(), group: None })
    }

    fn target(&self, row: &Map<String, Value>, path: &Path, line: usize) -> Result<Target, DataError> {
        let value = row.get(self.label);
        let text = match value {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(_) | Value::Bool(_)) => value.map(Value::to_string),
            _ => None,
        };
        match &self.spec.output {
            OutputSpec::Labels { labels } => {
                let known = labels.iter().position(|label| Some(&label.name) == text.as_ref());
                known.map(Target::Label).ok_or_else(|| DataError::Label {
                    path: path.to_owned(),
                    line,
                    key: self.label.into(),
                    got: value.map_or("missing".into(), Value::to_string),
                    labels: labels.iter().map(|label| label.name.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
            OutputSpec::Text { max_new_tokens } => {
                let missing = || DataError::Target { path: path.to_owned(), line, key: self.label.into() };
                let text = text.ok_or_else(missing)?;
                let mut tokens = self.tokenizer.words(&text)?;
                tokens.truncate(max_new_tokens.saturating_sub(1));
                tokens.push(self.eos);
                Ok(Target::Text { tokens, text })
            }
        }
    }
}

// === impl Dataset ===

impl Dataset {
    /// The file as a prompt's manifest names it.
    #[must_use]
    pub fn source(&self, split: &str) -> DataSource {
        DataSource { split: split.into(), rows: self.examples.len(), fingerprint: self.fingerprint.clone() }
    }

    /// The share of the most frequent label: the accuracy of always answering it. None for free text.
    #[must_use]
    pub fn majority(&self, answers: &Answers) -> Option<f64> {
        let Answers::Labels { names, .. } = answers else { return None };
        let count = |label| self.examples.iter().filter(|e| e.target == Target::Label(label)).count();
        let most = (0..names.len()).map(count).max()?;
        Some(most as f64 / self.examples.len() as f64)
    }
}
