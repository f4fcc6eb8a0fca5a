//! A frame with two axes, and what is drawn in it.

use maud::{Markup, html};

use super::{Scale, Shape, Stroke, WIDTH, line, mark, picture, px, text_width, through};

const HEIGHT: f64 = 264.0;
const TOP: f64 = 30.0;
const RIGHT: f64 = 22.0;
const BOTTOM: f64 = 44.0;

/// An axis.
#[derive(Clone, Debug)]
pub(in crate::report) struct Axis {
    /// Where values are.
    pub(in crate::report) scale: Scale,
    /// What they are.
    pub(in crate::report) title: String,
}

/// A chart with two axes.
#[derive(Clone, Debug)]
pub(in crate::report) struct Plot {
    x: Axis,
    y: Axis,
    left: f64,
    foot: Option<String>,
    marks: Vec<Markup>,
}

// === impl Plot ===

impl Plot {
    /// An empty frame.
    pub(in crate::report) fn new(x: Axis, y: Axis) -> Self {
        let widest = y.scale.ticks().iter().map(|(_, label)| text_width(label)).fold(0.0, f64::max);
        Self { x, y, left: widest + 14.0, foot: None, marks: Vec::new() }
    }

    /// A frame with a row below the axis for [`Self::foot`]'s marks, named at its left end.
    pub(in crate::report) fn with_foot(mut self, name: &str) -> Self {
        self.left = self.left.max(text_width(name) + 12.0);
        self.foot = Some(name.to_owned());
        self
    }

    /// Draws a line; values that are not on the scales are left out.
    pub(in crate::report) fn line(&mut self, stroke: Stroke, class: &str, points: &[(f64, f64)]) {
        let places: Vec<_> = points.iter().filter_map(|&point| self.place(point)).collect();
        self.marks.push(line(stroke, class, places));
    }

    /// Draws a horizontal line over the whole width.
    pub(in crate::report) fn level(&mut self, class: &str, y: f64, title: &str) {
        let (from, to) = (self.left, WIDTH - RIGHT);
        if self.y.scale.contains(y) {
            let y = px(self.y_at(y));
            self.marks.push(html! {
                path class={ "line dotted " (class) } d={ "M" (px(from)) " " (y) "H" (px(to)) } { title { (title) } }
            });
        }
    }

    /// Fills the band between two lines over the same x.
    pub(in crate::report) fn band(&mut self, class: &str, points: &[(f64, f64, f64)]) {
        let lower = points.iter().map(|&(x, low, _)| (x, low));
        let upper = points.iter().rev().map(|&(x, _, high)| (x, high));
        let d = through(lower.chain(upper).filter_map(|point| self.place(point)));
        self.marks.push(html! { path class={ "band " (class) } d=(d) {} });
    }

    /// Draws a mark; its title tells what it stands for.
    pub(in crate::report) fn mark(&mut self, shape: Shape, class: &str, point: (f64, f64), title: &str) {
        if let Some(place) = self.place(point) {
            self.marks.push(mark(shape, class, place, title));
        }
    }

    /// Draws a mark with a word in the row below the axis.
    pub(in crate::report) fn foot(&mut self, class: &str, x: f64, word: &str, title: &str) {
        if self.x.scale.contains(x) {
            let (x, y) = (self.x_at(x), self.bottom() + 34.0);
            self.marks.push(html! {
                (mark(Shape::Triangle, class, (x, y - 4.0), title))
                text.tick x=(px(x + 8.0)) y=(px(y)) { (word) }
            });
        }
    }

    /// The picture.
    pub(in crate::report) fn render(&self, name: &str) -> Markup {
        let (left, right, bottom) = (self.left, WIDTH - RIGHT, self.bottom());
        let content = html! {
            text.axis x="0" y="12" { (self.y.title) }
            @for (value, label) in self.y.scale.ticks() {
                @let y = self.y_at(value);
                path.grid d={ "M" (px(left)) " " (px(y)) "H" (px(right)) } {}
                text.tick.end x=(px(left - 8.0)) y=(px(y + 4.0)) { (label) }
            }
            path.base d={ "M" (px(left)) " " (px(bottom)) "H" (px(right)) } {}
            @for (value, label) in self.x.scale.ticks() {
                @let x = self.x_at(value);
                path.base d={ "M" (px(x)) " " (px(bottom)) "v5" } {}
                text.tick.middle x=(px(x)) y=(px(bottom + 19.0)) { (label) }
            }
            @if let Some(foot) = &self.foot {
                text.tick x="0" y=(px(bottom + 34.0)) { (foot) }
            }
            text.axis.end x=(px(right)) y=(px(self.height() - 4.0)) { (self.x.title) }
            @for mark in &self.marks { (mark) }
        };
        picture(name, (WIDTH, self.height()), &content)
    }

    fn place(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        (self.x.scale.contains(x) && self.y.scale.contains(y)).then(|| (self.x_at(x), self.y_at(y)))
    }

    fn x_at(&self, value: f64) -> f64 {
        self.left + self.x.scale.at(value) * (WIDTH - RIGHT - self.left)
    }

    fn y_at(&self, value: f64) -> f64 {
        self.bottom() - self.y.scale.at(value) * (self.bottom() - TOP)
    }

    fn bottom(&self) -> f64 {
        HEIGHT - BOTTOM
    }

    fn height(&self) -> f64 {
        if self.foot.is_some() { HEIGHT + 20.0 } else { HEIGHT }
    }
}
