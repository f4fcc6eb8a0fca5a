//! How training went: stage one, and what follows from its values under XPrompt's mask and without a mask.

use std::collections::BTreeMap;

use maud::html;

use super::page::{Figure, Section, Table, figures, scroll};
use super::svg::{Axis, Plot, Scale, Shape, Stroke, sample};
use super::view::{View, mean};
use super::{arms, label, number};
use crate::summary::{End, Point, Training};

/// Points of a curve that are drawn at most, beside its last and its best.
const MOST_POINTS: usize = 150;

/// What is drawn of a curve's points.
#[derive(Clone, Copy, Debug)]
enum Of {
    Metric,
    Loss,
}

/// A curve of one arm and seed: its steps with what is drawn of them.
struct Curve<'a> {
    arm: &'a str,
    seed: u64,
    training: &'a Training,
    line: Vec<(f64, f64)>,
}

/// The section; none if no training was recorded.
pub(super) fn section(view: &View<'_>) -> Option<Section> {
    let ends = ends(view);
    if ends.is_empty() {
        return None;
    }
    let stage_one = |of| figure(view, "Stage one", &["tuned"], of);
    // the last is drawn on top
    let after = |of| figure(view, "After stage one", &["continued", "xprompt"], of);
    let charts = [stage_one(Of::Metric), after(Of::Metric), stage_one(Of::Loss), after(Of::Loss)];
    let charts: Vec<Figure> = charts.into_iter().flatten().collect();
    Some(Section {
        id: "training",
        title: "Training",
        body: html! {
            @if !charts.is_empty() {
                p.note {
                    "A line a seed. The dot is the step whose values were kept, a cross says that the steps were used up "
                    "before the metric had stopped improving."
                }
                (figures(&charts))
            }
            h3 { "How each training ended" }
            (scroll("How each training ended", &ends.render()))
        },
    })
}

/// The curves of some arms in one chart.
fn figure(view: &View<'_>, stage: &str, names: &[&str], of: Of) -> Option<Figure> {
    let curves: Vec<Curve<'_>> = names
        .iter()
        .flat_map(|name| {
            view.arms(name)
                .filter_map(|(seed, arm)| Curve::new(&arm.name, seed.seed, arm.training.as_ref()?, of))
        })
        .collect();
    let places = || curves.iter().flat_map(|curve| &curve.line);
    let last = places().map(|(x, _)| *x).reduce(f64::max)?;
    let before = view.chosen_by("tuned").filter(|_| matches!(of, Of::Metric) && !names.contains(&"tuned"));
    let values = places().map(|(_, y)| *y).chain(before.map(|value| 100.0 * value));
    let (scale, title, axis) = match of {
        Of::Metric => (
            Scale::of_metrics(values),
            format!("{stage}: {}", label::metric_in_sentence(view.metric())),
            label::metric_on(view.metric(), "dev (choose)"),
        ),
        Of::Loss => (
            Scale::around(values, 0.0, (0.0, f64::MAX), 5),
            format!("{stage}: loss"),
            "Loss on train, smoothed".into(),
        ),
    };
    let steps = Axis { scale: Scale::from_to(0.0, last, 5).whole(), title: "Steps".into() };
    let mut plot = Plot::new(steps, Axis { scale, title: axis });
    if let Some(value) = before {
        let title = format!("{}: {}", label::arm("tuned").title, number::percent(value));
        plot.level("tuned", 100.0 * value, &title);
    }
    curves.iter().for_each(|curve| plot.line(Stroke::Thin, arms::class(curve.arm), &curve.line));
    curves.iter().for_each(|curve| curve.mark_end(&mut plot, of));
    let mut legend: Vec<_> = names
        .iter()
        .filter(|name| curves.iter().any(|curve| curve.arm == **name))
        .map(|name| {
            (
                sample(Some(Stroke::Solid), Some(Shape::Dot), arms::class(name)),
                label::arm(name).title.to_owned(),
            )
        })
        .collect();
    if before.is_some() {
        legend.push((sample(Some(Stroke::Dotted), None, "tuned"), label::arm("tuned").title.to_owned()));
    }
    Some(Figure { chart: plot.render(&title), data: data(names, &curves, of), title, legend, wide: false })
}

