//! A summary as a table for a terminal of 80 columns.

use std::fmt::Write as _;

use crate::report::label;
use crate::report::number::{count, percent, plain_spaces, points};
use crate::summary::{ArmOverSeeds, Estimate, OverSeeds, Summary};

/// Columns of the table.
const COLUMNS: usize = 5;

/// Every arm by the metric that choices are made by, on the last part of the data: one that nothing was chosen by,
/// where there is one.
#[must_use]
pub fn of(summary: &Summary) -> String {
    let metric = summary.metrics.first().map_or("", String::as_str);
    let split = summary.table.first().and_then(|arm| arm.splits.last()).map_or("", |split| &split.split);
    let place = label::on_split(split);
    let place = place.strip_prefix("on ").unwrap_or(&place);
    let seeds = match summary.seeds.len() {
        1 => "1 seed".to_owned(),
        seeds => format!("{seeds} seeds, mean ± deviation"),
    };
    let mut text =
        format!("{}: {}; {seeds}; [95 % interval]\n\n", summary.name, label::metric_on(metric, place));
    let mut rows: Vec<[String; COLUMNS]> =
        vec![["", metric_head(summary), "interval", "over tuned", "over continued"].map(str::to_owned)];
    rows.extend(summary.table.iter().filter_map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    for row in &rows {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            // writing to a string does not fail
            let _ = write!(line, " {cell:<width$}");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if let Some(sizes) = sizes(summary) {
        let _ = write!(text, "\n{sizes}");
    }
    plain_spaces(&text)
}

fn metric_head(summary: &Summary) -> &'static str {
    if summary.seeds.len() == 1 { "value" } else { "mean" }
}

/// An arm; what was not trained after its mask was set is not compared.
fn row(arm: &ArmOverSeeds) -> Option<[String; COLUMNS]> {
    let split = arm.splits.last()?;
    let value = split.values.first()?;
    let trained = label::arm(&arm.name).trained;
    let over = |estimate: &Option<Estimate>| {
        estimate.as_ref().filter(|_| trained).map_or(String::new(), |over| {
            format!("{} [{}, {}]", points(over.value), points(over.low), points(over.high))
        })
    };
    Some([
        arm.name.clone(),
        mean(value),
        format!("[{}, {}]", percent(value.low), percent(value.high)),
        over(&split.over_tuned),
        over(&split.over_continued),
    ])
}

fn mean(value: &OverSeeds) -> String {
    let deviation = value.deviation.map_or(String::new(), |deviation| format!(" ± {}", percent(deviation)));
    format!("{}{deviation}", percent(value.mean))
}

/// What the result keeps of the tuned prompt.
fn sizes(summary: &Summary) -> Option<String> {
    let arm = |name: &str| summary.table.iter().find(|arm| arm.name == name);
    let (tuned, xprompt) = (arm("tuned")?, arm("xprompt")?);
    let of = |left: f64, all: f64| format!("{} of {}", count(left), count(all));
    Some(format!(
        "xprompt keeps {} tokens, {} pieces, {} parameters\n",
        of(xprompt.tokens, tuned.tokens),
        of(xprompt.pieces, tuned.pieces),
        of(xprompt.parameters, tuned.parameters),
    ))
}
