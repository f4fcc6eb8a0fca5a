//! The overview of several tasks.

use std::collections::HashSet;
use std::path::Path;

use scraper::Html;
use xprompt_trainer::report::{self, Task};
use xprompt_trainer::summary::{End, Summary};

use crate::page::{all, text, text_of};
use crate::sample::{Sample, set_differences, set_over_random};

const ABOVE: (f64, f64) = (0.012, 0.05);
const BELOW: (f64, f64) = (-0.05, -0.012);
const AROUND: (f64, f64) = (-0.02, 0.04);

type Ends = (f64, f64);

fn task(name: &str, summary: Summary) -> Task {
    Task { name: name.into(), link: format!("{name}/report.html"), summary }
}

fn with(name: &str, over_tuned: Ends, over_continued: Ends, over_random: Ends) -> Task {
    let mut summary = Sample::default().summary();
    set_differences(&mut summary, Some(over_tuned), Some(over_continued));
    set_over_random(&mut summary, over_random);
    task(name, summary)
}

/// Tasks of every outcome; the last has one seed, no random mask, and a first stage that had not converged.
fn several() -> Vec<Task> {
    let unfinished = Sample { end: End::StepLimit, ..Sample::small() };
    let mut last = unfinished.summary();
    set_differences(&mut last, Some(ABOVE), Some(BELOW));
    vec![
        with("questions", ABOVE, ABOVE, ABOVE),
        with("films", ABOVE, AROUND, AROUND),
        with("tweets", AROUND, ABOVE, AROUND),
        with("topics", BELOW, AROUND, BELOW),
        task("news", last),
    ]
}

fn page(tasks: &[Task]) -> Html {
    Html::parse_document(&report::overview("experiments", tasks))
}

#[test]
fn every_overview_is_well_formed_and_links_to_every_report() {
    // the pages stay there to be looked at
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    std::fs::create_dir_all(&folder).unwrap();
    let mut bare = Sample::small().summary();
    (bare.table, bare.seeds, bare.metrics) = (Vec::new(), Vec::new(), Vec::new());
    let markup = "<b>\"x\"</b>";
    let many = (0..30).map(|i| with(&format!("a-task-with-a-long-name-{i}"), AROUND, ABOVE, BELOW)).collect();
    let cases: [(&str, Vec<Task>); 6] = [
        ("several", several()),
        ("one", several().split_off(4)),
        ("many", many),
        ("bare", vec![task("bare", bare)]),
        ("hostile", vec![with(markup, ABOVE, BELOW, BELOW)]),
        ("none", Vec::new()),
    ];
    for (name, tasks) in cases {
        let html = report::overview("experiments", &tasks);
        assert_eq!(html, report::overview("experiments", &tasks), "{name}: the same bytes");
        std::fs::write(folder.join(format!("overview-{name}.html")), &html).unwrap();
        let page = Html::parse_document(&html);
        assert!(page.errors.is_empty(), "{name}: {:?}", page.errors);
        assert!(!html.contains("NaN") && all(&page, "script, link, img, iframe, [src]").is_empty(), "{name}");
        let links: Vec<_> =
            all(&page, "#tasks tbody a").iter().filter_map(|link| link.attr("href")).collect();
        assert_eq!(links, tasks.iter().map(|task| task.link.as_str()).collect::<Vec<_>>(), "{name}");
        let ids: HashSet<_> = all(&page, "[id]").iter().filter_map(|part| part.attr("id")).collect();
        for anchor in all(&page, "nav a").iter().filter_map(|link| link.attr("href")) {
            assert!(ids.contains(anchor.trim_start_matches('#')), "{name}: {anchor} leads nowhere");
        }
        for figure in all(&page, "figure") {
            assert!(figure.html().contains("<tbody><tr>"), "{name}: a chart has its numbers");
        }
    }
}

