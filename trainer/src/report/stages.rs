//! The stages of the method, with the unmasked continuation beside them.

use maud::html;

use super::page::Section;
use super::view::View;
use super::{arms, label};

/// The section; none if the run holds no arm of the method.
pub(super) fn section(view: &View<'_>) -> Option<Section> {
    let belongs = |name: &str| label::arm(name).stage || name == "continued";
    let stages: Vec<_> = view.summary.table.iter().filter(|arm| belongs(&arm.name)).collect();
    if stages.is_empty() {
        return None;
    }
    let metric = label::metric_with_unit(view.metric());
    let seeds = match view.summary.seeds.len() {
        1 => "One seed, its 95 % interval by bootstrap over examples below.".to_owned(),
        seeds => format!(
            "Mean ± standard deviation of {seeds} seeds, below it the mean's 95 % interval by bootstrap over seeds and \
             examples."
        ),
    };
    Some(Section {
        id: "stages",
        title: "Stages",
        body: html! {
            p.note {
                (metric) ". " (seeds) " Differences are in points, paired by seed and example, and bold where their "
                "interval does not contain 0. Steps count from the initial values."
            }
            (arms::table(view, "Stages", &stages))
            (arms::all_metrics(view, &stages))
        },
    })
}
