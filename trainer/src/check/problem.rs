//! Problems with their places, collected so that one mistake in many rows is one problem.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::data::{DataError, Place};

/// What a problem means for training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The task cannot be trained on.
    Error,
    /// It can, but something is lost.
    Warning,
}

/// One kind of problem of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it means for training.
    pub severity: Severity,
    /// The file.
    pub file: PathBuf,
    /// Lines of the rows that have it, or rows where the file has no lines; the first few.
    pub lines: Vec<usize>,
    /// Whether `lines` are lines.
    #[serde(skip)]
    is_line: bool,
    /// How many rows have it; 0 for a problem of the file.
    pub rows: usize,
    /// The field, column or setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong, and the remedy.
    pub message: String,
}

/// Kinds of problems that are listed for a file.
const KINDS: usize = 20;
/// Lines that are listed for a problem.
const LINES: usize = 5;

/// Problems as they are found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    problems: Vec<Problem>,
    known: HashMap<(Severity, PathBuf, String), usize>,
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(first) = self.lines.first() {
            write!(f, "{}{first}", if self.is_line { ":" } else { ", row " })?;
        }
        write!(f, ": {}", self.message)?;
        if self.rows > 1 {
            let more: Vec<String> = self.lines[1..].iter().map(usize::to_string).collect();
            let dots = if self.rows > self.lines.len() { ", ..." } else { "" };
            let what = if self.is_line { "lines" } else { "rows" };
            write!(f, " ({} rows; next {what}: {}{dots})", self.rows, more.join(", "))?;
        }
        Ok(())
    }
}

// === impl Findings ===

impl Findings {
    /// A problem of a row.
    pub(super) fn row(&mut self, severity: Severity, place: &Place, field: Option<&str>, message: &str) {
        let problem = self.kind(severity, &place.path, field, message);
        problem.rows += 1;
        problem.is_line = place.is_line;
        problem.lines.push(place.number);
    }

    /// A problem of a file.
    pub(super) fn file(&mut self, severity: Severity, file: &Path, field: Option<&str>, message: &str) {
        self.kind(severity, file, field, message);
    }

    /// What the reader says. `file` is where an error belongs that names none.
    pub(super) fn data(&mut self, error: &DataError, file: &Path) {
        let text = error.to_string();
        let message = |place: String| text.strip_prefix(&format!("{place}: ")).unwrap_or(&text).to_owned();
        match (error.place(), error.path()) {
            (Some(place), _) => {
                self.row(Severity::Error, place, error.field(), &message(place.to_string()));
            }
            (None, Some(path)) => {
                self.file(Severity::Error, path, error.field(), &message(path.display().to_string()));
            }
            (None, None) => {
                self.file(Severity::Error, file, error.field(), &message(file.display().to_string()));
            }
        }
    }

    /// The problems, errors first; of a file that has very many kinds, the first.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut listed: Vec<Problem> = Vec::new();
        let mut kinds: BTreeMap<(Severity, PathBuf), usize> = BTreeMap::new();
        for mut problem in self.problems {
            let count = kinds.entry((problem.severity, problem.file.clone())).or_default();
            *count += 1;
            if *count <= KINDS {
                problem.lines.sort_unstable();
                problem.lines.truncate(LINES);
                listed.push(problem);
            }
        }
        for ((severity, file), count) in kinds {
            if count > KINDS {
                let message = format!("{} more kinds of problems, not listed", count - KINDS);
                listed.push(Problem::new(severity, &file, None, &message));
            }
        }
        listed.sort_by_key(|problem| problem.severity);
        listed
    }

    fn kind(&mut self, severity: Severity, file: &Path, field: Option<&str>, message: &str) -> &mut Problem {
        let next = self.problems.len();
        let i = *self.known.entry((severity, file.to_owned(), message.to_owned())).or_insert(next);
        if i == next {
            self.problems.push(Problem::new(severity, file, field, message));
        }
        &mut self.problems[i]
    }
}

impl Problem {
    fn new(severity: Severity, file: &Path, field: Option<&str>, message: &str) -> Self {
        Self {
            severity,
            file: file.to_owned(),
            lines: Vec::new(),
            is_line: true,
            rows: 0,
            field: field.map(str::to_owned),
            message: message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mistake_in_many_rows_is_one_problem_and_many_mistakes_are_bounded() {
        let mut findings = Findings::default();
        let place = |number| Place { path: Path::new("a.jsonl").into(), number, is_line: true };
        for line in 1..=100 {
            findings.row(Severity::Warning, &place(line), None, "dull");
            findings.row(Severity::Error, &place(line), None, &format!("odd {line}"));
        }
        findings.file(Severity::Error, Path::new("b.jsonl"), None, "no rows");
        let problems = findings.into_problems();
        let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
        assert_eq!((count(Severity::Error), count(Severity::Warning)), (KINDS + 2, 1));
        assert!(
            problems
                .iter()
                .any(|problem| problem.to_string() == "a.jsonl: 80 more kinds of problems, not listed")
        );
        let last = problems.last().unwrap().to_string();
        assert_eq!(last, "a.jsonl:1: dull (100 rows; next lines: 2, 3, 4, 5, ...)");
    }
}
