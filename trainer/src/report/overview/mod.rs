//! Several tasks side by side: where XPrompt helps and where it does not. Each links to its own report.

mod together;

use maud::{Markup, html};

use super::page::{Figure, Section, Table, figures, scroll};
use super::svg::{Row, Shape, Stroke, sample};
use super::verdict::Outcome;
use super::{arms, label, number, page};
use crate::summary::Summary;

use together::{Against, CONTINUED, Judged, Kept, RANDOM, TUNED, Tally, counted, judge};

/// A task of the overview.
#[derive(Clone, Debug)]
pub struct Task {
    /// What it is called.
    pub name: String,
    /// Where its own report is, as a relative URL.
    pub link: String,
    /// What its run found.
    pub summary: Summary,
}

/// The page.
pub(super) fn html(name: &str, tasks: &[Task]) -> Markup {
    let judged = judge(tasks);
    let sections = [table(&judged), differences(&judged), again(&judged)];
    let mut producers: Vec<&str> = tasks.iter().map(|task| task.summary.producer.as_str()).collect();
    producers.dedup();
    let title = format!("{name} · XPrompt report");
    page::page(&title, &header(name, &judged), &sections, &producers.join(", "))
}

/// What the tasks show together, in sentences.
pub(super) fn sentences(tasks: &[Task]) -> Vec<String> {
    let judged = judge(tasks);
    [leads(&judged), findings(&judged), cautions(&judged)].concat()
}

