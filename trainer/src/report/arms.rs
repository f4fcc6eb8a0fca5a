//! The table of arms that stages and controls share, and the colour that an arm has everywhere.

use maud::{Markup, html};

use super::page::{Table, scroll};
use super::verdict::Outcome;
use super::view::{View, values};
use super::{label, number};
use crate::summary::{ArmOverSeeds, Estimate, OverSeeds, SplitOverSeeds};

/// The class of an arm's colour.
pub(super) fn class(name: &str) -> &'static str {
    match name {
        "xprompt" => "xprompt",
        "continued" => "continued",
        "tuned" => "tuned",
        _ => "other",
    }
}

/// Arms as rows: what was left, and the first metric on every split beside its differences.
pub(super) fn table(view: &View<'_>, name: &str, arms: &[&ArmOverSeeds]) -> Markup {
    let splits = view.splits();
    let judged = label::split(view.split);
    let table = html! {
        table.arms {
            thead { tr {
                th scope="col" { "Prompt" }
                @for split in &splits { th scope="col" { (label::split(split)) } }
                th scope="col" { (judged) " over prompt tuning" }
                th scope="col" { (judged) " over tuned on" }
                @for head in ["Tokens", "Parameters", "Steps"] { th scope="col" { (head) } }
            } }
            tbody { @for arm in arms { (row(view, &splits, arm)) } }
        }
    };
    scroll(name, &table)
}

/// Every metric on every split, folded away; nothing if there is one metric only.
pub(super) fn all_metrics(view: &View<'_>, arms: &[&ArmOverSeeds]) -> Markup {
    if view.summary.metrics.len() < 2 {
        return html! {};
    }
    let splits = view.splits();
    let columns = splits.iter().flat_map(|split| {
        view.summary
            .metrics
            .iter()
            .map(move |metric| format!("{}: {}", label::split(split), label::metric_with_unit(metric)))
    });
    let cell = |value: &OverSeeds| {
        let interval = number::interval(value.low, value.high);
        format!("{}{} ({interval})", number::percent(value.mean), deviation(value))
    };
    let cells = |arm: &ArmOverSeeds| {
        let mut cells = vec![label::arm(&arm.name).title.to_owned()];
        for split in &splits {
            let there = values(arm, split);
            cells.extend(
                (0..view.summary.metrics.len())
                    .map(|metric| there.and_then(|split| split.values.get(metric)).map_or("–".into(), cell)),
            );
        }
        cells
    };
    let head = std::iter::once("Prompt".to_owned()).chain(columns);
    Table::new(head, arms.iter().map(|arm| cells(arm))).folded("All metrics", "All metrics on all splits")
}

fn row(view: &View<'_>, splits: &[&str], arm: &ArmOverSeeds) -> Markup {
    let label = label::arm(&arm.name);
    let judged = values(arm, view.split);
    let difference = |of: fn(&SplitOverSeeds) -> Option<Estimate>| judged.and_then(of);
    html! {
        tr class=(class(&arm.name)) {
            th scope="row" {
                span.arm { (label.title) }
                @if !label.explanation.is_empty() { small { (label.explanation) } }
            }
            @for split in splits {
                td { @match values(arm, split).and_then(|split| split.values.first()) {
                    Some(value) => (over_seeds(value)),
                    None => "–",
                } }
            }
            td { (shown(difference(|split| split.over_tuned))) }
            td { (shown(difference(|split| split.over_continued))) }
            @for number in [arm.tokens, arm.parameters, arm.steps] { td { (number::count(number)) } }
        }
    }
}

/// A value, with its deviation and interval.
pub(super) fn over_seeds(value: &OverSeeds) -> Markup {
    html! {
        span.value { (number::percent(value.mean)) @if value.deviation.is_some() { span.deviation { (deviation(value)) } } }
        small { (number::interval(value.low, value.high)) }
    }
}

fn deviation(value: &OverSeeds) -> String {
    value.deviation.map_or(String::new(), |deviation| format!(" ± {}", number::percent(deviation)))
}

/// A difference with its interval, bold if that decides.
pub(super) fn shown(difference: Option<Estimate>) -> Markup {
    let Some(difference) = difference else {
        return html! { "–" };
    };
    let outcome = Outcome::of(&difference);
    let class = if outcome == Outcome::Undecided { "undecided" } else { "decided" };
    html! {
        span class={ "value " (class) } title=(outcome.words()) { (number::points(difference.value)) }
        small { (number::interval_of_points(difference.low, difference.high)) }
    }
}
