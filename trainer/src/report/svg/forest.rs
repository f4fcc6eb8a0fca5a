//! Rows of values with their intervals on one scale.

use maud::{Markup, html};

use super::{Scale, Shape, WIDTH, mark, picture, px, text_width};

const ROW: f64 = 25.0;
const TOP: f64 = 8.0;
const RIGHT: f64 = 16.0;
const BOTTOM: f64 = 42.0;

/// A row.
#[derive(Clone, Debug)]
pub(in crate::report) struct Row {
    /// What it is.
    pub(in crate::report) name: String,
    /// The colour's class.
    pub(in crate::report) class: &'static str,
    /// The value with the ends of its interval.
    pub(in crate::report) value: (f64, f64, f64),
    /// Single values beside it, each with a title.
    pub(in crate::report) singles: Vec<(f64, String)>,
    /// What the row says, in words.
    pub(in crate::report) title: String,
}

/// A chart of rows.
#[derive(Clone, Debug)]
pub(in crate::report) struct Forest {
    /// Where values are.
    pub(in crate::report) scale: Scale,
    /// What they are.
    pub(in crate::report) title: String,
    /// Lines from top to bottom: the colour's class and the value.
    pub(in crate::report) references: Vec<(&'static str, f64)>,
    /// The rows, from the top.
    pub(in crate::report) rows: Vec<Row>,
}

// === impl Forest ===

impl Forest {
    /// The picture.
    pub(in crate::report) fn render(&self, name: &str) -> Markup {
        let left =
            self.rows.iter().map(|row| 1.1 * text_width(&short(&row.name))).fold(60.0, f64::max) + 10.0;
        let right = WIDTH - RIGHT;
        let bottom = TOP + ROW * self.rows.len() as f64;
        let at = |value: f64| left + self.scale.at(value) * (right - left);
        let content = html! {
            @for (value, label) in self.scale.ticks() {
                path.grid d={ "M" (px(at(value))) " " (px(TOP)) "V" (px(bottom)) } {}
                text.tick.middle x=(px(at(value))) y=(px(bottom + 17.0)) { (label) }
            }
            @for &(class, value) in self.references.iter().filter(|(_, value)| self.scale.contains(*value)) {
                path class={ "line dotted " (class) } d={ "M" (px(at(value))) " " (px(TOP)) "V" (px(bottom)) } {}
            }
            @for (i, row) in self.rows.iter().enumerate() {
                @let y = TOP + ROW * (i as f64 + 0.5);
                @let (value, low, high) = row.value;
                g {
                    title { (row.title) }
                    rect.row x="0" y=(px(y - ROW / 2.0)) width=(px(WIDTH)) height=(px(ROW)) {}
                    text class={ "name " (row.class) } x="0" y=(px(y + 4.0)) { (short(&row.name)) }
                    path class={ "line solid " (row.class) } d={ "M" (px(at(low))) " " (px(y)) "H" (px(at(high))) } {}
                    (mark(Shape::Dot, row.class, (at(value), y), ""))
                }
                @for (single, title) in &row.singles {
                    (mark(Shape::Speck, row.class, (at(*single), y + 7.0), title))
                }
            }
            text.axis.end x=(px(right)) y=(px(bottom + 36.0)) { (self.title) }
        };
        picture(name, (WIDTH, bottom + BOTTOM), &content)
    }
}

/// A name that fits beside the rows.
fn short(name: &str) -> String {
    const LONGEST: usize = 22;
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    name.chars().take(LONGEST - 1).chain(['…']).collect()
}
