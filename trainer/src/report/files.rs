//! From the folders of runs to pages: which summaries are there, and where their pages belong.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::overview::Task;
use crate::summary::{FORMAT, Summary};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Neither the folder nor a folder in it holds a summary.
    #[error(
        "{path} is missing: a run writes it when it ends, a run of several tasks into a folder for each; is this a \
         run's folder, and has the run ended?"
    )]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// The summary cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file or folder.
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

/// A page and where it belongs.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it belongs.
    pub path: PathBuf,
    /// The page.
    pub html: String,
    /// What it shows, in sentences. Nothing for a page that an overview sums up.
    pub sentences: Vec<String>,
}

/// The pages of a run: one of its folder or its summary.json, which goes to `out` or else beside the summary. If the
/// folder holds no summary but its subfolders do, one beside each of these and last the overview of all.
///
/// # Errors
/// If a summary is missing, of another form, or not a summary at all.
pub fn pages(run: &Path, out: Option<&Path>) -> Result<Vec<Page>, ReportError> {
    let (file, page) = match run.is_dir() {
        true => (run.join("summary.json"), run.join("report.html")),
        false => (run.to_owned(), run.with_extension("html")),
    };
    let path = out.map_or(page, Path::to_owned);
    let folders = if run.is_dir() && !file.exists() { folders(run)? } else { Vec::new() };
    if folders.is_empty() {
        let summary = read(&file)?;
        let (html, sentences) = (super::html(&summary), super::verdict(&summary));
        return Ok(vec![Page { path, html, sentences }]);
    }
    let (mut pages, mut tasks) = (Vec::new(), Vec::new());
    for folder in folders {
        let summary = read(&folder.join("summary.json"))?;
        let page = folder.join("report.html");
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tasks.push(Task { name, link: link(&path, &page), summary: summary.clone() });
        pages.push(Page { path: page, html: super::html(&summary), sentences: Vec::new() });
    }
    let name = std::path::absolute(run).unwrap_or_else(|_| run.to_owned());
    let name = name.file_name().unwrap_or_default().to_string_lossy();
    let (html, sentences) = (super::overview(&name, &tasks), super::overview_verdict(&tasks));
    pages.push(Page { path, html, sentences });
    Ok(pages)
}

/// Folders in this one that hold a summary, by name.
fn folders(run: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let failed = |source| ReportError::Read { path: run.to_owned(), source };
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(run).map_err(failed)? {
        let folder = entry.map_err(failed)?.path();
        if folder.join("summary.json").is_file() {
            folders.push(folder);
        }
    }
    folders.sort();
    Ok(folders)
}

fn read(path: &Path) -> Result<Summary, ReportError> {
    let text = std::fs::read(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => ReportError::Missing { path: path.to_owned() },
        _ => ReportError::Read { path: path.to_owned(), source },
    })?;
    let foreign = |reason: String| ReportError::Foreign { path: path.to_owned(), reason };
    let json: Value = serde_json::from_slice(&text).map_err(|error| foreign(error.to_string()))?;
    match json.get("format").and_then(Value::as_u64) {
        Some(got) if got == u64::from(FORMAT) => {
            serde_json::from_slice(&text).map_err(|error| foreign(error.to_string()))
        }
        Some(got) => Err(ReportError::Format { path: path.to_owned(), got }),
        None => Err(foreign(
            "it names no format (was it written by another program, or an older version?)".into(),
        )),
    }
}

/// The link from one page to another: relative, so that the folder can be moved.
fn link(from: &Path, to: &Path) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (from, to) = (absolute(from), absolute(to));
    let folder: Vec<Component<'_>> = from.parent().into_iter().flat_map(Path::components).collect();
    let page: Vec<Component<'_>> = to.components().collect();
    let shared = folder.iter().zip(&page).take_while(|(a, b)| a == b).count();
    let up = folder[shared..].iter().map(|_| "..".to_owned());
    let down = page[shared..].iter().map(|part| encoded(&part.as_os_str().to_string_lossy()));
    up.chain(down).collect::<Vec<_>>().join("/")
}

/// A part of a path as a part of a URL.
fn encoded(part: &str) -> String {
    let mut encoded = String::new();
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // writing to a string does not fail
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_and_encoded() {
        let cases = [
            ("out/report.html", "out/bbc/report.html", "bbc/report.html"),
            ("pages/new/all.html", "out/bbc/report.html", "../../out/bbc/report.html"),
            ("out/report.html", "out/a b#?%é:/report.html", "a%20b%23%3F%25%C3%A9%3A/report.html"),
        ];
        for (from, to, want) in cases {
            assert_eq!(link(Path::new(from), Path::new(to)), want);
        }
    }
}
