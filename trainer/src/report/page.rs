//! The page and what it is made of: sections, figures, tables.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::svg::{Forest, Row, Scale};

/// A part of the page with a heading.
#[derive(Clone, Debug)]
pub(super) struct Section {
    /// Its anchor.
    pub(super) id: &'static str,
    /// Its heading.
    pub(super) title: &'static str,
    /// What stands under it.
    pub(super) body: Markup,
}

/// A table of plain texts: the first columns name the row, the others are numbers.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Heads of the columns.
    head: Vec<String>,
    /// Cells, row by row.
    rows: Vec<Vec<String>>,
    /// Columns that name the row.
    names: usize,
}

/// A chart with all that belongs to it.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    /// What it shows.
    pub(super) title: String,
    /// Its signs: a sample and what it means.
    pub(super) legend: Vec<(Markup, String)>,
    /// The picture.
    pub(super) chart: Markup,
    /// The same as numbers.
    pub(super) data: Table,
    /// Whether it takes the whole width of the page.
    pub(super) wide: bool,
}

/// The whole page. It loads nothing and runs nothing.
pub(super) fn page(title: &str, header: &Markup, sections: &[Section], footer: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                main {
                    (header)
                    nav aria-label="Sections" {
                        @for section in sections { a href={ "#" (section.id) } { (section.title) } }
                    }
                    @for section in sections {
                        section id=(section.id) {
                            h2 { (section.title) }
                            (section.body)
                        }
                    }
                }
                footer { (footer) }
            }
        }
    }
}

/// Lets a wide table scroll by itself, by mouse and by keyboard.
pub(super) fn scroll(name: &str, table: &Markup) -> Markup {
    html! { div.scroll role="region" tabindex="0" aria-label=(name) { (table) } }
}

/// Figures side by side where there is room.
pub(super) fn figures(figures: &[Figure]) -> Markup {
    html! { div.figures { @for figure in figures { (figure.render()) } } }
}

// === impl Table ===

impl Table {
    /// A table whose first column names the rows.
    pub(super) fn new(
        head: impl IntoIterator<Item = impl Into<String>>,
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: rows.into_iter().collect(), names: 1 }
    }

    /// The same with so many columns of names.
    pub(super) fn with_names(self, names: usize) -> Self {
        Self { names, ..self }
    }

    /// Whether it has no row.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table.
    pub(super) fn render(&self) -> Markup {
        html! {
            table {
                thead { tr {
                    @for (column, head) in self.head.iter().enumerate() {
                        th.name[column < self.names] scope="col" { (head) }
                    }
                } }
                tbody {
                    @for row in &self.rows {
                        tr {
                            @for (column, cell) in row.iter().enumerate() {
                                @if column == 0 { th scope="row" { (cell) } }
                                @else { td.name[column < self.names] { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }

    /// The table, folded away under a word.
    pub(super) fn folded(&self, summary: &str, name: &str) -> Markup {
        html! { details { summary { (summary) } (scroll(name, &self.render())) } }
    }
}

// === impl Figure ===

impl Figure {
    /// Rows of values in percent or points with their intervals; none if there is no row.
    pub(super) fn forest(
        title: String,
        axis: String,
        rows: Vec<Row>,
        references: Vec<(&'static str, f64)>,
        data: Table,
    ) -> Option<Self> {
        if rows.is_empty() {
            return None;
        }
        let ends = rows.iter().flat_map(|row| [row.value.1, row.value.2]);
        let singles = rows.iter().flat_map(|row| row.singles.iter().map(|(value, _)| *value));
        let places = references.iter().map(|(_, value)| *value);
        let scale = Scale::of_metrics(ends.chain(singles).chain(places));
        let chart = Forest { scale, title: axis, references, rows }.render(&title);
        Some(Self { title, legend: Vec::new(), chart, data, wide: false })
    }

    fn render(&self) -> Markup {
        html! {
            figure.wide[self.wide] {
                figcaption { h3 { (self.title) } }
                @if !self.legend.is_empty() {
                    ul.legend { @for (sample, meaning) in &self.legend { li { (sample) " " (meaning) } } }
                }
                (self.chart)
                (self.data.folded("Numbers", &self.title))
            }
        }
    }
}
