//! Controls beside XPrompt: what else would have given as much.

use maud::html;

use super::page::{Figure, Section, Table, figures};
use super::svg::Row;
use super::view::{View, values};
use super::{arms, label, number};
use crate::summary::{ArmOverSeeds, Estimate};

/// The section; none if the run holds no control.
pub(super) fn section(view: &View<'_>) -> Option<Section> {
    let table = &view.summary.table;
    if table.iter().all(|arm| label::arm(&arm.name).stage) {
        return None;
    }
    let first = ["xprompt", "continued"];
    let others =
        table.iter().filter(|arm| !label::arm(&arm.name).stage && !first.contains(&arm.name.as_str()));
    let tabled: Vec<_> = first.into_iter().filter_map(|name| view.arm(name)).chain(others).collect();
    let drawn: Vec<_> = table.iter().filter(|arm| label::arm(&arm.name).trained).collect();
    let charts = [metrics(view, &drawn), differences(view, &drawn)];
    Some(Section {
        id: "controls",
        title: "Controls",
        body: html! {
            p.note {
                "What else would have given as much? Lines are 95 % intervals, small dots single seeds, dotted lines the "
                "means of prompt tuning and of tuning on without a mask."
            }
            (figures(&charts.into_iter().flatten().collect::<Vec<_>>()))
            (arms::table(view, "Controls", &tabled))
            (arms::all_metrics(view, &tabled))
        },
    })
}

/// The metric of every trained arm.
fn metrics(view: &View<'_>, drawn: &[&ArmOverSeeds]) -> Option<Figure> {
    let several = view.summary.seeds.len() > 1;
    let (mut rows, mut cells) = (Vec::new(), Vec::new());
    for arm in drawn {
        let Some(value) = view.judged(arm) else { continue };
        let name = label::arm(&arm.name).title;
        let (mean, interval) = (number::percent(value.mean), number::interval(value.low, value.high));
        let seeds = view.by_seed(&arm.name, view.split);
        let singles = seeds.iter().filter(|_| several).map(|&(seed, value)| {
            (100.0 * value, format!("{name}, seed {seed}: {}", number::percent(value)))
        });
        rows.push(Row {
            name: name.to_owned(),
            class: arms::class(&arm.name),
            value: (100.0 * value.mean, 100.0 * value.low, 100.0 * value.high),
            singles: singles.collect(),
            title: format!("{name}: {mean} ({interval})"),
        });
        let singles: Vec<_> = seeds.iter().map(|(_, value)| number::percent(*value)).collect();
        cells.push(vec![name.to_owned(), mean, interval, singles.join(", ")]);
    }
    let reference = |name| Some((name, 100.0 * view.judged(view.arm(name)?)?.mean));
    let references = ["tuned", "continued"].into_iter().filter_map(reference).collect();
    let title = format!("{} {}", label::metric(view.metric()), label::on_split(view.split));
    let data = Table::new(["Prompt", "Mean", "Interval", "Single seeds"], cells);
    Figure::forest(title, label::metric_with_unit(view.metric()), rows, references, data)
}

/// How far every trained arm is from the unmasked continuation, or from the tuned prompt if there is none.
fn differences(view: &View<'_>, drawn: &[&ArmOverSeeds]) -> Option<Figure> {
    let other = if view.arm("continued").is_some() { "continued" } else { "tuned" };
    let (mut rows, mut cells) = (Vec::new(), Vec::new());
    for arm in drawn {
        let label = label::arm(&arm.name).title;
        let difference = values(arm, view.split).and_then(|split| match other {
            "continued" => split.over_continued,
            _ => split.over_tuned,
        });
        let difference = match difference {
            Some(difference) => difference,
            // its own row keeps both charts' rows side by side
            None if arm.name == other => Estimate { value: 0.0, low: 0.0, high: 0.0 },
            None => continue,
        };
        let interval = number::interval_of_points(difference.low, difference.high);
        rows.push(Row {
            name: label.to_owned(),
            class: arms::class(&arm.name),
            value: (100.0 * difference.value, 100.0 * difference.low, 100.0 * difference.high),
            singles: Vec::new(),
            title: format!("{label}: {} ({interval})", number::points(difference.value)),
        });
        if arm.name != other {
            cells.push(vec![label.to_owned(), number::points(difference.value), interval]);
        }
    }
    let name = if other == "continued" { "tuned on without a mask" } else { "prompt tuning" };
    let title = format!("Difference from {name} {}", label::on_split(view.split));
    let data = Table::new(["Prompt", "Difference", "Interval"], cells);
    Figure::forest(title, "Points".into(), rows, vec![("zero", 0.0)], data)
}