#[test]
fn a_row_says_what_the_tasks_own_report_says() {
    let tasks = several();
    let page = page(&tasks);
    let rows = all(&page, "#tasks tbody tr");
    assert_eq!(rows.len(), tasks.len());
    for (row, task) in rows.into_iter().zip(&tasks) {
        let row = text(row);
        let arm = |name: &str| task.summary.table.iter().find(|arm| arm.name == name).unwrap();
        for name in ["tuned", "continued", "xprompt"] {
            let value = arm(name).splits.last().unwrap().values[0];
            assert!(row.contains(&format!("{:.1} to {:.1}", 100.0 * value.low, 100.0 * value.high)), "{row}");
        }
        let xprompt = arm("xprompt").splits.last().unwrap();
        for difference in
            [xprompt.over_tuned, xprompt.over_continued, xprompt.over_random].into_iter().flatten()
        {
            let (low, high) = (100.0 * difference.low, 100.0 * difference.high);
            assert!(row.contains(&format!("{low:+.1} to {high:+.1}").replace('-', "−")), "{row}");
        }
        assert!(row.contains("8 of 20") && row.contains("64 of 320") && row.contains("on test"), "{row}");
    }
    let words: Vec<String> = all(&page, "#tasks td.name").into_iter().map(text).collect();
    assert_eq!(
        words,
        ["helps", "no more than training on", "no difference shown", "harms", "worse than training on"]
    );
}

#[test]
fn tasks_are_counted_and_named_by_outcome() {
    let said = report::overview_verdict(&several());
    assert_eq!(
        said[..2],
        [
            "Against plain prompt tuning, XPrompt is better on 3 of 5 tasks (questions, films, news) and worse on 1 \
             (topics); on 1 these data show no difference.",
            "Against tuning on for the same steps without a mask, XPrompt is better on 2 of 5 tasks (questions, tweets) \
             and worse on 1 (news); on 2 these data show no difference.",
        ]
    );
    let said = said.join("\n");
    assert!(
        said.contains(
            "Against a random mask of the same size, XPrompt is better on 1 of 4 tasks (questions) and worse on 1 (topics)"
        ),
        "a task without a random mask is not counted: {said}"
    );
    let nine: Vec<Task> = (0..9).map(|i| with(&format!("t{i}"), ABOVE, AROUND, AROUND)).collect();
    assert_eq!(
        report::overview_verdict(&nine)[0],
        "Against plain prompt tuning, XPrompt is better on 9 of 9 tasks and worse on none."
    );
    let page = page(&several());
    let charts: Vec<String> = all(&page, "#differences h3").into_iter().map(text).collect();
    assert_eq!(
        charts,
        ["XPrompt less prompt tuning", "XPrompt less tuning on, no mask", "XPrompt less a random mask"]
    );
    let rows = |css: &str| all(&page, &format!("#differences figure:nth-child(1) {css}")).len();
    assert_eq!((rows("text.name"), rows("circle.xprompt"), rows("circle.other")), (5, 4, 1));
}

#[test]
fn cautions_name_the_tasks_that_they_are_about() {
    let said = report::overview_verdict(&several()).join("\n");
    assert!(
        said.contains("\nStage one not converged: news.") && said.contains("\nOne seed: news."),
        "{said}"
    );
    let two = [several().remove(4), task("other", several().remove(4).summary)];
    assert!(report::overview_verdict(&two).join("\n").contains("\nOne seed: every task."));
    let clean = report::overview_verdict(&several()[..4]).join("\n");
    assert!(!clean.contains("converged") && !clean.contains("seed:"), "{clean}");
}

#[test]
fn a_command_that_ran_several_tasks_is_shown_once() {
    let mut tasks = several();
    let commands = |tasks: &[Task]| all(&page(tasks), "#again pre.command").len();
    assert_eq!(commands(&tasks), 1);
    tasks[2].summary.command = "xprompt-trainer run other.toml --out OTHER".into();
    assert_eq!(commands(&tasks), 2);
    assert!(text_of(&page(&tasks), "#again").contains("run other.toml"));
}
