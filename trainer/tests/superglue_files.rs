//! SuperGLUE's files through the task file, the reader and the command line.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use support::{embeddings, model, prompt_file, root, setup, text, tokenizer, trainer};
use xprompt::prompt::{Prompt, TaskSpec};
use xprompt::t5::Config;
use xprompt_trainer::check::{Problem, check};
use xprompt_trainer::data::Sets;
use xprompt_trainer::example::{Example, Target};
use xprompt_trainer::superglue::SuperGlue;
use xprompt_trainer::task_file::TaskFile;

fn fixture(name: &str) -> PathBuf {
    root().join(format!("tests/fixtures/superglue/{name}.jsonl"))
}

/// The sets of a task whose files hold these rows.
fn sets(task: &str, train: &str, dev: &str) -> Result<Sets, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("train.jsonl"), train).unwrap();
    std::fs::write(path("val.jsonl"), dev).unwrap();
    let settings = format!("[data]\nsuperglue = '{task}'\ntrain = 'train.jsonl'\ndev = 'val.jsonl'\n");
    std::fs::write(path("task.toml"), settings).unwrap();
    let file = TaskFile::read(&path("task.toml")).unwrap();
    Sets::read(&file.data, &file.spec(), &tokenizer(), 1).map_err(|error| error.to_string())
}

/// The first rows of a task's file, which are labelled.
fn labelled(name: &str, rows: usize) -> String {
    let content = std::fs::read_to_string(fixture(name)).unwrap();
    content.lines().take(rows).map(|line| format!("{line}\n")).collect()
}

fn targets(examples: &[Example]) -> Vec<&str> {
    examples
        .iter()
        .map(|example| match &example.target {
            Target::Text { text, .. } => text.as_str(),
            Target::Label(_) => panic!("the task answers with texts"),
        })
        .collect()
}

#[test]
fn answers_to_a_question_belong_together() {
    let rows = labelled("multirc", 2);
    let sets = sets("multirc", &rows, &rows).unwrap();
    let groups: Vec<Option<usize>> = sets.dev.examples.iter().map(|example| example.group).collect();
    assert_eq!(groups, [0, 0, 0, 1, 1, 2, 2, 2].map(Some));
    assert_eq!(sets.train.label_counts(2), [4, 4]);
    let source = tokenizer().source(
        "multirc question: What did the mill grind? answer: Wheat paragraph: The mill by the river ground rye \
         until 1950. Then it stood empty for thirty years.",
    );
    assert_eq!(sets.dev.examples[6].source, source.unwrap());
}

#[test]
fn a_query_is_tuned_on_with_every_answer_and_measured_once() {
    let rows = labelled("record", 1);
    let sets = sets("record", &rows, &rows).unwrap();
    assert_eq!(targets(&sets.train.examples), ["Inês Prado", "Prado", "Vela"]);
    assert_eq!(targets(&sets.dev.examples), ["Inês Prado", "Vela"]);
    assert_eq!(sets.dev.examples[0].accepted, ["Inês Prado", "Prado"]);
    assert_eq!(sets.train.examples[0].group, sets.train.examples[1].group);
}

#[test]
fn wrong_candidates_are_measured_but_not_tuned_on() {
    let rows = labelled("wsc", 3);
    let sets = sets("wsc", &rows, &rows).unwrap();
    assert_eq!(targets(&sets.train.examples), ["Petra", "the postman"]);
    assert_eq!(targets(&sets.dev.examples), ["Petra", "Olga", "the postman"]);
}

#[test]
fn what_is_wrong_with_a_row_is_said_with_its_line() {
    let rows = labelled("cb", 5);
    let wrong = |train: &str| sets("cb", train, &rows).unwrap_err();
    let unlabelled = wrong(&labelled("cb", 6));
    assert!(
        unlabelled.contains("train.jsonl:6: label is missing; the task's labels are entail"),
        "{unlabelled}"
    );
    let renamed = wrong(&rows.replace("\"premise\": \"Mona", "\"text\": \"Mona"));
    assert!(renamed.contains("train.jsonl:2: field \"premise\" is missing"), "{renamed}");
}

