//! The report: what a run found, as one HTML file that loads nothing and runs nothing.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `verdict` | what the run shows, in sentences |
//! | `header` | the top of the page |
//! | `stages`, `controls` | tables of arms, and their charts; `arms` is what both share |
//! | `curves` | how training went |
//! | `ratios` | the metric against the share pruned, and the selection bias |
//! | `anatomy` | importance of tokens, map of pieces |
//! | `masking` | Figure 2 of the paper |
//! | `size`, `times` | what is saved, what it took |
//! | `again` | settings and fingerprints |
//! | `page` | sections, figures, tables; `style.css` |
//! | `svg` | charts |
//! | `view` | what several sections ask of a summary |
//! | `label`, `number` | names and numbers as they are shown |
//!
//! The only input is a [`Summary`]; the same summary gives the same bytes.

mod again;
mod anatomy;
mod arms;
mod controls;
mod curves;
mod header;
pub(crate) mod label;
mod masking;
pub(crate) mod number;
mod page;
mod ratios;
mod size;
mod stages;
mod svg;
mod times;
mod verdict;
mod view;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::summary::{FORMAT, Summary};

use verdict::Verdict;
use view::View;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The run folder holds no summary.
    #[error(
        "{path} is missing: a run writes it when it ends; is this a run's folder, and has the run ended?"
    )]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// The summary cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{path} is not a summary of xprompt-trainer: {reason}; name a run's folder or its summary.json")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The summary is of another form.
    #[error("{path} has format {got}, this program reads format {FORMAT}; use the version that wrote it")]
    Format {
        /// The file.
        path: PathBuf,
        /// The format in the file.
        got: u64,
    },
}

/// Reads the summary of a run: of its folder, or the file itself.
///
/// # Errors
/// If it is missing, of another form, or not a summary at all.
pub fn read(run: &Path) -> Result<Summary, ReportError> {
    let path = if run.is_dir() { run.join("summary.json") } else { run.to_owned() };
    let text = std::fs::read(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => ReportError::Missing { path: path.clone() },
        _ => ReportError::Read { path: path.clone(), source },
    })?;
    let foreign = |reason: String| ReportError::Foreign { path: path.clone(), reason };
    let json: Value = serde_json::from_slice(&text).map_err(|error| foreign(error.to_string()))?;
    match json.get("format").and_then(Value::as_u64) {
        Some(got) if got == u64::from(FORMAT) => {
            serde_json::from_slice(&text).map_err(|error| foreign(error.to_string()))
        }
        Some(got) => Err(ReportError::Format { path, got }),
        None => Err(foreign(
            "it names no format (was it written by another program, or an older version?)".into(),
        )),
    }
}

/// Where a run's report is written if nothing else is said: in its folder, or beside the summary that was named.
#[must_use]
pub fn place(run: &Path) -> PathBuf {
    if run.is_dir() { run.join("report.html") } else { run.with_extension("html") }
}

/// The report as HTML.
#[must_use]
pub fn html(summary: &Summary) -> String {
    let view = View::new(summary);
    let sections = [
        stages::section(&view),
        controls::section(&view),
        curves::section(&view),
        ratios::section(&view),
        anatomy::section(&view),
        masking::section(&view),
        size::section(&view),
        times::section(&view),
        Some(again::section(&view)),
    ];
    let sections: Vec<_> = sections.into_iter().flatten().collect();
    let title = format!("{} · XPrompt report", summary.name);
    let header = header::header(&view, &Verdict::of(&view));
    page::page(&title, &header, &sections, &summary.producer).into_string()
}

/// What the run shows, in sentences.
#[must_use]
pub fn verdict(summary: &Summary) -> Vec<String> {
    let sentences = Verdict::of(&View::new(summary)).sentences();
    sentences.iter().map(|sentence| number::plain_spaces(sentence)).collect()
}
