//! A report for people, in a terminal.

use serde_json::Value;

use super::{Lengths, Report, Severity, Shown, SplitReport};

/// Columns of a line.
const WIDTH: usize = 100;
/// Labels that are listed.
const LABELS: usize = 20;
/// Characters of a long text that are shown of its beginning, and half as many of its end.
const HEAD: usize = 400;
/// Characters of a name in a table.
const NAME: usize = 28;
/// Characters of the longest bar.
const BAR: f64 = 16.0;

/// Whether and how words are set off.
#[derive(Clone, Copy)]
struct Paint(bool);

// === impl Report ===

impl Report {
    /// The report as text, with colours if the terminal shows them.
    #[must_use]
    pub fn describe(&self, colours: bool) -> String {
        let paint = Paint(colours);
        let mut parts = Vec::new();
        let mut section = |title: &str, text: String| parts.push(format!("{}\n\n{text}", paint.bold(title)));
        if !self.examples.is_empty() {
            let examples = self.examples.iter().map(|example| self.example(example, paint));
            section("Rows of train as the model reads them", examples.collect::<Vec<_>>().join("\n"));
        }
        if !self.splits.is_empty() {
            section("Tokens of the text", self.lengths(self.max_input_tokens, |split| Some(split.tokens)));
            match self.max_new_tokens {
                Some(limit) => {
                    section("Tokens of the answer", self.lengths(limit, |split| split.target_tokens));
                }
                None => section("Labels", self.balance()),
            }
        }
        if !self.problems.is_empty() {
            section("Problems", self.listed(paint));
        }
        parts.push(self.verdict(paint));
        parts.join("\n")
    }

    fn example(&self, example: &Shown, paint: Paint) -> String {
        let limit = self.max_input_tokens;
        let cut = if example.tokens > limit { format!(", cut to {limit}") } else { String::new() };
        let place = paint.dim(&format!("{} ({} tokens{cut})", example.place, example.tokens));
        let label = match &example.label {
            Some(label) if *label != example.target => format!(" (label {label})"),
            _ => String::new(),
        };
        let text = wrapped(&beginning_and_end(&example.text), "  ");
        format!("  {place}\n{text}  => {}{label}\n", paint.bold(&example.target))
    }

    fn lengths(&self, limit: usize, of: impl Fn(&SplitReport) -> Option<Lengths>) -> String {
        let over = format!("over {limit}");
        let mut table =
            vec![["", "rows", "p50", "p90", "p99", "longest", &over, ""].map(str::to_owned).to_vec()];
        for split in &self.splits {
            let Some(Lengths { p50, p90, p99, max, over }) = of(split) else { continue };
            let mut line = vec![split.split.name().to_owned()];
            line.extend([split.rows, p50, p90, p99, max, over].map(thousands));
            line.push(files(split));
            table.push(line);
        }
        aligned(&table, &[0, 7])
    }

    fn balance(&self) -> String {
        let mut order: Vec<usize> = (0..self.labels.len()).collect();
        let count = |split: &SplitReport, label: usize| {
            split.labels.get(&self.labels[label].name).and_then(Value::as_u64).unwrap_or(0) as usize
        };
        order.sort_by_key(|&label| std::cmp::Reverse(count(&self.splits[0], label)));
        let mut head = vec!["".to_owned(), "says".to_owned()];
        head.extend(self.splits.iter().flat_map(|split| [split.split.name().to_owned(), String::new()]));
        let mut table = vec![head];
        let most = order.iter().map(|&label| count(&self.splits[0], label)).max().unwrap_or(0).max(1);
        for &label in order.iter().take(LABELS) {
            let report = &self.labels[label];
            let tokens = if report.tokens == 1 { "token" } else { "tokens" };
            let mut line = vec![
                clipped(&report.name),
                format!("{}, {} {tokens}", clipped(&format!("{:?}", report.words)), report.tokens),
            ];
            for split in &self.splits {
                let rows = count(split, label);
                line.push(thousands(rows));
                line.push(format!("{:.1} %", 100.0 * rows as f64 / split.rows as f64));
            }
            let bar = (BAR * count(&self.splits[0], label) as f64 / most as f64).round() as usize;
            line.push("▇".repeat(bar));
            table.push(line);
        }
        let last = table[0].len();
        let mut text = aligned(&table, &[0, 1, last]);
        if order.len() > LABELS {
            let rest = &order[LABELS..];
            let (most, least) =
                (count(&self.splits[0], rest[0]), count(&self.splits[0], rest[rest.len() - 1]));
            let name = self.splits[0].split.name();
            let range = if most == least { most.to_string() } else { format!("{least} to {most}") };
            text += &format!("  and {} more labels with {range} rows of {name} each\n", rest.len());
        }
        text
    }