#[test]
fn several_right_answers_to_a_query_are_no_contradiction() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("task.toml");
    std::fs::write(folder.path().join("train.jsonl"), labelled("record", 1)).unwrap();
    std::fs::write(folder.path().join("val.jsonl"), labelled("wsc", 2)).unwrap();
    for (task, file) in [("record", "train.jsonl"), ("wsc", "val.jsonl")] {
        let settings = format!("[data]\nsuperglue = '{task}'\ntrain = '{file}'\ndev = '{file}'\n");
        std::fs::write(&path, settings).unwrap();
        let config = Config::read(&model()).unwrap();
        let report = check(&path, &tokenizer(), &config);
        let contradiction = |problem: &Problem| problem.message.contains("another answer");
        assert!(!report.splits.is_empty() && !report.problems.iter().any(contradiction), "{task}");
    }
}

// --- the command line ---

fn eval(args: &[&str]) -> Output {
    trainer().arg("eval").args(args).output().unwrap()
}

/// Writes a prompt of sampled embeddings for a task.
fn prompt(task: SuperGlue, path: &Path) {
    let setup = setup();
    let prompt = Prompt::dense(setup.base.d_model, 16, embeddings(&setup, 100..104));
    let preset = task.preset();
    let task = TaskSpec {
        template: preset.template.into(),
        output: preset.output,
        max_input_tokens: 128,
        keep: Vec::new(),
        content_free: Vec::new(),
    };
    prompt_file(&setup.base, task, prompt).write(path).unwrap();
}

#[test]
fn eval_measures_a_benchmark_as_its_preset_says() {
    let folder = tempfile::tempdir().unwrap();
    let (path, data) = (folder.path().join("prompt.safetensors"), folder.path().join("val.jsonl"));
    prompt(SuperGlue::MultiRc, &path);
    std::fs::write(&data, labelled("multirc", 2)).unwrap();
    let (path, data) = (path.to_str().unwrap(), data.to_str().unwrap());
    let output = eval(&[path, "--data", data, "--superglue", "multirc", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["rows"], 8);
    let metrics: Vec<&String> = report["metrics"].as_object().unwrap().keys().collect();
    assert_eq!(metrics, ["f1a", "group_exact_match"]);
}

#[test]
fn eval_writes_a_submission_for_rows_without_labels() {
    let folder = tempfile::tempdir().unwrap();
    for (task, name, rows, predictions) in
        [(SuperGlue::Cb, "cb", 6, 6), (SuperGlue::MultiRc, "multirc", 3, 10), (SuperGlue::Wsc, "wsc", 9, 9)]
    {
        let (path, out) = (folder.path().join("prompt.safetensors"), folder.path().join("out.jsonl"));
        prompt(task, &path);
        let data = fixture(name);
        let args = [path.to_str().unwrap(), "--data", data.to_str().unwrap(), "--superglue", name];
        let output = eval(&[&args[..], &["--submission", out.to_str().unwrap()]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains(&format!("{predictions} predictions in {rows} lines")));
        let lines = std::fs::read_to_string(&out).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let original: Vec<Value> = std::fs::read_to_string(&data)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["idx"].clone())
            .collect();
        assert_eq!(lines.iter().map(|line| line["idx"].clone()).collect::<Vec<_>>(), original);
        if name == "wsc" {
            assert!(
                lines.iter().all(|line| line["label"] == json!("True") || line["label"] == json!("False"))
            );
        }
    }
    let wrong = eval(&["prompt", "--data", "rows", "--superglue", "glue"]);
    assert!(text(&wrong.stderr).contains("`boolq`, `cb`, `copa`"), "{}", text(&wrong.stderr));
}
