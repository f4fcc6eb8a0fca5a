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
/// Reads the summary.json that `run` wrote, and prints the verdict too. The page works offline. Of a run of several
/// tasks, it writes one page for each task and an overview that links to them.
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
        for page in report::pages(&self.run, self.out.as_deref())? {
            write_atomically(&page.path, page.html.as_bytes())
                .with_context(|| page.path.display().to_string())?;
            page.sentences.iter().for_each(|sentence| println!("{sentence}"));
            println!("{}: {} kB", page.path.display(), page.html.len() / 1000);
        }
        Ok(())
    }
}
