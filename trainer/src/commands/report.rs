//! `report`: a run as one HTML page.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use xprompt::prompt::write_atomically;
use xprompt_trainer::report;

const EXAMPLE: &str = "\
Example:
  xprompt-trainer report OUT";

/// Writes a run's report: one HTML file with tables, charts and a verdict, to be opened in any browser.
///
/// Reads the summary.json that `run` wrote, and prints the verdict too. The page works offline.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Report {
    /// The run's folder, or its summary.json.
    run: PathBuf,
    /// The HTML file; by default report.html in the run's folder, or the summary's name with .html.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

// === impl Report ===

impl Report {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let summary = report::read(&self.run)?;
        let html = report::html(&summary);
        let out = self.out.clone().unwrap_or_else(|| report::place(&self.run));
        write_atomically(&out, html.as_bytes()).with_context(|| out.display().to_string())?;
        for sentence in report::verdict(&summary) {
            println!("{sentence}");
        }
        println!("{}: {} kB", out.display(), html.len() / 1000);
        Ok(())
    }
}
