//! `[data]`: where the labelled rows are, and how they are divided.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, de};

use super::Wrong;
use crate::superglue::SuperGlue;

/// `[data]`: files relative to the task file's folder.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Rows to tune on: one file, or a list of files to be read one after the other.
    #[serde(deserialize_with = "one_or_many")]
    pub train: Vec<PathBuf>,
    /// Rows to choose by; none to draw them from train.
    #[serde(default, deserialize_with = "one_or_many")]
    pub dev: Vec<PathBuf>,
    /// Rows to report on.
    #[serde(default, deserialize_with = "one_or_many")]
    pub test: Vec<PathBuf>,
    /// The task of SuperGLUE whose original files these are.
    pub superglue: Option<SuperGlue>,
    /// The files' format, where their names do not tell it.
    pub format: Option<Format>,
    /// The key of a row that holds the label or the target text.
    #[serde(default = "default_label")]
    pub label: String,
    /// The key of a row whose value it shares with the rows it belongs to.
    pub group: Option<String>,
    /// Use only the first rows of train.
    pub train_rows: Option<usize>,
    /// Use only the first rows of dev.
    pub dev_rows: Option<usize>,
    /// Use only the first rows of test.
    pub test_rows: Option<usize>,
    /// The share of train that becomes dev where no dev is named, 0.2 by default.
    pub dev_share: Option<f64>,
    /// Use only this many rows of train, or groups of rows, drawn at random; where no dev is named, as many others
    /// become dev.
    pub shots: Option<usize>,
    /// What `shots` are drawn by.
    #[serde(default = "default_shots_seed")]
    pub shots_seed: u64,
}

/// A file's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON object a line.
    Jsonl,
    /// Values between commas, in quotes where they need them; the first line names the columns.
    Csv,
    /// Values between tabs, where quotes are text; the first line names the columns.
    Tsv,
    /// Apache Parquet.
    Parquet,
}

fn default_label() -> String {
    "label".into()
}

fn default_shots_seed() -> u64 {
    42
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a file's name, or a list of names")]
    enum Paths {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    match Paths::deserialize(deserializer)? {
        Paths::One(path) => Ok(vec![path]),
        Paths::Many(paths) if paths.is_empty() => Err(de::Error::custom("the list names no file")),
        Paths::Many(paths) => Ok(paths),
    }
}

// === impl Data ===

impl Data {
    pub(super) fn check(&self) -> Result<(), Wrong> {
        self.check_superglue()?;
        let rows = [
            ("data.train_rows", self.train_rows),
            ("data.dev_rows", self.dev_rows),
            ("data.test_rows", self.test_rows),
            ("data.shots", self.shots),
        ];
        if let Some((setting, _)) = rows.into_iter().find(|(_, rows)| *rows == Some(0)) {
            return Err(Wrong::new(setting, 0, "at least 1"));
        }
        let drawn = self.dev.is_empty();
        match self.dev_share {
            Some(share) if !(share > 0.0 && share < 1.0) => {
                Err(Wrong::new("data.dev_share", share, "above 0 and below 1"))
            }
            Some(share) if !drawn => {
                Err(Wrong::new("data.dev_share", share, "leave it out, because data.dev names the rows"))
            }
            Some(share) if self.shots.is_some() => Err(Wrong::new(
                "data.dev_share",
                share,
                "leave it out, because dev has as many rows as data.shots",
            )),
            _ => match self.dev_rows {
                Some(rows) if drawn => {
                    Err(Wrong::new("data.dev_rows", rows, "leave it out, because there is no data.dev"))
                }
                _ => Ok(()),
            },
        }
    }

    /// Whether nothing else says what the benchmark says.
    fn check_superglue(&self) -> Result<(), Wrong> {
        let remedy = "leave it out, because data.superglue tells how rows are read";
        match self {
            Self { superglue: None, .. } => Ok(()),
            Self { label, .. } if *label != default_label() => Err(Wrong::new("data.label", label, remedy)),
            Self { group: Some(group), .. } => Err(Wrong::new("data.group", group, remedy)),
            Self { format: Some(format), .. } if *format != Format::Jsonl => {
                Err(Wrong::new("data.format", format, remedy))
            }
            Self { .. } => Ok(()),
        }
    }

    /// Makes the files' names relative to a folder.
    pub(super) fn relative_to(&mut self, folder: &Path) {
        for path in [&mut self.train, &mut self.dev, &mut self.test].into_iter().flatten() {
            *path = folder.join(&path);
        }
    }
}

// === impl Format ===

impl Format {
    /// The format that a file's name tells, if it tells one.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_ascii_lowercase();
        match extension.to_str()? {
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}
