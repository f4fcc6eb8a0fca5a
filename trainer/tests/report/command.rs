//! The command line of the report.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;
use xprompt_trainer::report;

use crate::sample::{Sample, set_differences};

fn trainer(args: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xprompt-trainer")).arg("report").args(args).output().unwrap()
}

#[test]
fn the_command_writes_the_page_beside_the_run_or_where_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (run, file) = (folder.path().join("run"), folder.path().join("other.summary.json"));
    std::fs::create_dir(&run).unwrap();
    let summary = Sample::small().summary();
    let json = serde_json::to_string(&summary).unwrap();
    std::fs::write(run.join("summary.json"), &json).unwrap();
    std::fs::write(&file, &json).unwrap();
    let elsewhere = folder.path().join("new/page.html");
    let ways: [(&[&Path], &Path); 3] = [
        (&[&run], &run.join("report.html")),
        (&[&file], &folder.path().join("other.summary.html")),
        (&[&run, Path::new("--out"), &elsewhere], &elsewhere),
    ];
    for (args, written) in ways {
        let output = trainer(args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains(&written.display().to_string()), "{output:?}");
        assert!(said.starts_with("Against plain prompt tuning, XPrompt "), "{said}");
        assert_eq!(std::fs::read_to_string(written).unwrap(), report::html(&summary));
    }
}

#[test]
fn a_folder_of_runs_gets_a_page_each_and_an_overview_that_links_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("several");
    let mut summary = Sample::small().summary();
    set_differences(&mut summary, Some((0.01, 0.02)), Some((0.01, 0.02)));
    for name in ["b", "a 1"] {
        std::fs::create_dir_all(out.join(name)).unwrap();
        std::fs::write(out.join(name).join("summary.json"), serde_json::to_string(&summary).unwrap())
            .unwrap();
    }
    std::fs::create_dir(out.join("checkpoints")).unwrap();
    let elsewhere = folder.path().join("pages/all.html");
    let ways: [(&[&Path], &Path, [&str; 2]); 2] = [
        (&[&out], &out.join("report.html"), ["a%201/report.html", "b/report.html"]),
        (
            &[&out, Path::new("--out"), &elsewhere],
            &elsewhere,
            ["../several/a%201/report.html", "../several/b/report.html"],
        ),
    ];
    for (args, written, links) in ways {
        let output = trainer(args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        assert!(
            said.contains("Against plain prompt tuning, XPrompt is better on 2 of 2 tasks (a 1, b)"),
            "{said}"
        );
        assert!(
            said.trim_end().lines().last().unwrap().starts_with(&written.display().to_string()),
            "{said}"
        );
        let overview = std::fs::read_to_string(written).unwrap();
        for link in links {
            assert!(overview.contains(&format!("href=\"{link}\"")), "{link}");
        }
        for name in ["a 1", "b"] {
            let page = out.join(name).join("report.html");
            assert_eq!(std::fs::read_to_string(&page).unwrap(), report::html(&summary));
            std::fs::remove_file(page).unwrap();
        }
    }
}

#[test]
fn nothing_is_written_if_one_of_several_summaries_is_foreign() {
    let out = tempfile::tempdir().unwrap();
    let json = serde_json::to_string(&Sample::small().summary()).unwrap();
    for (name, content) in [("a", json.as_str()), ("b", "nonsense")] {
        std::fs::create_dir(out.path().join(name)).unwrap();
        std::fs::write(out.path().join(name).join("summary.json"), content).unwrap();
    }
    let output = trainer(&[out.path()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("b/summary.json is not a summary"), "{said}");
    assert!(!out.path().join("report.html").exists() && !out.path().join("a/report.html").exists());
}

#[test]
fn a_missing_or_foreign_summary_is_told_with_a_remedy_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("summary.json");
    let mut newer = serde_json::to_value(Sample::small().summary()).unwrap();
    newer["format"] = json!(3);
    let mut partial = serde_json::to_value(Sample::small().summary()).unwrap();
    partial.as_object_mut().unwrap().remove("seeds").unwrap();
    let cases = [
        (None, "summary.json is missing: a run writes it when it ends"),
        (Some("nonsense".to_owned()), "is not a summary of xprompt-trainer: expected"),
        (
            Some("{\"seed\": 42}".to_owned()),
            "it names no format (was it written by another program, or an older version?); name a run's folder or its summary.json",
        ),
        (Some(newer.to_string()), "has format 3, this program reads format 2"),
        (Some(partial.to_string()), "missing field `seeds`"),
    ];
    for (content, want) in cases {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let output = trainer(&[folder.path()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(want) && said.contains("summary.json"), "{said}");
        assert!(!folder.path().join("report.html").exists());
    }
}