fn header(name: &str, tasks: &[Judged<'_>]) -> Markup {
    let cautions = cautions(tasks);
    html! {
        header {
            p.eyebrow { "XPrompt report" }
            h1 { (name) }
            p.what {
                (distinct(tasks.iter().map(|task| task.view.summary.base_model.name.clone())).join(", "))
                " · " (counted(tasks.len(), "task"))
                " · " (seeds(tasks))
            }
            (tiles(tasks))
            div.verdict {
                @for lead in leads(tasks) { p.lead { (lead) } }
                ul { @for finding in findings(tasks) { li { (finding) } } }
                @if !cautions.is_empty() {
                    div.cautions role="note" {
                        h2 { "Beware" }
                        ul { @for caution in &cautions { li { (caution) } } }
                    }
                }
            }
        }
    }
}

/// How many seeds each task has.
fn seeds(tasks: &[Judged<'_>]) -> String {
    let counts = || tasks.iter().map(|task| task.view.summary.seeds.len());
    match (counts().min(), counts().max()) {
        (Some(least), Some(most)) if least < most => format!("{least} to {most} seeds"),
        (_, most) => counted(most.unwrap_or(0), "seed"),
    }
}

fn tiles(tasks: &[Judged<'_>]) -> Markup {
    let tile = |name: &str, number: String, unit: &str, more: String| {
        html! { div.tile { p.name { (name) } p.number { (number) span.unit { (unit) } } p.more { (more) } } }
    };
    let tally = |against: Against| {
        let tally = Tally::of(tasks, against);
        let all = tally.count();
        (all > 0).then(|| {
            let name = format!("Better than {}", against.heading);
            let more = format!("worse on {}, undecided on {}", tally.worse.len(), tally.undecided);
            tile(&name, tally.better.len().to_string(), &format!(" of {}", counted(all, "task")), more)
        })
    };
    html! {
        div.tiles {
            @for tile in [TUNED, CONTINUED, RANDOM].into_iter().filter_map(tally) { (tile) }
            @if let Some(kept) = Kept::of(tasks) {
                (tile("Parameters kept", number::percent(kept.mean), " %", kept.range()))
            }
        }
    }
}

/// How XPrompt compares over all tasks.
fn leads(tasks: &[Judged<'_>]) -> Vec<String> {
    [TUNED, CONTINUED].into_iter().filter_map(|against| Tally::of(tasks, against).sentence(against)).collect()
}

fn findings(tasks: &[Judged<'_>]) -> Vec<String> {
    let random = Tally::of(tasks, RANDOM);
    let mut findings = Vec::new();
    if let Some(sentence) = random.sentence(RANDOM) {
        let choice = match random.better.len() {
            0 => "Nowhere do these data show the paper's importance score to choose better than chance.",
            _ => "Where it is better, the paper's importance score chooses better than chance.",
        };
        findings.push(format!("{sentence} {choice}"));
    }
    if let Some(kept) = Kept::of(tasks) {
        findings.push(format!(
            "XPrompt keeps {} % of the parameters on average over tasks ({}).",
            number::percent(kept.mean),
            kept.range(),
        ));
    }
    if tasks.len() > 1 {
        findings.push(
            "An interval of 95 % misses one time in twenty: among many tasks a few show a difference by chance alone."
                .into(),
        );
    }
    findings
}

/// Cautions, each with the tasks that it is about.
fn cautions(tasks: &[Judged<'_>]) -> Vec<String> {
    let all = || {
        tasks.iter().flat_map(|task| task.verdict.cautions.iter().map(move |caution| (task, caution.brief)))
    };
    let about = |brief: &'static str| {
        let names: Vec<&str> =
            all().filter(|(_, b)| *b == brief).map(|(task, _)| task.task.name.as_str()).collect();
        match names.len() == tasks.len() && tasks.len() > 1 {
            true => format!("{brief}: every task."),
            false => format!("{brief}: {}.", names.join(", ")),
        }
    };
    distinct(all().map(|(_, brief)| brief)).into_iter().map(about).collect()
}

fn table(tasks: &[Judged<'_>]) -> Section {
    let against: Vec<Against> =
        [TUNED, CONTINUED, RANDOM].into_iter().filter(|a| Tally::of(tasks, *a).count() > 0).collect();
    let table = html! {
        table.arms.tasks {
            thead { tr {
                th scope="col" { "Task" }
                @for arm in ["tuned", "continued", "xprompt"] { th scope="col" { (label::arm(arm).title) } }
                @for against in &against { th scope="col" { "XPrompt over " (against.heading) } }
                th scope="col" { "Tokens and pieces kept" }
                th.name scope="col" { "Verdict" }
            } }
            tbody { @for task in tasks { (task.row(&against)) } }
        }
    };
    Section {
        id: "tasks",
        title: "Tasks",
        body: html! {
            p.note {
                "Mean ± standard deviation over seeds, below it the mean's 95 % interval, all × 100. Differences are in points, "
                "paired by seed and example, and bold where their interval does not contain 0. A task's name leads to its "
                "own report."
            }
            (scroll("Tasks", &table))
        },
    }
}

fn differences(tasks: &[Judged<'_>]) -> Section {
    let charts: Vec<Figure> =
        [TUNED, CONTINUED, RANDOM].into_iter().filter_map(|against| difference(tasks, against)).collect();
    let signs = [("xprompt", "Interval without 0"), ("other", "Interval with 0")];
    Section {
        id: "differences",
        title: "Differences",
        body: html! {
            p.note {
                "XPrompt less the other prompt, with 95 % intervals. Right of the dotted line XPrompt is better."
            }
            ul.legend { @for (class, meaning) in signs {
                li { (sample(Some(Stroke::Solid), Some(Shape::Dot), class)) " " (meaning) }
            } }
            (figures(&charts))
        },
    }
}

fn difference(tasks: &[Judged<'_>], against: Against) -> Option<Figure> {
    let (mut rows, mut cells) = (Vec::new(), Vec::new());
    for task in tasks {
        let Some(comparison) = (against.of)(&task.verdict) else { continue };
        let difference = comparison.difference;
        let (name, value) = (&task.task.name, number::points(difference.value));
        let interval = number::interval_of_points(difference.low, difference.high);
        rows.push(Row {
            name: name.clone(),
            class: if comparison.outcome() == Outcome::Undecided { "other" } else { "xprompt" },
            value: (100.0 * difference.value, 100.0 * difference.low, 100.0 * difference.high),
            singles: Vec::new(),
            title: format!("{name}: {value} ({interval})"),
        });
        cells.push(vec![name.clone(), value, interval, comparison.outcome().words().to_owned()]);
    }
    let title = format!("XPrompt less {}", against.heading);
    let data = Table::new(["Task", "Difference", "Interval", "XPrompt"], cells);
    Figure::forest(title, "Points".into(), rows, vec![("zero", 0.0)], data)
}

/// Commands, models and devices, each once.
fn again(tasks: &[Judged<'_>]) -> Section {
    let facts = |of: fn(&Summary) -> String| distinct(tasks.iter().map(|task| of(task.view.summary)));
    let lists = [
        ("Program", facts(|summary| summary.producer.clone())),
        ("Model", facts(|s| format!("{} ({})", s.base_model.name, s.base_model.fingerprint))),
        ("Tokenizer", facts(|s| format!("{} ({})", s.tokenizer.name, s.tokenizer.fingerprint))),
        ("Device", facts(|summary| summary.device.clone())),
        ("Wall time", facts(|summary| number::duration(summary.seconds))),
    ];
    Section {
        id: "again",
        title: "Run it again",
        body: html! {
            p.note { "Settings, data and their fingerprints are in each task's own report." }
            @for command in facts(|summary| summary.command.clone()).iter().filter(|command| !command.is_empty()) {
                pre.command { (command) }
            }
            dl.facts { @for (name, values) in &lists { div { dt { (name) } dd { (values.join(", ")) } } } }
        },
    }
}

/// Each value once, in the order of its first appearance.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}

// === impl Judged ===

impl Judged<'_> {
    fn row(&self, against: &[Against]) -> Markup {
        let view = &self.view;
        let arm = |name: &str| view.arm(name);
        let value = |name: &str| arm(name).and_then(|arm| view.judged(arm));
        html! {
            tr {
                th scope="row" {
                    a.arm href=(self.task.link) { (self.task.name) }
                    small { (label::metric_with_unit(view.metric())) ", " (label::on_split(view.split)) }
                }
                @for name in ["tuned", "continued", "xprompt"] {
                    td class=(arms::class(name)) { @match value(name) {
                        Some(value) => (arms::over_seeds(&value)),
                        None => "–",
                    } }
                }
                @for against in against {
                    td { (arms::shown((against.of)(&self.verdict).map(|comparison| comparison.difference))) }
                }
                td { @if let (Some(xprompt), Some(tuned)) = (arm("xprompt"), arm("tuned")) {
                    span.value { (number::count(xprompt.tokens)) " of " (number::count(tuned.tokens)) }
                    small { (number::count(xprompt.pieces)) " of " (number::count(tuned.pieces)) }
                } @else { "–" } }
                td.name { (self.verdict.words()) }
            }
        }
    }
}
