//! What is lost in the rows of a split: warnings, lengths and balance.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value};
use xprompt::prompt::{OutputSpec, TaskSpec};
use xprompt::task::Tokenizer;

use super::problem::{Findings, Severity};
use crate::data::{Entry, Reader, Split};
use crate::example::{Example, Target};
use crate::task_file::{Data, Format};

/// A split in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct SplitReport {
    /// Which.
    pub split: Split,
    /// Its files.
    pub files: Vec<PathBuf>,
    /// Whether it was drawn from the rows of train.
    pub drawn: bool,
    /// Rows that are used.
    pub rows: usize,
    /// Tokens of a row's text before it is cut, the end token included.
    pub tokens: Lengths,
    /// Tokens of a row's target text before it is cut, the end token included; none for labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_tokens: Option<Lengths>,
    /// Rows by label; none for free text.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub labels: Map<String, Value>,
}

/// How lengths are distributed (nearest-rank percentiles).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// Half are at most this long.
    pub p50: usize,
    /// 90 of 100 are at most this long.
    pub p90: usize,
    /// 99 of 100 are at most this long.
    pub p99: usize,
    /// The longest.
    pub max: usize,
    /// How many are longer than the task allows, and are cut.
    pub over: usize,
}

/// Characters the tokenizer lacks that are named.
const CHARACTERS: usize = 5;

/// Examines splits one after the other, train first.
pub(super) struct Examiner<'a> {
    data: &'a Data,
    spec: &'a TaskSpec,
    reader: &'a Reader<'a>,
    tokenizer: &'a Tokenizer,
    findings: &'a mut Findings,
    /// Inputs of train.
    train: HashSet<String>,
}

// === impl Lengths ===

impl Lengths {
    fn of(mut lengths: Vec<usize>, limit: usize) -> Self {
        lengths.sort_unstable();
        let over = lengths.iter().filter(|&&length| length > limit).count();
        let rank = |percent: usize| lengths[(lengths.len() * percent).div_ceil(100).max(1) - 1];
        Self { p50: rank(50), p90: rank(90), p99: rank(99), max: rank(100), over }
    }
}

// === impl Examiner ===

impl<'a> Examiner<'a> {
    pub(super) fn new(
        data: &'a Data,
        spec: &'a TaskSpec,
        reader: &'a Reader<'a>,
        tokenizer: &'a Tokenizer,
        findings: &'a mut Findings,
    ) -> Self {
        Self { data, spec, reader, tokenizer, findings, train: HashSet::new() }
    }

    /// A split's rows that are used, at least one.
    pub(super) fn examine(&mut self, split: Split, rows: &[Entry], drawn: bool) -> SplitReport {
        let inputs: Vec<String> = rows.iter().map(|row| self.input(row)).collect();
        self.repetitions(rows, &inputs);
        if split == Split::Train {
            self.train = inputs.into_iter().collect();
            self.unseen_labels(rows);
        } else {
            for (row, _) in rows.iter().zip(&inputs).filter(|(_, input)| self.train.contains(*input)) {
                self.findings.row(Severity::Warning, &row.place, None, "the input also occurs in train");
            }
        }
        self.unknown_characters(rows);
        let mut target_tokens = Vec::new();
        for row in rows {
            self.fields(row);
            self.too_long(row);
            target_tokens.extend(self.target(row));
        }
        let (files, _) = if drawn { Split::Train } else { split }.files(self.data);
        let limit = self.reader.form().limit();
        SplitReport {
            split,
            files: files.paths.to_vec(),
            drawn,
            rows: rows.len(),
            tokens: Lengths::of(rows.iter().map(|row| row.tokens).collect(), limit),
            target_tokens: self.answer_limit().map(|limit| Lengths::of(target_tokens, limit)),
            labels: self.balance(rows),
        }
    }

    fn values(&self, row: &Entry) -> Vec<String> {
        let values = self.reader.form().template().row_values(&row.example.input);
        values.expect("invariant: an example's input fits its template")
    }

    fn input(&self, row: &Entry) -> String {
        self.reader.form().template().fill(&self.values(row))
    }

    fn repetitions(&mut self, rows: &[Entry], inputs: &[String]) {
        let mut first: HashMap<&str, &Example> = HashMap::new();
        for (Entry { example, place, .. }, input) in rows.iter().zip(inputs) {
            let message = match first.get(input.as_str()) {
                None => {
                    first.insert(input, example);
                    continue;
                }
                Some(earlier) if earlier.target == example.target => {
                    "the row repeats an earlier one; leave it out"
                }
                // rows that list what counts as right may differ in what they name first
                Some(earlier) if !(earlier.accepted.is_empty() && example.accepted.is_empty()) => continue,
                Some(_) => "an earlier row has the same input and another answer; correct one of them",
            };
            self.findings.row(Severity::Warning, place, None, message);
        }
    }

    fn balance(&self, rows: &[Entry]) -> Map<String, Value> {
        let OutputSpec::Labels { labels } = &self.spec.output else { return Map::new() };
        let count =
            |label: usize| rows.iter().filter(|row| row.example.target == Target::Label(label)).count();
        labels.iter().enumerate().map(|(i, label)| (label.name.clone(), count(i).into())).collect()
    }

