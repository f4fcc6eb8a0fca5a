//! `xprompt-trainer check`: every problem with its place, what the model reads, and the exit status.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

mod support;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::model;

const LABELS: &str =
    "labels = [{ name = 'good', words = 'positive' }, { name = 'poor', words = 'negative' }]";

/// A folder of a task and its files, and a model's configuration and tokenizer without weights.
fn folder(data: &str, task: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("task.toml", &format!("[data]\n{data}\n[task]\n{task}\n"));
    files.iter().for_each(|(name, text)| write(name, text));
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(model().join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn check(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xprompt-trainer"))
        .args(["check", "task.toml", "--model", "."])
        .args(args)
        .current_dir(folder)
        .env("ORT_DYLIB_PATH", "there is none")
        .output()
        .unwrap()
}

/// The report as JSON, and the exit status.
fn report(folder: &Path) -> (Value, i32) {
    let output = check(folder, &["--json"]);
    let report = serde_json::from_slice(&output.stdout);
    (report.unwrap_or_else(|_| panic!("{output:?}")), output.status.code().unwrap())
}

/// The problems as the terminal shows them, without the breaks of lines.
fn problems(folder: &Path) -> (String, i32) {
    let output = check(folder, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let problems = text.split("Problems\n").nth(1).unwrap_or(&text);
    (problems.split_whitespace().collect::<Vec<_>>().join(" "), output.status.code().unwrap())
}

fn rows(rows: &[(&str, &str)]) -> String {
    rows.iter().map(|(text, label)| json!({"text": text, "label": label}).to_string() + "\n").collect()
}

const TRAIN: [(&str, &str); 4] =
    [("a fine film", "good"), ("a dull film", "poor"), ("a lovely book", "good"), ("an awful book", "poor")];

#[test]
fn every_error_is_said_at_once_with_file_line_field_and_remedy() {
    let train = "text,label\nfine,good\ndull\nodd,odd\nodd,odd\n\"open,good\n";
    let dev = "{\"body\": \"x\"}\n{\"text\": [1], \"label\": \"good\"}\n{\"text\": \"x\", \"label\n";
    let files = [("train.csv", train), ("dev.jsonl", dev), ("test.tsv", "title\tlabel\nx\tgood\n")];
    let task =
        "template = '{text}'\nlabels = [{ name = 'good', words = 'yes' }, { name = 'poor', words = 'yes' }]";
    let folder =
        folder("train = 'train.csv'\ndev = 'dev.jsonl'\ntest = ['test.tsv', 'no.csv']", task, &files);
    let (text, status) = problems(folder.path());
    for words in [
        "error task.toml: labels \"good\" and \"poor\" have words of the same tokens; give one of them other words",
        "error train.csv:3: the row has 1 values, the header has 2 columns; put a value that holds",
        "error train.csv:4: label is \"odd\"; the task's labels are good, poor (2 rows; next lines: 5)",
        "error train.csv:6: a quote is opened that is never closed; double a quote that is text",
        "error dev.jsonl:1: the input has no field \"text\"; the template needs text",
        "error dev.jsonl:1: label is missing; the task's labels are good, poor",
        "error dev.jsonl:2: field \"text\" is a list, not text, a number or a truth value",
        "error dev.jsonl:3: EOF while parsing a string at column 20; each line is one JSON object",
        "error test.tsv: there is no column \"text\"; the columns are \"title\", \"label\" (the first line;",
        "error no.csv: No such file or directory",
        "task.toml: 10 errors, 1 warning; it cannot be trained on",
    ] {
        assert!(text.contains(words), "{text}\nsays {words}");
    }
    assert_eq!(status, 1);
    let (report, status) = report(folder.path());
    assert_eq!((report["errors"].as_u64(), status), (Some(10), 1));
    let missing = json!({"severity": "error", "file": "dev.jsonl", "lines": [1], "rows": 1, "field": "text",
        "message": "the input has no field \"text\"; the template needs text"});
    assert!(report["problems"].as_array().unwrap().contains(&missing), "{report:#}");
}

#[test]
fn what_is_lost_is_a_warning_and_the_status_stays_0() {
    let long = "word ".repeat(40);
    let train = rows(&[
        ("a fine film", "good"),
        ("a fine film", "good"),
        ("a fine film", "poor"),
        (" ", "good"),
        (&long, "good"),
        ("漢字 and ☃", "good"),
    ]);
    let dev = rows(&[("a fine film", "good"), ("new", "good")]);
    let labels = LABELS.replace(']', ", { name = 'mixed', words = 'both' }]");
    let task = format!("template = 'review: {{text}}'\nmax_input_tokens = 24\n{labels}");
    let files = [("train.jsonl", &*train), ("dev.jsonl", &dev), ("test.tsv", "text\tlabel\n\"x\"\tgood\n")];
    let folder = folder("train = 'train.jsonl'\ndev = 'dev.jsonl'\ntest = 'test.tsv'", &task, &files);
    let (text, status) = problems(folder.path());
    for words in [
        "warning train.jsonl:2: the row repeats an earlier one; leave it out",
        "warning train.jsonl:3: an earlier row has the same input and another answer; correct one of them",
        "warning train.jsonl:4: the field \"text\" is empty",
        "warning train.jsonl:5: the text is longer than task.max_input_tokens (24): its end is lost; raise the limit",
        "warning train.jsonl:6: characters that the tokenizer does not know ('☃', '字', '漢');",
        "warning train.jsonl: no row of train has the label mixed; it cannot be learnt",
        "warning dev.jsonl:1: the input also occurs in train",
        "warning test.tsv:2: the value of \"text\" is in quotes, which are part of the text in TSV; leave them out",
        "task.toml: 0 errors, 8 warnings; it can be trained on",
    ] {
        assert!(text.contains(words), "{text}\nsays {words}");
    }
    assert_eq!(status, 0);
}

#[test]
fn a_template_that_leaves_no_room_is_an_error() {
    let task =
        format!("template = 'a template of very many words: {{text}}'\nmax_input_tokens = 6\n{LABELS}");
    let train = rows(&TRAIN);
    let folder = folder("train = 'train.jsonl'", &task, &[("train.jsonl", &train)]);
    let (text, status) = problems(folder.path());
    assert!(text.contains("error task.toml: the template alone takes"), "{text}");
    assert_eq!(status, 1);
}

#[test]
fn a_sound_task_shows_rows_lengths_and_balance() {
    let (train, dev) = (rows(&TRAIN), rows(&[("new", "good")]));
    let task = format!("template = 'review: {{text}}'\n{LABELS}");
    let folder = folder(
        "train = 'train.jsonl'\ndev = 'dev.jsonl'",
        &task,
        &[("train.jsonl", &train), ("dev.jsonl", &dev)],
    );
    let output = check(folder.path(), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("train.jsonl:1 (")
            && text.contains("  review: a fine film\n  => positive (label good)\n")
    );
    assert!(text.ends_with("task.toml: nothing wrong was found\n") && !text.contains('\x1b'), "{text}");

    let (report, status) = report(folder.path());
    assert_eq!((report["errors"].as_u64(), report["warnings"].as_u64(), status), (Some(0), Some(0), 0));
    assert_eq!(report["splits"][0]["labels"], json!({"good": 2, "poor": 2}));
    assert_eq!(report["splits"][1]["rows"], json!(1));
    assert_eq!(report["examples"].as_array().unwrap().len(), 3);
    assert_eq!(report["examples"][1]["label"], "poor", "labels are shown in turn");
    let tokens = report["examples"][0]["tokens"].as_u64().unwrap();
    assert!(tokens > 3 && report["splits"][0]["tokens"]["max"].as_u64().unwrap() >= tokens);
}

#[test]
fn free_text_that_is_too_long_to_be_said_is_a_warning() {
    let train =
        rows(&[("one", "a short one"), ("two", &"many words ".repeat(9)), ("three", ""), ("four", "four")]);
    let task = "template = '{text}'\nmax_new_tokens = 6";
    let folder = folder("train = 'train.jsonl'\nshots = 2\nshots_seed = 1", task, &[("train.jsonl", &train)]);
    let (text, status) = problems(folder.path());
    assert!(
        text.contains("train.jsonl:2: the target text takes more than task.max_new_tokens (6)"),
        "{text}"
    );
    assert!(text.contains("train.jsonl:3: the target text is empty"), "{text}");
    assert_eq!(status, 0);
    let (report, _) = report(folder.path());
    assert_eq!((&report["splits"][1]["split"], &report["splits"][1]["drawn"]), (&json!("dev"), &json!(true)));
    assert!(report["splits"][0]["target_tokens"]["max"].is_u64());
}

#[test]
fn a_task_file_that_cannot_be_read_is_reported_too() {
    let folder = folder("train = 3", "", &[]);
    let (report, status) = report(folder.path());
    let message = report["problems"][0]["message"].as_str().unwrap();
    assert!(message.contains("line 2") && message.contains("a file's name, or a list of names"), "{message}");
    assert_eq!(status, 1);
    let output = Command::new(env!("CARGO_BIN_EXE_xprompt-trainer"))
        .args(["check", "task.toml", "--model", "nowhere"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("nowhere/config.json") && error.contains("--model"), "{error}");
    assert_eq!(output.status.code(), Some(1));
}
