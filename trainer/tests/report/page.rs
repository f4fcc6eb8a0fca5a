//! What is on the page, and that it is a page that works by itself.

use std::collections::HashSet;
use std::path::Path;

use crate::sample::Sample;
use scraper::{ElementRef, Html, Selector};
use serde_json::json;
use xprompt_trainer::report;
use xprompt_trainer::summary::{Estimate, Summary};

const SECTIONS: [&str; 9] =
    ["stages", "controls", "training", "ratios", "anatomy", "masking", "size", "times", "again"];

const SCRIPT: &str = "<script>alert(\"x\")</script> & 'so' on";

/// Runs of every kind, by name.
fn samples() -> Vec<(&'static str, Summary)> {
    let sample = |change: &dyn Fn(&mut Sample)| {
        let mut sample = Sample::default();
        change(&mut sample);
        sample.summary()
    };
    let mut stages = Sample::small().summary();
    stages.table.retain(|arm| arm.name != "continued");
    let mut bare = Sample::small().summary();
    bare.table.clear();
    bare.seeds.clear();
    bare.times.clear();
    bare.metrics.clear();
    vec![
        ("full", sample(&|_| {})),
        ("small", Sample::small().summary()),
        ("free-text", Sample::free_text()),
        ("one-token", sample(&|sample| sample.tokens = 1)),
        ("long", sample(&|sample| (sample.tokens, sample.seeds) = (512, 5))),
        ("choose-only", sample(&|sample| sample.splits = vec!["choose"])),
        ("no-continuation", stages),
        ("all-right", with_every_metric(1.0)),
        ("all-wrong", with_every_metric(0.0)),
        ("hostile", hostile()),
        ("bare", bare),
    ]
}

/// Every metric of every arm, trial and curve is the same number.
fn with_every_metric(value: f64) -> Summary {
    let mut summary = Sample::default().summary();
    for arm in &mut summary.table {
        for split in &mut arm.splits {
            for over in &mut split.values {
                (over.mean, over.low, over.high, over.deviation) = (value, value, value, Some(0.0));
            }
            let zero = Estimate { value: 0.0, low: 0.0, high: 0.0 };
            split.over_tuned = split.over_tuned.map(|_| zero);
            split.over_continued = split.over_continued.map(|_| zero);
        }
    }
    for seed in &mut summary.seeds {
        let curves = seed.arms.iter_mut().filter_map(|arm| arm.training.as_mut());
        for training in curves.chain(seed.trials.iter_mut().map(|trial| &mut trial.training)) {
            training.curve.iter_mut().for_each(|point| point.metric = value);
        }
        for estimate in
            seed.arms.iter_mut().flat_map(|arm| &mut arm.metrics).flat_map(|split| &mut split.values)
        {
            *estimate = Estimate { value, low: value, high: value };
        }
        for trial in &mut seed.trials {
            (trial.choose, trial.choose_pruned, trial.report) = (value, value, Some(value));
        }
        for masking in &mut seed.masking {
            (masking.lowest, masking.highest) = (value, value);
            masking.random.fill(value);
        }
    }
    summary
}

