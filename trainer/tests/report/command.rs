//! The command line of the report.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;
use xprompt_trainer::report;

use crate::sample::Sample;

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