    /// Longest answer in tokens; none for labels.
    fn answer_limit(&self) -> Option<usize> {
        match self.spec.output {
            OutputSpec::Labels { .. } => None,
            OutputSpec::Text { max_new_tokens } => Some(max_new_tokens),
        }
    }

    fn unseen_labels(&mut self, rows: &[Entry]) {
        let balance = self.balance(rows);
        let unseen: Vec<&str> =
            balance.iter().filter(|(_, count)| **count == 0).map(|(name, _)| name.as_str()).collect();
        if let Some(file) = self.data.train.first().filter(|_| !unseen.is_empty()) {
            let message = format!("no row of train has the label {}; it cannot be learnt", unseen.join(", "));
            self.findings.file(Severity::Warning, file, Some(&self.data.label), &message);
        }
    }

    fn fields(&mut self, row: &Entry) {
        let format = self.data.format.or_else(|| Format::of(&row.place.path));
        let fields = self.reader.form().template().fields();
        for (field, value) in fields.iter().zip(self.values(row)) {
            let message = if value.trim().is_empty() {
                format!("the field {field:?} is empty")
            } else if format == Some(Format::Tsv)
                && value.len() > 1
                && value.starts_with('"')
                && value.ends_with('"')
            {
                format!(
                    "the value of {field:?} is in quotes, which are part of the text in TSV; leave them out"
                )
            } else {
                continue;
            };
            self.findings.row(Severity::Warning, &row.place, Some(field), &message);
        }
    }

    fn too_long(&mut self, row: &Entry) {
        let limit = self.reader.form().limit();
        if row.tokens <= limit {
            return;
        }
        let keep = &self.spec.keep;
        let message = if keep.is_empty() {
            let or = match self.reader.form().template().fields() {
                [_] => "",
                _ => ", or name the fields that have to stay whole with task.keep",
            };
            format!(
                "the text is longer than task.max_input_tokens ({limit}): its end is lost; raise the limit{or}"
            )
        } else if self.kept_alone(row) {
            format!(
                "the fields of task.keep alone are longer than task.max_input_tokens ({limit}): their end is lost; \
                 raise the limit, or keep fewer"
            )
        } else {
            format!(
                "the text is longer than task.max_input_tokens ({limit}): other fields than those of task.keep lose \
                 their ends"
            )
        };
        self.findings.row(Severity::Warning, &row.place, None, &message);
    }

    /// Whether the text is still too long without the fields that may be cut.
    fn kept_alone(&self, row: &Entry) -> bool {
        let form = self.reader.form();
        let keep = &self.spec.keep;
        let fields = form.template().fields().iter().zip(self.values(row));
        let kept: Vec<String> =
            fields.map(|(field, value)| if keep.contains(field) { value } else { String::new() }).collect();
        let tokens = self.tokenizer.source(&form.template().fill(&kept)).map_or(0, |ids| ids.len());
        tokens > form.limit()
    }

    /// The tokens of a target text, before it is cut.
    fn target(&mut self, row: &Entry) -> Option<usize> {
        let Target::Text { text, .. } = &row.example.target else { return None };
        let tokens = self.tokenizer.answer(text).map_or(0, |ids| ids.len()) + 1;
        let key = Some(self.data.label.as_str());
        if text.trim().is_empty() {
            self.findings.row(Severity::Warning, &row.place, key, "the target text is empty");
        }
        let limit = self.answer_limit().unwrap_or(usize::MAX);
        if tokens > limit {
            let message = format!(
                "the target text takes more than task.max_new_tokens ({limit}) with its end token, and is \
                 cut; raise it"
            );
            self.findings.row(Severity::Warning, &row.place, key, &message);
        }
        Some(tokens)
    }

    fn unknown_characters(&mut self, rows: &[Entry]) {
        let Some(unknown) = self.tokenizer.unknown() else { return };
        let (mut found, mut places) = (BTreeSet::new(), Vec::new());
        for row in rows.iter().filter(|row| row.example.source.contains(&unknown)) {
            places.push(&row.place);
            if found.len() < CHARACTERS {
                let is_unknown =
                    |c: &char| self.tokenizer.words(&c.to_string()).is_ok_and(|ids| ids.contains(&unknown));
                found.extend(self.input(row).chars().filter(is_unknown));
            }
        }
        let found: Vec<String> = found.iter().take(CHARACTERS).map(|c| format!("{c:?}")).collect();
        let message = format!(
            "characters that the tokenizer does not know ({}); the model reads all of them as the same",
            found.join(", ")
        );
        for place in places {
            self.findings.row(Severity::Warning, place, None, &message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.percentile(x, [50, 90, 99, 100], method="inverted_cdf")` for x = 1..=7, 1..=200 and [3].
    #[test]
    fn percentiles_are_nearest_ranks() {
        let of = |lengths: Vec<usize>| {
            let Lengths { p50, p90, p99, max, over } = Lengths::of(lengths, 190);
            [p50, p90, p99, max, over]
        };
        assert_eq!(of((1..=7).rev().collect()), [4, 7, 7, 7, 0]);
        assert_eq!(of((1..=200).collect()), [100, 180, 198, 200, 10]);
        assert_eq!(of(vec![3]), [3, 3, 3, 3, 0]);
    }
}
