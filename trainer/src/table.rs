//! A summary's table as text for a terminal.

use std::fmt::Write as _;

use xprompt_trainer::summary::{OverSeeds, Summary};

/// Every arm with the metric that choices are made by, on each part of the data.
pub(crate) fn of(summary: &Summary) -> String {
    let mut text = String::new();
    let metric = summary.metrics.first().map_or("", String::as_str);
    let seeds = summary.seeds.len();
    // writing to a string does not fail
    let _ = writeln!(
        text,
        "\n{}: {metric} in %, {seeds} seed{}",
        summary.name,
        if seeds == 1 { "" } else { "s" }
    );
    let splits = summary.table.first().map(|arm| arm.splits.as_slice()).unwrap_or_default();
    let mut head = format!("{:<14}", "");
    splits.iter().for_each(|split| head += &format!(" {:>20}", split.split));
    let _ = writeln!(text, "{head} {:>8} {:>8} {:>8}", "tokens", "pieces", "steps");
    for arm in &summary.table {
        let mut line = format!("{:<14}", arm.name);
        arm.splits
            .iter()
            .for_each(|split| line += &format!(" {:>20}", split.values.first().map_or(String::new(), cell)));
        let _ = writeln!(text, "{line} {:>8.1} {:>8.1} {:>8.0}", arm.tokens, arm.pieces, arm.steps);
    }
    text
}

fn cell(value: &OverSeeds) -> String {
    let deviation = value.deviation.map_or(String::new(), |deviation| format!(" ± {:.1}", 100.0 * deviation));
    format!("{:.1}{deviation} [{:.1}, {:.1}]", 100.0 * value.mean, 100.0 * value.low, 100.0 * value.high)
}
