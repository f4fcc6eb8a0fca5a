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
//! | `overview` | several tasks on one page |
//! | `files` | which summaries a folder holds, where their pages belong |
//! | `page` | sections, figures, tables; `style.css` |
//! | `svg` | charts |
//! | `view` | what several sections ask of a summary |
//! | `label`, `number` | names and numbers as they are shown |
//!
//! The only input is a [`Summary`], of an overview several; the same summaries give the same bytes.

mod again;
mod anatomy;
mod arms;
mod controls;
mod curves;
mod files;
mod header;
pub(crate) mod label;
mod masking;
pub(crate) mod number;
mod overview;
mod page;
mod ratios;
mod size;
mod stages;
mod svg;
mod times;
mod verdict;
mod view;

pub use files::{Page, ReportError, pages};
pub use overview::Task;

use crate::summary::Summary;

use verdict::Verdict;
use view::View;

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
    plain(&Verdict::of(&View::new(summary)).sentences())
}

/// The overview of several tasks as HTML.
#[must_use]
pub fn overview(name: &str, tasks: &[Task]) -> String {
    overview::html(name, tasks).into_string()
}

/// What several tasks show together, in sentences.
#[must_use]
pub fn overview_verdict(tasks: &[Task]) -> Vec<String> {
    plain(&overview::sentences(tasks))
}

fn plain(sentences: &[String]) -> Vec<String> {
    sentences.iter().map(|sentence| number::plain_spaces(sentence)).collect()
}
