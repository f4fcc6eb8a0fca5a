//! Figure 2 of the paper: tokens of the tuned prompt masked without retraining.

use maud::html;

use super::page::{Figure, Section, Table, figures};
use super::svg::{Axis, Plot, Scale, Shape, Stroke, sample};
use super::view::{View, mean};
use super::{label, number};
use crate::summary::Masking;

/// A number of masked tokens over all seeds.
struct Masked {
    masked: usize,
    lowest: f64,
    random: Option<(f64, f64, f64)>,
    highest: f64,
}

/// The section; none if no masking was measured.
pub(super) fn section(view: &View<'_>) -> Option<Section> {
    let series = over_seeds(view);
    if series.is_empty() {
        return None;
    }
    let place = place(view);
    Some(Section {
        id: "masking",
        title: "Masking without retraining",
        body: html! {
            p.note {
                "Figure 2 of the paper, measured " (place) ": tokens of the tuned prompt are masked and nothing is "
                "retrained. If unimportant tokens did harm, the line of the lowest importance would rise. Means over seeds; the band holds every "
                "random draw of every seed."
            }
            (figures(&[figure(view, &place, &series)]))
        },
    })
}

/// The part of the data that it was measured on, inside a sentence.
fn place(view: &View<'_>) -> String {
    let mut splits: Vec<&str> = Vec::new();
    for masking in view.summary.seeds.iter().flat_map(|seed| &seed.masking) {
        if !splits.contains(&masking.split.as_str()) {
            splits.push(&masking.split);
        }
    }
    splits.into_iter().map(label::on_split).collect::<Vec<_>>().join(" and ")
}

fn over_seeds(view: &View<'_>) -> Vec<Masked> {
    let all = || view.summary.seeds.iter().flat_map(|seed| &seed.masking);
    let mut counts: Vec<usize> = all().map(|masking| masking.masked).collect();
    counts.sort_unstable();
    counts.dedup();
    let at = |masked: usize| {
        let there = || all().filter(move |masking| masking.masked == masked);
        let of = |value: fn(&Masking) -> f64| mean(there().map(value));
        let draws = || there().flat_map(|masking| masking.random.iter().copied());
        let random = mean(draws()).map(|middle| {
            (draws().fold(f64::INFINITY, f64::min), middle, draws().fold(f64::NEG_INFINITY, f64::max))
        });
        Some(Masked { masked, lowest: of(|m| m.lowest)?, random, highest: of(|m| m.highest)? })
    };
    counts.into_iter().filter_map(at).collect()
}

fn figure(view: &View<'_>, place: &str, series: &[Masked]) -> Figure {
    let title = format!("{} {place} against the number of masked tokens", label::metric(view.metric()));
    let values = series.iter().flat_map(|m| {
        let (low, _, high) = m.random.unwrap_or((m.lowest, m.lowest, m.lowest));
        [m.lowest, m.highest, low, high].map(|value| 100.0 * value)
    });
    let last = series.last().map_or(1, |m| m.masked).max(1);
    let x = Axis { scale: Scale::from_to(0.0, last as f64, 5).whole(), title: "Tokens masked".into() };
    let y = Scale::of_metrics(values);
    let mut plot = Plot::new(x, Axis { scale: y, title: label::metric_with_unit(view.metric()) });
    let band: Vec<_> = series
        .iter()
        .filter_map(|m| m.random.map(|(low, _, high)| (m.masked as f64, 100.0 * low, 100.0 * high)))
        .collect();
    plot.band("random", &band);
    type Value = fn(&Masked) -> Option<f64>;
    let lines: [(_, _, _, Value, _); 3] = [
        ("random", Stroke::Dashed, Shape::Diamond, |m| m.random.map(|(_, middle, _)| middle), "at random"),
        ("highest", Stroke::Solid, Shape::Triangle, |m| Some(m.highest), "of highest importance"),
        ("xprompt", Stroke::Solid, Shape::Dot, |m| Some(m.lowest), "of lowest importance"),
    ];
    let mut legend = Vec::new();
    for (class, stroke, shape, of, what) in lines {
        let points: Vec<_> = series.iter().filter_map(|m| Some((m.masked as f64, 100.0 * of(m)?))).collect();
        if points.is_empty() {
            continue;
        }
        plot.line(stroke, class, &points);
        for &(x, y) in &points {
            plot.mark(shape, class, (x, y), &format!("{x} masked {what}: {}", number::decimal(y, 1)));
        }
        legend.insert(0, (sample(Some(stroke), Some(shape), class), format!("Tokens {what}")));
    }
    Figure { chart: plot.render(&title), title, legend, data: data(series), wide: false }
}

fn data(series: &[Masked]) -> Table {
    let head = ["Masked", "Lowest importance", "At random", "Range of draws", "Highest importance"];
    let row = |m: &Masked| {
        vec![
            m.masked.to_string(),
            number::percent(m.lowest),
            m.random.map_or("–".into(), |(_, middle, _)| number::percent(middle)),
            m.random.map_or("–".into(), |(low, _, high)| number::interval(low, high)),
            number::percent(m.highest),
        ]
    };
    Table::new(head, series.iter().map(row))
}
