//! Rows as examples of one task.

use std::collections::HashMap;

use serde_json::{Map, Value};
use xprompt::prompt::{Label, OutputSpec, TaskSpec};
use xprompt::task::{InputForm, TemplateError, Tokenizer};

use super::{DataError, Dataset, Files, Place, Row, Rows};
use crate::example::{Example, Target};
use crate::superglue::{Purpose, SuperGlue};
use crate::task_file::Data;

/// An example, where it comes from, and how long it was.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The example.
    pub example: Example,
    /// Its row.
    pub place: Place,
    /// Tokens of the source before it was cut.
    pub tokens: usize,
}

/// Labels that a message names.
const NAMED: usize = 20;

/// Makes rows into examples of one task.
#[derive(Debug)]
pub struct Reader<'a> {
    form: InputForm,
    spec: &'a TaskSpec,
    label: Option<&'a str>,
    group: Option<&'a str>,
    benchmark: Option<SuperGlue>,
    tokenizer: &'a Tokenizer,
    eos: u32,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// A reader for a task whose rows hold the label under the key `label`.
    ///
    /// # Errors
    /// If the template is malformed, or lacks a field that is to be kept.
    pub fn new(
        spec: &'a TaskSpec,
        label: &'a str,
        tokenizer: &'a Tokenizer,
        eos: u32,
    ) -> Result<Self, TemplateError> {
        let form = InputForm::new(&spec.template, &spec.keep, spec.max_input_tokens)?;
        // a server would refuse the prompt after all the training
        for input in &spec.content_free {
            form.template().values(input)?;
        }
        Ok(Self { form, spec, label: Some(label), group: None, benchmark: None, tokenizer, eos })
    }

    /// A reader for the rows that `[data]` names.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of(
        data: &'a Data,
        spec: &'a TaskSpec,
        tokenizer: &'a Tokenizer,
        eos: u32,
    ) -> Result<Self, TemplateError> {
        let reader = Self::new(spec, &data.label, tokenizer, eos)?;
        Ok(Self { group: data.group.as_deref(), benchmark: data.superglue, ..reader })
    }

    /// The same reader for the original files of a benchmark.
    #[must_use]
    pub fn benchmark(self, benchmark: Option<SuperGlue>) -> Self {
        Self { benchmark, ..self }
    }

    /// The same reader for rows that are only to be answered: the examples' targets are empty.
    #[must_use]
    pub fn unlabelled(self) -> Self {
        Self { label: None, ..self }
    }

    /// Reads files to evaluate on, the first `limit` rows of them if given.
    ///
    /// # Errors
    /// If a file cannot be read or a row does not fit the task; the error names file and line.
    pub fn read(&self, files: Files<'_>, limit: Option<usize>) -> Result<Dataset, DataError> {
        let rows = self.rows(files, limit, Purpose::Evaluate);
        let fingerprint = rows.fingerprint.clone();
        let entries: Vec<Entry> = self.entries(rows).collect::<Result<_, _>>()?;
        if entries.is_empty() {
            return Err(DataError::empty(files));
        }
        Ok(self.dataset(entries, fingerprint))
    }

    /// The rows of files, the first `limit` of them if given; tables have to have the columns that the task needs.
    /// The purpose matters to a benchmark's files alone.
    #[must_use]
    pub fn rows(&self, files: Files<'_>, limit: Option<usize>, purpose: Purpose) -> Rows {
        if let Some(benchmark) = self.benchmark {
            return Rows::read(files, &[], limit).expanded(benchmark, purpose);
        }
        let fields = self.form.template().fields().iter().map(String::as_str);
        let needs: Vec<&str> = fields.chain(self.label).chain(self.group).collect();
        Rows::read(files, &needs, limit)
    }

    /// The examples that rows are, or what is wrong with them.
    pub fn entries(&self, rows: Rows) -> impl Iterator<Item = Result<Entry, DataError>> {
        self.examined(rows).map(|row| row.map_err(|mut wrong| wrong.swap_remove(0)))
    }

    /// The examples that rows are, or all that is wrong with them, which is one thing at least.
    pub fn examined(&self, rows: Rows) -> impl Iterator<Item = Result<Entry, Vec<DataError>>> {
        let mut groups = HashMap::new();
        rows.rows.into_iter().map(move |row| self.entry(row.map_err(|error| vec![error])?, &mut groups))
    }

    /// How its examples' texts are made.
    #[must_use]
    pub fn form(&self) -> &InputForm {
        &self.form
    }

    /// Examples as a split.
    #[must_use]
    pub fn dataset(&self, entries: Vec<Entry>, fingerprint: String) -> Dataset {
        let limit = self.form.limit();
        let truncated = entries.iter().filter(|entry| entry.tokens > limit).count();
        let examples = entries.into_iter().map(|entry| entry.example).collect();
        Dataset { examples, truncated, fingerprint }
    }

    fn entry(&self, row: Row, groups: &mut HashMap<String, usize>) -> Result<Entry, Vec<DataError>> {
        let Row { place, values, accepted: told, group: of } = row;
        let template = self.form.template();
        let mut wrong = Vec::new();
        let mut texts = Vec::with_capacity(template.fields().len());
        for field in template.fields() {
            match template.row_value(&values, field) {
                Ok(text) => texts.push(text),
                Err(source) => wrong.push(DataError::Row { place: place.clone(), source }),
            }
        }
        let target = self.target(&values, &place).map_err(|error| wrong.push(error));
        let group = match (of, self.group) {
            (Some(name), _) => Ok(Some(name)),
            (None, Some(key)) => group_under(key, &values, &place).map(Some),
            (None, None) => Ok(None),
        };
        let group = group.map_err(|error| wrong.push(error));
        let (Ok((target, listed)), Ok(group), true) = (target, group, wrong.is_empty()) else {
            return Err(wrong);
        };
        let (source, tokens) =
            self.form.source(&texts, self.tokenizer).map_err(|error| vec![error.into()])?;
        let input = template.fields().iter().map(|field| (field.clone(), values[field].clone())).collect();
        let next = groups.len();
        let group = group.map(|name| *groups.entry(name).or_insert(next));
        let accepted = if told.is_empty() { listed } else { told };
        Ok(Entry { example: Example { input, source, target, accepted, group }, place, tokens })
    }

    /// The target, and the accepted texts where a row holds a list of them, of which the first is the target.
    fn target(&self, row: &Map<String, Value>, place: &Place) -> Result<(Target, Vec<String>), DataError> {
        let Some(key) = self.label else { return Ok((self.no_target(), Vec::new())) };
        let value = row.get(key);
        match &self.spec.output {
            OutputSpec::Labels { labels } => {
                let text = value.and_then(text);
                let known = labels.iter().position(|label| Some(&label.name) == text.as_ref());
                let label = known.ok_or_else(|| DataError::Label {
                    place: place.clone(),
                    key: key.into(),
                    got: value.map_or("missing".into(), Value::to_string),
                    labels: some_names(labels),
                })?;
                Ok((Target::Label(label), Vec::new()))
            }
            OutputSpec::Text { max_new_tokens } => {
                let accepted = match value {
                    Some(Value::Array(texts)) => texts.iter().map(text).collect::<Option<Vec<_>>>(),
                    _ => Some(Vec::new()),
                };
                let first = accepted.as_ref().and_then(|texts| texts.first().cloned());
                let missing = || DataError::Target { place: place.clone(), key: key.into() };
                let text = first.or_else(|| value.and_then(text)).ok_or_else(missing)?;
                let mut tokens = self.tokenizer.answer(&text)?;
                tokens.truncate(max_new_tokens.saturating_sub(1));
                tokens.push(self.eos);
                Ok((Target::Text { tokens, text }, accepted.unwrap_or_default()))
            }
        }
    }

    fn no_target(&self) -> Target {
        match self.spec.output {
            OutputSpec::Labels { .. } => Target::Label(0),
            OutputSpec::Text { .. } => Target::Text { tokens: vec![self.eos], text: String::new() },
        }
    }
}

fn group_under(key: &str, row: &Map<String, Value>, place: &Place) -> Result<String, DataError> {
    let missing = || DataError::Group { place: place.clone(), key: key.into() };
    row.get(key).and_then(text).ok_or_else(missing)
}

/// The labels' names, of very many the first.
fn some_names(labels: &[Label]) -> String {
    let names: Vec<&str> = labels.iter().take(NAMED).map(|label| label.name.as_str()).collect();
    let more =
        if labels.len() > NAMED { format!(" and {} more", labels.len() - NAMED) } else { String::new() };
    names.join(", ") + &more
}

/// A value that stands for a text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}
