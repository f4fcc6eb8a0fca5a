//! The search: the metric against the share that was pruned, before and after retraining.

use maud::{Markup, html};

use super::page::{Figure, Section, Table, figures, scroll};
use super::svg::{Axis, Plot, Scale, Shape, Stroke, sample};
use super::verdict::selection_bias;
use super::view::{View, mean};
use super::{label, number};
use crate::summary::{End, Trial};

/// Levels in the order of the method; others come after.
const LEVELS: [&str; 3] = ["token", "piece", "piece_only"];

/// A ratio over seeds.
struct Ratio<'a> {
    ratio: f64,
    trials: Vec<(u64, &'a Trial)>,
}

/// A line of means over seeds.
#[derive(Clone, Copy, Debug)]
struct Series {
    name: &'static str,
    class: &'static str,
    stroke: Stroke,
    shape: Shape,
    of: fn(&Trial) -> Option<f64>,
}

const PRUNED: Series = Series {
    name: "Before retraining",
    class: "before",
    stroke: Stroke::Dashed,
    shape: Shape::Diamond,
    of: |trial| Some(trial.choose_pruned),
};

const RETRAINED: Series = Series {
    name: "Retrained, dev (choose)",
    class: "xprompt",
    stroke: Stroke::Solid,
    shape: Shape::Dot,
    of: |trial| Some(trial.choose),
};

const HELD_BACK: Series = Series {
    name: "Retrained, dev (held back)",
    class: "held",
    stroke: Stroke::Solid,
    shape: Shape::Diamond,
    of: |trial| trial.report,
};

/// The section; none if nothing was tried.
pub(super) fn section(view: &View<'_>) -> Option<Section> {
    let levels = levels(view);
    if levels.is_empty() {
        return None;
    }
    let charts: Vec<Figure> = levels
        .iter()
        .flat_map(|level| {
            let ratios = ratios(view, level);
            [before_and_after(view, level, &ratios), choice(view, level, &ratios)]
        })
        .collect();
    let bias = bias(view, &levels);
    Some(Section {
        id: "ratios",
        title: "Pruning ratios",
        body: html! {
            p.note {
                "Every share is masked, rewound to the tuned values and retrained; the best on the choosing part of dev "
                "wins. "
                @if view.summary.seeds.len() > 1 {
                    "Lines are means over seeds, small marks single seeds, as rings where the trial was dropped before "
                    "its steps were used up. Triangles under the axis tell how many seeds chose a share."
                } @else {
                    "Rings are trials that were dropped before their steps were used up; the triangle under the axis is "
                    "the share that was chosen."
                }
            }
            (figures(&charts))
            @if !bias.is_empty() {
                h3 { "Selection bias" }
                p.note {
                    "The chosen ratios on the part of dev that they were chosen by and on the part held back, mean over "
                    "seeds. All ratios tried tell how far the two parts differ anyway; the rest is what choosing a "
                    "maximum adds."
                }
                (scroll("Selection bias", &bias.render()))
            }
        },
    })
}

fn levels<'a>(view: &View<'a>) -> Vec<&'a str> {
    let mut levels: Vec<&str> = Vec::new();
    for trial in view.summary.seeds.iter().flat_map(|seed| &seed.trials) {
        if !levels.contains(&trial.level.as_str()) {
            levels.push(&trial.level);
        }
    }
    levels.sort_by_key(|level| LEVELS.iter().position(|known| known == level).unwrap_or(LEVELS.len()));
    levels
}

/// Ratios of a level in ascending order, each with its trials.
fn ratios<'a>(view: &View<'a>, level: &str) -> Vec<Ratio<'a>> {
    let mut ratios: Vec<Ratio<'_>> = Vec::new();
    for seed in &view.summary.seeds {
        for trial in seed.trials.iter().filter(|trial| trial.level == level) {
            match ratios.iter_mut().find(|there| (there.ratio - trial.ratio).abs() < 1e-9) {
                Some(there) => there.trials.push((seed.seed, trial)),
                None => ratios.push(Ratio { ratio: trial.ratio, trials: vec![(seed.seed, trial)] }),
            }
        }
    }
    ratios.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    ratios
}

/// What pruning costs before retraining, and what retraining makes up for.
fn before_and_after(view: &View<'_>, level: &str, ratios: &[Ratio<'_>]) -> Figure {
    let title = format!("{}: before and after retraining", label::level(level));
    let mut plot = frame(view, level, ratios, &[PRUNED, RETRAINED]);
    let mut legend = Vec::new();
    for series in [PRUNED, RETRAINED] {
        series.draw(&mut plot, ratios);
        legend.insert(0, series.legend());
    }
    legend.extend(reference(&mut plot, view, "tuned"));
    Figure { chart: plot.render(&title), data: data(ratios), legend, title, wide: false }
}

/// The choice: every seed's trials where they were chosen by, and where not.
fn choice(view: &View<'_>, level: &str, ratios: &[Ratio<'_>]) -> Figure {
    let title = format!("{}: the choice", label::level(level));
    let mut plot = frame(view, level, ratios, &[RETRAINED, HELD_BACK]);
    let mut legend = Vec::new();
    for series in [HELD_BACK, RETRAINED] {
        if series.draw(&mut plot, ratios) {
            legend.insert(0, series.legend());
        }
    }
    // on top: with one seed its mark lies on the mean's
    ratios.iter().for_each(|ratio| ratio.draw_seeds(&mut plot));
    legend.extend(["tuned", "continued"].into_iter().filter_map(|name| reference(&mut plot, view, name)));
    Figure { chart: plot.render(&title), data: data(ratios), legend, title, wide: false }
}