    fn listed(&self, paint: Paint) -> String {
        let problem = |problem: &super::Problem| {
            let (name, colour) = match problem.severity {
                Severity::Error => ("error  ", "31"),
                Severity::Warning => ("warning", "33"),
            };
            let text = wrapped(&problem.to_string(), "           ");
            format!("  {}  {}", paint.with(colour, name), text.trim_start())
        };
        self.problems.iter().map(problem).collect()
    }

    fn verdict(&self, paint: Paint) -> String {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let found = format!("{}, {}", count(self.errors, "error"), count(self.warnings, "warning"));
        let task = self.task.display();
        match (self.errors, self.warnings) {
            (0, 0) => paint.with("32", &format!("{task}: nothing wrong was found\n")),
            (0, _) => paint.with("33", &format!("{task}: {found}; it can be trained on\n")),
            _ => paint.with("31", &format!("{task}: {found}; it cannot be trained on\n")),
        }
    }
}

// === impl Paint ===

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }
}

fn files(split: &SplitReport) -> String {
    if split.drawn {
        return "drawn from train".into();
    }
    let name = |i: usize| split.files[i].file_name().unwrap_or_default().to_string_lossy().into_owned();
    match split.files.len() {
        1 => name(0),
        2 => format!("{}, {}", name(0), name(1)),
        n => format!("{} to {}", name(0), name(n - 1)),
    }
}

/// Lines whose cells stand below each other, to the right but for the columns `left`.
fn aligned(table: &[Vec<String>], left: &[usize]) -> String {
    let cell = |line: &Vec<String>, column: usize| line.get(column).map_or(0, |cell| cell.chars().count());
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..columns).map(|column| table.iter().map(|line| cell(line, column)).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for line in table {
        let mut row = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            row += &if left.contains(&column) {
                format!("  {cell:<width$}")
            } else {
                format!("  {cell:>width$}")
            };
        }
        text += row.trim_end();
        text += "\n";
    }
    text
}

/// A text of which only the beginning and the end are left if it is long.
fn beginning_and_end(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= 2 * HEAD {
        return text.to_owned();
    }
    let (head, tail) = (&characters[..HEAD], &characters[characters.len() - HEAD / 2..]);
    format!("{} [...] {}", head.iter().collect::<String>(), tail.iter().collect::<String>())
}

/// A name that is not too long for a table.
fn clipped(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    name.chars().take(NAME - 1).chain(['…']).collect()
}

/// Words in lines of at most [`WIDTH`] characters, each after `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut row = indent.to_owned();
        for word in line.split(' ') {
            let full = row.chars().count() + 1 + word.chars().count() > WIDTH;
            if full && row.len() > indent.len() {
                lines.push(std::mem::replace(&mut row, indent.to_owned()));
            }
            if row.len() > indent.len() {
                row.push(' ');
            }
            row += word;
        }
        lines.push(row);
    }
    lines.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_wrapped_at_words_and_long_texts_lose_their_middle() {
        let text = wrapped(&"seven77 ".repeat(30), "  ");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH && line.starts_with("  seven77")));
        let word = "x".repeat(150);
        assert_eq!(wrapped(&word, " "), format!(" {word}\n"), "a word is never torn");
        let shown = beginning_and_end(&("a".repeat(500) + &"ß".repeat(500)));
        assert_eq!(shown, format!("{} [...] {}", "a".repeat(HEAD), "ß".repeat(HEAD / 2)));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
