//! What is left to store and to compute, against plain prompt tuning.

use maud::{Markup, html};

use super::page::{Section, scroll};
use super::view::View;
use super::{arms, label, number};
use crate::summary::ArmOverSeeds;

/// The section; none without a tuned prompt to compare with.
pub(super) fn section(view: &View<'_>) -> Option<Section> {
    let tuned = view.arm("tuned")?;
    let arms: Vec<_> = view.summary.table.iter().filter(|arm| label::arm(&arm.name).trained).collect();
    let table = html! {
        table.bars {
            thead { tr {
                th scope="col" { "Prompt" }
                @for head in ["Tokens", "Pieces", "Parameters", "Bytes"] { th scope="col" { (head) } }
                th scope="col" { (label::metric_with_unit(view.metric())) " " (label::on_split(view.split)) }
            } }
            tbody { @for arm in &arms { (row(view, arm, tuned)) } }
        }
    };
    Some(Section {
        id: "size",
        title: "Size",
        body: html! {
            p.note {
                "Means over seeds; bars are shares of plain prompt tuning. Tokens are what a request computes with, parameters "
                "and bytes (with the masks) what a prompt file stores."
            }
            (scroll("Size of each prompt", &table))
        },
    })
}

fn row(view: &View<'_>, arm: &ArmOverSeeds, tuned: &ArmOverSeeds) -> Markup {
    html! {
        tr class=(arms::class(&arm.name)) {
            th scope="row" { (label::arm(&arm.name).title) }
            td { (bar(&number::count(arm.tokens), arm.tokens / tuned.tokens)) }
            td { (bar(&number::count(arm.pieces), arm.pieces / tuned.pieces)) }
            td { (bar(&number::count(arm.parameters), arm.parameters / tuned.parameters)) }
            td { (bar(&number::bytes(arm.bytes), arm.bytes / tuned.bytes)) }
            td { (view.judged(arm).map_or("–".into(), |value| number::percent(value.mean))) }
        }
    }
}

/// A number above a bar: its share of a whole.
pub(super) fn bar(shown: &str, share: f64) -> Markup {
    let share = if share.is_finite() { share } else { 0.0 };
    html! {
        span.value { (shown) } " " small.share { (number::decimal(100.0 * share, 0)) " %" }
        span.bar { span style={ "width:" (format!("{:.1}", 100.0 * share.clamp(0.0, 1.0))) "%" } {} }
    }
}