/// Text that is markup wherever there is text, and tensors that do not fit each other.
fn hostile() -> Summary {
    let mut summary = Sample::default().summary();
    for text in [
        &mut summary.producer,
        &mut summary.command,
        &mut summary.name,
        &mut summary.task.template,
        &mut summary.base_model.name,
        &mut summary.tokenizer.fingerprint,
        &mut summary.device,
        &mut summary.metrics[0],
        &mut summary.data[0].split,
        &mut summary.times[0].part,
    ] {
        *text = SCRIPT.into();
    }
    summary.table[7].name = SCRIPT.into();
    summary.table[8].splits[0].split = SCRIPT.into();
    if let xprompt::prompt::OutputSpec::Labels { labels } = &mut summary.task.output {
        labels[0].name = SCRIPT.into();
        labels[0].words = SCRIPT.into();
    }
    summary.settings = json!({ SCRIPT: { "a": SCRIPT } });
    for seed in &mut summary.seeds {
        seed.arms[7].name = SCRIPT.into();
        seed.origin = SCRIPT.into();
        seed.masking[0].split = SCRIPT.into();
        seed.trials[0].level = SCRIPT.into();
        seed.token_mask.pop();
        seed.piece_importance.truncate(3);
    }
    summary.seeds[1].piece_mask.pop();
    summary.seeds[2].token_importance.fill(f32::INFINITY);
    summary.seeds[3].token_importance.fill(-1.0);
    summary.seeds[4].arms[1].training.as_mut().unwrap().curve[3].metric = 1e308;
    summary.seeds[4].arms[5].training.as_mut().unwrap().best_step = usize::MAX;
    summary.seconds = 0.0;
    summary
}

fn page(summary: &Summary) -> Html {
    Html::parse_document(&report::html(summary))
}

pub(crate) fn all<'a>(page: &'a Html, css: &str) -> Vec<ElementRef<'a>> {
    page.select(&Selector::parse(css).unwrap()).collect()
}

pub(crate) fn text(element: ElementRef<'_>) -> String {
    plain_spaces(&element.text().collect::<String>())
}

fn plain_spaces(text: &str) -> String {
    text.replace(['\u{a0}', '\u{202f}'], " ")
}

pub(crate) fn text_of(page: &Html, css: &str) -> String {
    all(page, css).into_iter().map(text).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_report_is_well_formed_and_complete_in_itself() {
    // the pages stay there to be looked at
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, summary) in samples() {
        let html = report::html(&summary);
        std::fs::write(folder.join(format!("{name}.html")), &html).unwrap();
        let page = Html::parse_document(&html);
        assert!(page.errors.is_empty(), "{name}: {:?}", page.errors);
        let broken = html.replacen("</dl>", "", 1);
        assert!(!Html::parse_document(&broken).errors.is_empty(), "the parser sees what is not closed");
        for bad in ["NaN", "Infinity", "inf\"", "url(", "@import", "javascript:"] {
            assert!(!html.contains(bad), "{name} holds {bad}");
        }
        assert!(
            all(&page, "script, link, img, iframe, object, [src], [onclick], [onload]").is_empty(),
            "{name}"
        );
        let hrefs: Vec<_> = all(&page, "[href]").iter().filter_map(|link| link.attr("href")).collect();
        let ids: Vec<_> = all(&page, "[id]").iter().filter_map(|part| part.attr("id")).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "{name}: an id stands for one part");
        for href in hrefs {
            assert!(ids.contains(&href.trim_start_matches('#')), "{name}: {href} leads nowhere");
        }
    }
}

#[test]
fn every_chart_has_a_heading_a_name_and_its_numbers() {
    for (name, summary) in samples() {
        let page = page(&summary);
        for figure in all(&page, "figure") {
            let has = |css: &str| figure.select(&Selector::parse(css).unwrap()).next();
            let title = text(has("h3").unwrap());
            let chart = has("svg.chart[role=img]").unwrap();
            assert_eq!(plain_spaces(chart.attr("aria-label").unwrap()), title, "{name}");
            assert!(has("details tbody td").is_some(), "{name}: {title} has no numbers");
        }
    }
}

#[test]
fn nothing_is_drawn_outside_of_its_chart() {
    for (name, summary) in samples() {
        for chart in all(&page(&summary), "svg.chart") {
            let size: Vec<f64> =
                chart.attr("viewBox").unwrap().split(' ').map(|part| part.parse().unwrap()).collect();
            let title = chart.attr("aria-label").unwrap();
            for (css, along, end) in [
                ("circle", "cx", size[2]),
                ("circle", "cy", size[3]),
                ("text", "x", size[2]),
                ("text", "y", size[3]),
            ] {
                for mark in chart.select(&Selector::parse(css).unwrap()) {
                    let at: f64 = mark.attr(along).unwrap().parse().unwrap();
                    assert!((0.0..=end).contains(&at), "{name}: {title}: {css} at {along} {at} of {end}");
                }
            }
        }
    }
}

