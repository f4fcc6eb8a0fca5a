//! All that is needed to run it again: settings, fingerprints, the task.

use maud::{Markup, html};
use serde_json::Value;
use xprompt::prompt::{Label, OutputSpec};

use super::page::{Section, Table, scroll};
use super::view::View;
use super::{label, number};
use crate::summary::SeedSummary;

/// Labels that are shown without being asked for.
const FEW_LABELS: usize = 20;

/// The section.
pub(super) fn section(view: &View<'_>) -> Section {
    let summary = view.summary;
    let facts = [
        ("Task", summary.name.clone()),
        ("Program", summary.producer.clone()),
        ("Model", format!("{} ({})", summary.base_model.name, summary.base_model.fingerprint)),
        ("Tokenizer", format!("{} ({})", summary.tokenizer.name, summary.tokenizer.fingerprint)),
        ("Device", summary.device.clone()),
        ("Seeds", listed(summary.seeds.iter().map(|seed| seed.seed.to_string()))),
        ("Initial values", origins(&summary.seeds)),
        ("Longest text", format!("{} tokens", summary.task.max_input_tokens)),
        ("Form of the summary", summary.format.to_string()),
    ];
    Section {
        id: "again",
        title: "Run it again",
        body: html! {
            p.note {
                "The same settings, seeds, data and model on the same machine give the same prompts, byte for byte. "
                "Fingerprints tell whether data and model are the same."
            }
            @if !summary.command.is_empty() { pre.command { (summary.command) } }
            dl.facts { @for (name, value) in &facts { div { dt { (name) } dd { (value) } } } }
            (data(view))
            h3 { "Template" }
            pre { (summary.task.template) }
            (output(&summary.task.output))
            h3 { "Settings" }
            pre { (settings(&summary.settings)) }
        },
    }
}

/// Where the initial values come from: once if all seeds agree, else seed by seed.
fn origins(seeds: &[SeedSummary]) -> String {
    match seeds {
        [] => "–".into(),
        [first, others @ ..] if others.iter().all(|seed| seed.origin == first.origin) => first.origin.clone(),
        _ => listed(seeds.iter().map(|seed| format!("{} (seed {})", seed.origin, seed.seed))),
    }
}

fn listed(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}

fn data(view: &View<'_>) -> Markup {
    let sources = &view.summary.data;
    if sources.is_empty() {
        return html! {};
    }
    let row = |source: &xprompt::prompt::DataSource| {
        let majority = view.summary.majority.get(&source.split).and_then(Value::as_f64);
        vec![
            label::split(&source.split).to_owned(),
            number::count(source.rows as f64),
            majority.map_or("–".into(), |share| format!("{} %", number::percent(share))),
            source.fingerprint.clone(),
        ]
    };
    let head = ["Data", "Rows", "Most frequent label", "Fingerprint"];
    let table = Table::new(head, sources.iter().map(row));
    html! { h3 { "Data" } (scroll("Data", &table.render())) }
}

fn output(output: &OutputSpec) -> Markup {
    match output {
        OutputSpec::Text { max_new_tokens } => html! {
            h3 { "Answers" }
            p { "Free text of up to " (max_new_tokens) " tokens." }
        },
        OutputSpec::Labels { labels } => {
            let row = |label: &Label| vec![label.name.clone(), label.words.clone()];
            let head = ["Label", "What the model says"];
            let table = Table::new(head, labels.iter().map(row)).with_names(2);
            html! {
                h3 { "Labels" }
                @if labels.len() <= FEW_LABELS {
                    (scroll("Labels", &table.render()))
                } @else {
                    (table.folded(&format!("All {} labels", labels.len()), "Labels"))
                }
            }
        }
    }
}

/// The settings as TOML, as a task file would say them.
fn settings(settings: &Value) -> String {
    let settings = without_null(settings);
    // what TOML cannot say, such as a list at the top, is said in JSON
    toml::to_string(&settings).unwrap_or_else(|_| format!("{settings:#}"))
}

/// TOML has no null: what is not set is left out.
fn without_null(value: &Value) -> Value {
    match value {
        Value::Object(entries) => entries
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), without_null(value)))
            .collect(),
        Value::Array(values) => values.iter().filter(|value| !value.is_null()).map(without_null).collect(),
        _ => value.clone(),
    }
}
