//! The top of the page: what was run, the numbers that count, the verdict.

use maud::{Markup, html};

use super::verdict::{Comparison, Verdict};
use super::view::View;
use super::{label, number};

/// The header.
pub(super) fn header(view: &View<'_>, verdict: &Verdict) -> Markup {
    let summary = view.summary;
    let seeds = match summary.seeds.len() {
        1 => "1 seed".to_owned(),
        seeds => format!("{seeds} seeds"),
    };
    html! {
        header {
            p.eyebrow { "XPrompt report" }
            h1 { (summary.name) }
            p.what {
                (summary.base_model.name) " · " (seeds)
                @for source in &summary.data { " · " (label::split(&source.split).to_lowercase()) " " (number::count(source.rows as f64)) }
                " · " (number::duration(summary.seconds))
            }
            (tiles(view, verdict))
            (verdict.render())
        }
    }
}

fn tiles(view: &View<'_>, verdict: &Verdict) -> Markup {
    let Some(xprompt) = view.arm("xprompt") else {
        return html! {};
    };
    let tuned = view.arm("tuned").filter(|tuned| tuned.parameters > 0.0);
    html! {
        div.tiles {
            @if let Some(value) = view.judged(xprompt) {
                div.tile.xprompt {
                    p.name { "XPrompt " (label::on_split(view.split)) }
                    p.number { (number::percent(value.mean)) span.unit { (label::unit(view.metric())) } }
                    p.more { (label::metric(view.metric())) ", " (number::interval(value.low, value.high)) }
                }
            }
            @if let Some(comparison) = &verdict.over_tuned { (difference("Over prompt tuning", comparison)) }
            @if let Some(comparison) = &verdict.over_continued { (difference("Over tuning on, no mask", comparison)) }
            @if let Some(tuned) = tuned {
                div.tile {
                    p.name { "Parameters kept" }
                    p.number {
                        (number::percent(xprompt.parameters / tuned.parameters)) span.unit { " %" }
                    }
                    p.more { (number::count(xprompt.tokens)) " of " (number::count(tuned.tokens)) " tokens" }
                }
            }
        }
    }
}

fn difference(name: &str, comparison: &Comparison) -> Markup {
    let difference = comparison.difference;
    html! {
        div.tile {
            p.name { (name) }
            p.number { (number::points(difference.value)) span.unit { " points" } }
            p.more { (number::interval_of_points(difference.low, difference.high)) }
        }
    }
}
