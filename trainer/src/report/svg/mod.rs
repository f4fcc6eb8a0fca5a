//! Charts as SVG: scales, a frame with two axes, rows of intervals. Nothing here knows what a summary is.
//!
//! Colours are classes: a mark of class `xprompt` is drawn in the colour that the style sheet gives to `.xprompt`,
//! which differs between light and dark. What a mark stands for is told by its `<title>`.

mod forest;
mod plot;
mod scale;

pub(super) use forest::{Forest, Row};
pub(super) use plot::{Axis, Plot};
pub(super) use scale::Scale;

use maud::{Markup, html};

/// Width of a chart that stands beside another; one pixel of a telephone's screen is about one unit.
pub(super) const WIDTH: f64 = 460.0;

/// How a mark is drawn: its form tells series apart where colours do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A filled disc.
    Dot,
    /// A small filled disc, for a single seed beside a mean.
    Speck,
    /// A small ring, for a single seed's that was given up.
    Ring,
    /// A filled diamond.
    Diamond,
    /// A triangle that points up.
    Triangle,
    /// A cross.
    Cross,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stroke {
    /// A whole line.
    Solid,
    /// A whole line, thin: a single seed.
    Thin,
    /// Dashes.
    Dashed,
    /// Dots: a reference.
    Dotted,
}

/// A coordinate with one decimal at most.
pub(super) fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".into(),
        Some(whole) => whole.into(),
        None => text,
    }
}

/// A mark at a place, named by its title if it has one.
pub(super) fn mark(shape: Shape, class: &str, (x, y): (f64, f64), title: &str) -> Markup {
    let name = html! { @if !title.is_empty() { title { (title) } } };
    let path = |d: String, style: &str| html! { path class={ (style) " " (class) } d=(d) { (name) } };
    match shape {
        Shape::Dot => html! { circle class={ "dot " (class) } cx=(px(x)) cy=(px(y)) r="3.5" { (name) } },
        Shape::Speck => html! { circle class={ "speck " (class) } cx=(px(x)) cy=(px(y)) r="2.5" { (name) } },
        Shape::Ring => html! { circle class={ "ring " (class) } cx=(px(x)) cy=(px(y)) r="2.5" { (name) } },
        Shape::Diamond => path(format!("M{} {}l4.5 4.5-4.5 4.5-4.5-4.5z", px(x), px(y - 4.5)), "dot"),
        Shape::Triangle => path(format!("M{} {}l5 8h-10z", px(x), px(y - 4.0)), "dot"),
        Shape::Cross => path(format!("M{} {}l7 7m0-7l-7 7", px(x - 3.5), px(y - 3.5)), "cross"),
    }
}

/// A line through places.
pub(super) fn line(stroke: Stroke, class: &str, points: impl IntoIterator<Item = (f64, f64)>) -> Markup {
    html! { path class={ "line " (stroke.class()) " " (class) } d=(through(points)) {} }
}

/// The path through places.
fn through(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    let mut d = String::new();
    for (x, y) in points {
        d.push(if d.is_empty() { 'M' } else { 'L' });
        d.push_str(&px(x));
        d.push(' ');
        d.push_str(&px(y));
    }
    d
}

/// A sample of a line and a mark, for a legend.
pub(super) fn sample(stroke: Option<Stroke>, shape: Option<Shape>, class: &str) -> Markup {
    html! {
        svg.sample viewBox="0 0 28 14" width="28" height="14" aria-hidden="true" {
            @if let Some(stroke) = stroke { (line(stroke, class, [(1.0, 7.0), (27.0, 7.0)])) }
            @if let Some(shape) = shape { (mark(shape, class, (14.0, 7.0), "")) }
        }
    }
}

/// The picture's frame: its size, and its name for those who hear the page.
pub(super) fn picture(name: &str, (width, height): (f64, f64), content: &Markup) -> Markup {
    html! {
        svg.chart role="img" aria-label=(name) viewBox={ "0 0 " (px(width)) " " (px(height)) }
            width=(px(width)) height=(px(height)) { (content) }
    }
}

/// About how wide a text of the axes is.
pub(super) fn text_width(text: &str) -> f64 {
    6.8 * text.chars().count() as f64
}

// === impl Stroke ===

impl Stroke {
    fn class(self) -> &'static str {
        match self {
            Self::Solid => "solid",
            Self::Thin => "thin",
            Self::Dashed => "dashed",
            Self::Dotted => "dotted",
        }
    }
}