#[test]
fn sections_are_there_if_their_numbers_are() {
    let sections = |summary: &Summary| -> Vec<String> {
        let page = page(summary);
        let ids: Vec<String> =
            all(&page, "section").iter().filter_map(|section| Some(section.attr("id")?.to_owned())).collect();
        let links = all(&page, "nav a");
        assert_eq!(links.len(), ids.len());
        ids
    };
    let full = Sample::default().summary();
    assert_eq!(sections(&full), SECTIONS);
    type Change = fn(&mut Summary);
    let without: [(&str, Change); 6] = [
        ("controls", |summary| {
            let stages = ["initial", "tuned", "token_pruned", "piece_pruned", "token_only", "xprompt"];
            summary.table.retain(|arm| stages.contains(&arm.name.as_str()));
        }),
        ("training", |summary| {
            summary.seeds.iter_mut().flat_map(|seed| &mut seed.arms).for_each(|arm| arm.training = None);
        }),
        ("ratios", |summary| summary.seeds.iter_mut().for_each(|seed| seed.trials.clear())),
        ("anatomy", |summary| summary.seeds.iter_mut().for_each(|seed| seed.token_importance.clear())),
        ("masking", |summary| summary.seeds.iter_mut().for_each(|seed| seed.masking.clear())),
        ("times", |summary| summary.times.clear()),
    ];
    for (section, change) in without {
        let mut summary = full.clone();
        change(&mut summary);
        let left: Vec<&str> = SECTIONS.into_iter().filter(|name| *name != section).collect();
        assert_eq!(sections(&summary), left);
    }
}

#[test]
fn text_from_data_is_shown_and_never_markup() {
    let summary = hostile();
    let page = page(&summary);
    assert_eq!(text_of(&page, "h1"), SCRIPT);
    assert!(text_of(&page, "title").starts_with(SCRIPT));
    assert!(text_of(&page, "#again pre").contains(SCRIPT));
    assert!(text_of(&page, "#stages").contains("Prompt tuning"));
    assert!(text_of(&page, "#controls table.arms").contains(SCRIPT), "an unknown arm keeps its name");
    assert!(text_of(&page, "#times th").contains(SCRIPT));
    assert!(text_of(&page, "#ratios h3").contains(SCRIPT), "an unknown level keeps its name");
}

#[test]
fn the_same_summary_gives_the_same_bytes() {
    for (name, summary) in samples() {
        let html = report::html(&summary);
        assert_eq!(html, report::html(&summary.clone()), "{name}");
        // infinite scores have no JSON
        if name != "hostile" {
            let read: Summary = serde_json::from_str(&serde_json::to_string(&summary).unwrap()).unwrap();
            assert_eq!(html, report::html(&read), "{name}");
        }
    }
}

#[test]
fn five_seeds_and_twenty_arms_stay_below_a_megabyte() {
    let mut sample = Sample { evaluations: 600, ..Sample::default() };
    sample.arms.extend(["one", "two", "three", "four"]);
    let size = report::html(&sample.summary()).len();
    assert!(size < 1_000_000, "{size} bytes");
}

