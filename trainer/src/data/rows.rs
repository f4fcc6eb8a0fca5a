//! Rows as they stand in files of any format.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};
use xprompt::fingerprint;

use super::{DataError, Place, csv, jsonl, parquet};
use crate::superglue::{FlatRow, Purpose, SuperGlue};
use crate::task_file::Format;

/// Where the rows of a split are.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// One file or several, read one after the other.
    pub paths: &'a [PathBuf],
    /// Their format; if none is named, a file's name tells it.
    pub format: Option<Format>,
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Where it stands.
    pub place: Place,
    /// Its values by key or column.
    pub values: Map<String, Value>,
    /// Answers of a text task that count as right, where its file's layout tells them.
    pub accepted: Vec<String>,
    /// What it shares with the rows it belongs to, where its file's layout tells it.
    pub group: Option<String>,
}

/// The rows of a split, each whole or with what is wrong.
#[derive(Debug)]
pub struct Rows {
    /// The rows. A file that cannot be read at all is one error.
    pub rows: Vec<Result<Row, DataError>>,
    /// SHA-256 of the files' bytes one after the other, 16 hexadecimal digits.
    pub fingerprint: String,
}

// === impl Row ===

impl Row {
    pub(super) fn new(place: Place, values: Map<String, Value>) -> Self {
        Self { place, values, accepted: Vec::new(), group: None }
    }
}

// === impl Rows ===

impl Rows {
    /// Reads files, at most `limit` rows of them. A table has to have all of the columns `needs`.
    #[must_use]
    pub fn read(files: Files<'_>, needs: &[&str], limit: Option<usize>) -> Self {
        let mut rows = Vec::new();
        let mut contents = Vec::new();
        for path in files.paths {
            let limit = limit.unwrap_or(usize::MAX).saturating_sub(rows.len());
            let file = File { path: Arc::from(path.as_path()), needs, limit };
            match file.read(files.format) {
                Ok((bytes, more)) => {
                    contents.push(bytes);
                    rows.extend(more);
                }
                Err(error) => rows.push(Err(error)),
            }
        }
        Self { rows, fingerprint: fingerprint::of_parts(contents.iter().map(|bytes| &bytes[..])) }
    }

    /// The flat rows that rows of a benchmark's files stand for.
    #[must_use]
    pub fn expanded(self, benchmark: SuperGlue, purpose: Purpose) -> Self {
        let expand = |Row { place, values, .. }: Row| match benchmark.expand(purpose, &values) {
            Ok(rows) => rows
                .into_iter()
                .map(|FlatRow { fields: values, accepted, group, .. }| {
                    Ok(Row { place: place.clone(), values, accepted, group })
                })
                .collect(),
            Err(reason) => vec![Err(DataError::Malformed { place, reason })],
        };
        let rows = self.rows.into_iter().flat_map(|row| row.map_or_else(|error| vec![Err(error)], expand));
        Self { rows: rows.collect(), fingerprint: self.fingerprint }
    }
}

/// A file to be read.
pub(super) struct File<'a> {
    path: Arc<Path>,
    needs: &'a [&'a str],
    limit: usize,
}

// === impl File ===

impl File<'_> {
    fn read(&self, format: Option<Format>) -> Result<(Bytes, Vec<Result<Row, DataError>>), DataError> {
        let format = format
            .or_else(|| Format::of(&self.path))
            .ok_or_else(|| DataError::Format { path: self.path.to_path_buf() })?;
        let bytes = std::fs::read(&self.path)
            .map_err(|source| DataError::Read { path: self.path.to_path_buf(), source })?;
        let bytes = Bytes::from(bytes);
        if format == Format::Parquet {
            let rows = parquet::rows(self, bytes.clone())?;
            return Ok((bytes, rows));
        }
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err(self.unusable("the text is UTF-16; save the file as UTF-8"));
        }
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let rows = match format {
            Format::Csv => csv::rows(self, text, b',')?,
            Format::Tsv => csv::rows(self, text, b'\t')?,
            _ => jsonl::rows(self, text),
        };
        Ok((bytes, rows))
    }

    /// How many rows are wanted.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn line(&self, number: usize) -> Place {
        Place { path: Arc::clone(&self.path), number, is_line: true }
    }

    pub(super) fn row(&self, number: usize) -> Place {
        Place { path: Arc::clone(&self.path), number, is_line: false }
    }

    /// The error of a file that is not of its format.
    pub(super) fn unusable(&self, reason: impl Into<String>) -> DataError {
        DataError::File { path: self.path.to_path_buf(), reason: reason.into() }
    }

    /// Whether a table has all columns that are needed, each once.
    pub(super) fn check_columns(&self, columns: &[String], hint: &str) -> Result<(), DataError> {
        if let Some((_, twice)) = columns.iter().enumerate().find(|&(i, name)| columns[..i].contains(name)) {
            return Err(self.unusable(format!("two columns are named {twice:?}; rename one of them")));
        }
        let names = || columns.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        match self.needs.iter().find(|&&need| columns.iter().all(|name| name != need)) {
            Some(&column) => Err(DataError::Column {
                path: self.path.to_path_buf(),
                column: column.into(),
                columns: names() + hint,
            }),
            None => Ok(()),
        }
    }
}