/// A row for each arm and step, a column for each seed.
fn data(names: &[&str], curves: &[Curve<'_>], of: Of) -> Table {
    let mut seeds: Vec<u64> = Vec::new();
    for curve in curves {
        if !seeds.contains(&curve.seed) {
            seeds.push(curve.seed);
        }
    }
    let mut cells: BTreeMap<(usize, u64), Vec<String>> = BTreeMap::new();
    for curve in curves {
        let column = seeds.iter().position(|seed| *seed == curve.seed).unwrap_or(0);
        let arm = names.iter().position(|name| *name == curve.arm).unwrap_or(0);
        for &(step, value) in &curve.line {
            let row = cells.entry((arm, step as u64)).or_insert_with(|| vec!["–".into(); seeds.len()]);
            row[column] = of.shown(value);
        }
    }
    let rows = cells.into_iter().map(|((arm, step), values)| {
        let name = label::arm(names[arm]).title.to_owned();
        [name, number::count(step as f64)].into_iter().chain(values).collect()
    });
    let seeds = seeds.iter().map(|seed| format!("Seed {seed}"));
    Table::new(["Prompt", "Step"].into_iter().map(str::to_owned).chain(seeds), rows)
}

/// Of every trained arm: its steps, and how many seeds ended in which way.
fn ends(view: &View<'_>) -> Table {
    let head = ["Prompt", "Steps", "Step kept", "Converged", "Steps used up", "Dropped"];
    let row = |name: &str| {
        let trainings: Vec<_> = view.arms(name).filter_map(|(_, arm)| arm.training.as_ref()).collect();
        let ended = |end| match trainings.iter().filter(|training| training.end == end).count() {
            0 => "–".to_owned(),
            count => format!("{count} of {}", trainings.len()),
        };
        Some(vec![
            label::arm(name).title.to_owned(),
            number::count(mean(trainings.iter().map(|training| training.steps as f64))?),
            number::count(mean(trainings.iter().map(|training| training.best_step as f64))?),
            ended(End::Converged),
            ended(End::StepLimit),
            ended(End::Dropped),
        ])
    };
    Table::new(head, view.summary.table.iter().filter_map(|arm| row(&arm.name)))
}

// === impl Of ===

impl Of {
    fn value(self, point: &Point) -> Option<f64> {
        match self {
            Self::Metric => Some(100.0 * point.metric),
            Self::Loss => point.loss.map(f64::from),
        }
    }

    fn shown(self, value: f64) -> String {
        match self {
            Self::Metric => number::decimal(value, 1),
            Self::Loss => number::significant(value),
        }
    }
}

// === impl Curve ===

impl<'a> Curve<'a> {
    /// None without a point.
    fn new(arm: &'a str, seed: u64, training: &'a Training, of: Of) -> Option<Self> {
        let points = &training.curve;
        let every = points.len().div_ceil(MOST_POINTS).max(1);
        let drawn = points
            .iter()
            .enumerate()
            .filter(|(i, point)| i % every == 0 || i + 1 == points.len() || point.step == training.best_step);
        let line: Vec<_> =
            drawn.filter_map(|(_, point)| Some((point.step as f64, of.value(point)?))).collect();
        (!line.is_empty()).then_some(Self { arm, seed, training, line })
    }

    fn mark_end(&self, plot: &mut Plot, of: Of) {
        let name = format!("{}, seed {}", label::arm(self.arm).title, self.seed);
        let class = arms::class(self.arm);
        let best = self.training.best_step as f64;
        if let Some(&point) = self.line.iter().find(|(step, _)| *step == best) {
            let title = format!("{name}: kept step {}, {}", number::count(best), of.shown(point.1));
            plot.mark(Shape::Dot, class, point, &title);
        }
        if let (Some(&point), End::StepLimit) = (self.line.last(), self.training.end) {
            plot.mark(Shape::Cross, class, point, &format!("{name}: steps used up"));
        }
    }
}