#[test]
fn the_stage_table_says_what_the_summary_says() {
    let summary = Sample::default().summary();
    let page = page(&summary);
    let rows: Vec<String> = all(&page, "#stages table.arms tbody th .arm").into_iter().map(text).collect();
    let stages = [
        "Untrained prompt",
        "Prompt tuning",
        "Tokens pruned",
        "Pieces pruned",
        "Token level only",
        "XPrompt",
    ];
    assert_eq!(rows[..6], stages);
    assert_eq!(rows[6..], ["Tuned on, no mask"], "the continuation stands beside the result");
    let xprompt = &summary.table[5];
    let test = &xprompt.splits[2];
    let minus = |text: String| text.replace('-', "−");
    let cells: Vec<String> = all(&page, "#stages tr.xprompt td").into_iter().map(text).collect();
    let over = test.values[0];
    assert_eq!(
        cells[2],
        format!(
            "{:.1} ± {:.1}{:.1} to {:.1}",
            100.0 * over.mean,
            100.0 * over.deviation.unwrap(),
            100.0 * over.low,
            100.0 * over.high
        )
    );
    let over = test.over_continued.unwrap();
    assert_eq!(
        cells[4],
        minus(format!("{:+.1}{:+.1} to {:+.1}", 100.0 * over.value, 100.0 * over.low, 100.0 * over.high))
    );
    assert_eq!(cells[5..], ["8", "1024", "4000"]);
}

#[test]
fn one_seed_has_intervals_and_many_have_a_deviation_and_a_dot_each() {
    let (one, five) = (page(&Sample::small().summary()), page(&Sample::default().summary()));
    assert!(!text_of(&one, "#stages td").contains('±') && text_of(&one, "#stages td").contains(" to "));
    assert!(text_of(&five, "#stages td").contains('±'));
    assert_eq!(all(&one, "#controls .speck").len(), 0);
    assert_eq!(all(&five, "#controls .speck.xprompt").len(), 5);
    assert_eq!(all(&five, "#anatomy figure").len(), 6, "a chart a seed, and the importance by rank");
}

#[test]
fn settings_and_fingerprints_are_all_there() {
    let summary = Sample::default().summary();
    let page = page(&summary);
    let again = text_of(&page, "#again");
    let facts =
        [&summary.base_model.fingerprint, &summary.tokenizer.fingerprint, &summary.device, &summary.producer];
    for fact in facts.into_iter().chain(summary.data.iter().map(|source| &source.fingerprint)) {
        assert!(again.contains(fact.as_str()), "{fact}");
    }
    assert_eq!(text_of(&page, "#again pre.command"), summary.command);
    let toml = all(&page, "#again pre").last().map(|pre| text(*pre)).unwrap();
    let read: serde_json::Value = toml::from_str(&toml).unwrap();
    let mut settings = summary.settings.clone();
    settings["data"].as_object_mut().unwrap().remove("rows").unwrap();
    assert_eq!(read, settings, "the settings are TOML, without what is not set");
}

#[test]
fn initial_values_are_told_once_or_seed_by_seed() {
    let mut summary = Sample { seeds: 2, ..Sample::default() }.summary();
    let told = |summary: &Summary| {
        let facts: Vec<String> = all(&page(summary), "#again dl div").into_iter().map(text).collect();
        facts.into_iter().find(|fact| fact.starts_with("Initial values")).unwrap()
    };
    assert_eq!(told(&summary), "Initial values20 rows of sampled vocabulary");
    summary.seeds[1].origin = "12 rows of other.safetensors".into();
    assert_eq!(
        told(&summary),
        "Initial values20 rows of sampled vocabulary (seed 42), 12 rows of other.safetensors (seed 43)"
    );
}

#[test]
fn masking_names_the_part_that_it_was_measured_on() {
    let mut summary = Sample::default().summary();
    assert!(text_of(&page(&summary), "#masking .note").contains("measured on test:"));
    summary.seeds.iter_mut().flat_map(|seed| &mut seed.masking).for_each(|m| m.split = "report".into());
    let page = page(&summary);
    assert!(text_of(&page, "#masking .note").contains("measured on the part of dev held back:"));
    assert!(text_of(&page, "#masking h3").starts_with("Accuracy on the part of dev held back against"));
}

#[test]
fn bytes_are_those_of_the_table() {
    let mut summary = Sample::default().summary();
    summary.table[5].bytes = 1234.0;
    assert!(text_of(&page(&summary), "#size tr.xprompt").contains("1.2 kB"));
}