fn frame(view: &View<'_>, level: &str, ratios: &[Ratio<'_>], series: &[Series]) -> Plot {
    let trials = || ratios.iter().flat_map(|ratio| &ratio.trials);
    let values = series.iter().flat_map(|series| trials().filter_map(|(_, trial)| (series.of)(trial)));
    let references = ["tuned", "continued"].into_iter().filter_map(|name| view.chosen_by(name));
    let places = values.chain(references).map(|value| 100.0 * value);
    let widest = ratios.last().map_or(1.0, |ratio| ratio.ratio);
    let x = Axis {
        scale: Scale::from_to(0.0, (100.0 * widest + 5.0).min(100.0), 5).whole(),
        title: format!(
            "Share of {} pruned, %",
            if level == "token" { "tokens" } else { "each token's pieces" }
        ),
    };
    let y = Axis { scale: Scale::of_metrics(places), title: label::metric_on(view.metric(), "dev") };
    let mut plot = Plot::new(x, y).with_foot("chosen");
    ratios.iter().for_each(|ratio| ratio.mark_choice(&mut plot));
    plot
}

/// Draws an arm's level and says what it is; none if the arm is not there.
fn reference(plot: &mut Plot, view: &View<'_>, arm: &'static str) -> Option<(Markup, String)> {
    let value = view.chosen_by(arm)?;
    let name = label::arm(arm).title;
    plot.level(arm, 100.0 * value, &format!("{name}: {}", number::percent(value)));
    Some((sample(Some(Stroke::Dotted), None, arm), name.to_owned()))
}

fn data(ratios: &[Ratio<'_>]) -> Table {
    let head = [
        "Pruned",
        "Tokens",
        "Pieces",
        "Before retraining",
        "Retrained",
        "Held back",
        "Steps",
        "Dropped",
        "Chosen",
    ];
    let row = |ratio: &Ratio<'_>| {
        let shown = |of: fn(&Trial) -> Option<f64>| ratio.mean(of).map_or("–".into(), number::percent);
        let counted = |of: fn(&Trial) -> Option<f64>| ratio.mean(of).map_or("–".into(), number::count);
        let how_many =
            |of: fn(&Trial) -> bool| ratio.trials.iter().filter(|(_, trial)| of(trial)).count().to_string();
        vec![
            format!("{:.0} %", 100.0 * ratio.ratio),
            counted(|trial| Some(trial.tokens as f64)),
            counted(|trial| Some(trial.pieces as f64)),
            shown(|trial| Some(trial.choose_pruned)),
            shown(|trial| Some(trial.choose)),
            shown(|trial| trial.report),
            counted(|trial| Some(trial.training.steps as f64)),
            how_many(|trial| trial.training.end == End::Dropped),
            how_many(|trial| trial.chosen),
        ]
    };
    Table::new(head, ratios.iter().map(row))
}

fn bias(view: &View<'_>, levels: &[&str]) -> Table {
    let head = ["Level", "Where chosen", "Held back", "Difference", "Over all ratios", "By choosing"];
    let row = |level: &&str| {
        let bias = selection_bias(view, level)?;
        Some(vec![
            label::level(level).to_owned(),
            number::percent(bias.choose),
            number::percent(bias.report),
            number::points(bias.choose - bias.report),
            number::points(bias.of_all),
            number::points(bias.choose - bias.report - bias.of_all),
        ])
    };
    Table::new(head, levels.iter().filter_map(row))
}

// === impl Series ===

impl Series {
    /// Draws it; false if there is nothing to draw.
    fn draw(&self, plot: &mut Plot, ratios: &[Ratio<'_>]) -> bool {
        let at = |ratio: &Ratio<'_>| Some((100.0 * ratio.ratio, 100.0 * ratio.mean(self.of)?));
        let means: Vec<_> = ratios.iter().filter_map(at).collect();
        if means.is_empty() {
            return false;
        }
        plot.line(self.stroke, self.class, &means);
        for &(x, y) in &means {
            let title = format!("{x:.0} % pruned. {}: {}", self.name, number::decimal(y, 1));
            plot.mark(self.shape, self.class, (x, y), &title);
        }
        true
    }

    fn legend(&self) -> (Markup, String) {
        (sample(Some(self.stroke), Some(self.shape), self.class), self.name.to_owned())
    }
}

// === impl Ratio ===

impl Ratio<'_> {
    fn mean(&self, of: fn(&Trial) -> Option<f64>) -> Option<f64> {
        mean(self.trials.iter().filter_map(|(_, trial)| of(trial)))
    }

    /// A mark for each seed.
    fn draw_seeds(&self, plot: &mut Plot) {
        let x = 100.0 * self.ratio;
        for (seed, trial) in &self.trials {
            let (shape, how) = match trial.training.end {
                End::Dropped => (Shape::Ring, "dropped"),
                End::Converged | End::StepLimit => (Shape::Speck, "retrained"),
            };
            let title = format!("{x:.0} % pruned, seed {seed}, {how}: {}", number::percent(trial.choose));
            plot.mark(shape, "xprompt", (x, 100.0 * trial.choose), &title);
        }
    }

    /// Under the axis: how many seeds chose this ratio.
    fn mark_choice(&self, plot: &mut Plot) {
        let x = 100.0 * self.ratio;
        let chosen = self.trials.iter().filter(|(_, trial)| trial.chosen);
        let chosen: Vec<String> = chosen.map(|(seed, _)| seed.to_string()).collect();
        if !chosen.is_empty() {
            let title = format!("{x:.0} % chosen with seed {}", chosen.join(", "));
            plot.foot("xprompt", x, &format!("{}×", chosen.len()), &title);
        }
    }
}
