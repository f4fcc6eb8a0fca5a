//! The method end to end on a small task with the bundled model, by the library and by the command line.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use xprompt::prompt::{Limits, PromptFile};
use xprompt_trainer::summary::{Arm, Summary};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn model() -> PathBuf {
    root().join("models/t5-nano")
}

fn trainer(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xprompt-trainer"))
        .args(args)
        .env("XPROMPT_MODEL", model())
        .env("XPROMPT_THREADS", "2")
        .current_dir(root())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder with a little sentiment data and a task file of few steps.
fn task(recipe: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let praise = ["lovely", "great", "fine", "superb"];
    let blame = ["awful", "dull", "bad", "dreadful"];
    let things = ["film", "meal", "book", "song", "trip", "show"];
    let rows: Vec<String> = (0..48)
        .map(|i| {
            let (words, label) = if i % 2 == 0 { (praise, "good") } else { (blame, "poor") };
            let text = format!("a {} {}", words[i / 2 % 4], things[i / 3 % 6]);
            json!({"text": text, "label": label, "words": label}).to_string()
        })
        .collect();
    std::fs::write(folder.path().join("train.jsonl"), rows[..32].join("\n")).unwrap();
    std::fs::write(folder.path().join("dev.jsonl"), rows[32..].join("\n")).unwrap();
    let data = "[data]\ntrain = 'train.jsonl'\ndev = 'dev.jsonl'\ntest = 'dev.jsonl'\n";
    std::fs::write(folder.path().join("task.toml"), format!("{data}{recipe}")).unwrap();
    folder
}

const LABELS: &str = "
[task]
template = 'review: {text}'
labels = [{ name = 'good', words = 'positive' }, { name = 'poor', words = 'negative' }]
[tuning]
batch_size = 8
max_steps = 6
evaluate_every = 3
[pruning]
token_ratios = [0.4]
piece_ratios = [0.5]
importance_rows = 20
[rewinding]
max_steps = 3
";

fn run(folder: &Path, out: &str, seed: &str) -> PathBuf {
    let (task, out) = (folder.join("task.toml"), folder.join(out));
    let output = trainer(&["run", task.to_str().unwrap(), "--out", out.to_str().unwrap(), "--seed", seed]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    out
}

fn summary(out: &Path) -> Summary {
    serde_json::from_str(&std::fs::read_to_string(out.join("summary.json")).unwrap()).unwrap()
}

#[test]
fn a_run_gives_a_pruned_prompt_that_eval_measures_alike() {
    let folder = task(LABELS);
    let out = run(folder.path(), "out", "1");
    let path = out.join("prompt.safetensors");
    let (file, _) = PromptFile::read(&path, &Limits::default()).unwrap();
    assert_eq!((file.prompt.tokens(), file.prompt.kept_token_count()), (20, 12));
    assert_eq!((file.prompt.kept_piece_count(), file.prompt.rows().len()), (12 * 8, 12 * 256));
    assert_eq!(file.manifest.golden.len(), 8);
    let stages: Vec<&str> = file.manifest.history.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(stages, ["tuned", "token_pruned", "piece_pruned", "xprompt"]);

    let summary = summary(&out);
    let seed = &summary.seeds[0];
    let names: Vec<&str> = seed.arms.iter().map(|arm| arm.name.as_str()).collect();
    let stages = ["initial", "tuned", "token_pruned", "piece_pruned", "token_only", "xprompt", "continued"];
    assert_eq!(names, stages);
    let xprompt = &seed.arms[5];
    assert_eq!((xprompt.tokens, xprompt.pieces, xprompt.parameters), (12, 96, 96 * 16));
    assert_eq!(xprompt.bytes, 96 * 16 * 4 + 3 + 40);
    assert_eq!(summary.majority["test"].as_f64(), Some(0.5));
    let splits: Vec<&str> = xprompt.metrics.iter().map(|split| split.split.as_str()).collect();
    assert_eq!(splits, ["choose", "report", "test"]);
    assert!(summary.times.iter().any(|timing| timing.part == "token pruning"));

    let data = folder.path().join("dev.jsonl");
    let args = ["eval", path.to_str().unwrap(), "--data", data.to_str().unwrap(), "--json"];
    let report: Value = serde_json::from_slice(&trainer(&args).stdout).unwrap();
    let measured = xprompt.metrics[2].values[0].value;
    assert_eq!(report["metrics"]["accuracy"], measured, "what the trainer measured is what eval measures");

    let shown = text(&trainer(&["inspect", path.to_str().unwrap()]).stdout);
    assert!(shown.contains("12 of 20 (60 %)") && shown.contains("good (\"positive\")"), "{shown}");
}

#[test]
fn every_control_is_measured_and_keeps_as_much_as_the_xprompt() {
    let folder = task(&LABELS.replace("importance_rows = 20", "importance_rows = 8\npieces = 4"));
    let (task, out) = (folder.path().join("task.toml"), folder.path().join("out"));
    let (task, place) = (task.to_str().unwrap(), out.to_str().unwrap());
    let output = trainer(&["run", task, "--out", place, "--seeds", "1,2", "--all-controls"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let summary = summary(&out);
    let names: Vec<&str> = summary.table.iter().map(|arm| arm.name.as_str()).collect();
    let controls = [
        "continued",
        "restarts",
        "piece_only",
        "random_mask",
        "reversed_mask",
        "signed_score",
        "leave_one_out",
        "not_rewound",
        "same_length",
        "fresh_start",
    ];
    assert_eq!(names[6..], controls);
    assert_eq!(summary.seeds.iter().map(|seed| seed.seed).collect::<Vec<_>>(), [1, 2]);
    for seed in &summary.seeds {
        let arm = |name: &str| seed.arms.iter().find(|arm| arm.name == name).unwrap();
        let xprompt = arm("xprompt");
        for same in
            ["random_mask", "reversed_mask", "signed_score", "leave_one_out", "not_rewound", "fresh_start"]
        {
            let arm = arm(same);
            assert_eq!((arm.tokens, arm.pieces), (xprompt.tokens, xprompt.pieces), "{same}");
        }
        assert_eq!((arm("same_length").tokens, arm("same_length").pieces), (12, 12 * 4));
        assert_eq!(arm("piece_only").tokens, 20);
        assert_eq!(arm("continued").steps, arm("tuned").steps + 3);
        let levels: Vec<&str> = seed.trials.iter().map(|trial| trial.level.as_str()).collect();
        assert_eq!(levels, ["token", "piece", "piece_only"]);
        let masked: Vec<usize> = seed.masking.iter().map(|masking| masking.masked).collect();
        assert!(masked.starts_with(&[0, 2]) && masked.ends_with(&[18]), "{masked:?}");
        let unmasked = &seed.masking[0];
        assert!(unmasked.random.iter().all(|&value| value == unmasked.lowest));
        assert_eq!(unmasked.lowest, arm("tuned").metrics[2].values[0].value, "no mask is the tuned prompt");
    }
    let over = |name: &str| &summary.table.iter().find(|arm| arm.name == name).unwrap().splits[2];
    assert!(over("tuned").over_tuned.is_none() && over("xprompt").over_tuned.is_some());
    let mean: f64 =
        summary.seeds.iter().map(|seed| seed.arms[5].metrics[2].values[0].value).sum::<f64>() / 2.0;
    assert!((over("xprompt").values[0].mean - mean).abs() < 1e-12);
}

#[test]
fn several_tasks_train_side_by_side_each_as_it_would_alone() {
    let folder = task(LABELS);
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let other = std::fs::read_to_string(at("task.toml")).unwrap().replace("review: {text}", "say: {text}");
    std::fs::write(at("other.toml"), other).unwrap();
    let output = trainer(&["run", &at("task.toml"), &at("other.toml"), "--out", &at("both"), "--seeds", "3"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let alone = run(folder.path(), "alone", "3");
    let together = folder.path().join("both/task");
    let (alone, together) = (summary(&alone), summary(&together));
    assert_eq!(together.name, "task");
    for (alone, together) in alone.seeds[0].arms.iter().zip(&together.seeds[0].arms) {
        assert_eq!((alone.tokens, alone.steps), (together.tokens, together.steps));
        let value = |arm: &Arm| arm.metrics[0].values[0].value;
        assert!((value(alone) - value(together)).abs() < 0.13, "{}: one row may round otherwise", alone.name);
    }
    assert!(folder.path().join("both/other/prompt.safetensors").exists());
}

#[test]
fn a_seed_repeats_a_run_byte_for_byte() {
    let folder = task(LABELS);
    let prompt =
        |out: &str, seed| std::fs::read(run(folder.path(), out, seed).join("prompt.safetensors")).unwrap();
    let first = prompt("a", "5");
    assert_eq!(first, prompt("b", "5"));
    assert_ne!(first, prompt("c", "6"));
}

#[test]
fn a_free_text_task_runs_through_all_stages() {
    let recipe = LABELS
        .replace(
            "labels = [{ name = 'good', words = 'positive' }, { name = 'poor', words = 'negative' }]",
            "max_new_tokens = 4",
        )
        .replace("template = 'review: {text}'", "template = '{text}'");
    let folder = task(&recipe);
    let out = run(folder.path(), "out", "1");
    let (file, _) = PromptFile::read(&out.join("prompt.safetensors"), &Limits::default()).unwrap();
    assert!(file.manifest.golden.iter().all(|golden| golden.text.is_some()));
    assert!(file.manifest.history[3].dev.contains_key("exact_match"));
    assert_eq!(summary(&out).metrics, ["exact_match"]);
}

#[test]
fn mistakes_are_one_clear_line_that_names_the_place() {
    let folder = task(LABELS);
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let out = at("out");
    std::fs::write(
        at("wrong.jsonl"),
        "{\"text\": \"x\", \"label\": \"good\"}\n{\"text\": \"x\", \"label\": \"odd\"}\n",
    )
    .unwrap();
    std::fs::write(at("torn.jsonl"), "{\"text\": \"x\", \"lab").unwrap();
    for (from, to, words) in [
        ("train.jsonl", "missing.jsonl", "missing.jsonl: No such file"),
        ("train.jsonl", "wrong.jsonl", "wrong.jsonl:2: label is \"odd\"; the task's labels are good, poor"),
        ("train.jsonl", "torn.jsonl", "torn.jsonl:1:"),
        ("{text}", "{body}", "the input has no field \"body\""),
        ("max_steps = 6", "max_step = 6", "unknown field `max_step`"),
        ("'negative'", "'positive'", "words of the same tokens"),
    ] {
        let task = std::fs::read_to_string(at("task.toml")).unwrap().replacen(from, to, 1);
        std::fs::write(at("wrong.toml"), task).unwrap();
        let output = trainer(&["run", &at("wrong.toml"), "--out", &out]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(words), "{error} names {words}");
    }
    assert!(!Path::new(&out).exists(), "a failed run leaves nothing behind");
}

#[test]
fn a_device_that_cannot_be_used_is_an_error_and_never_a_silent_fallback() {
    let folder = task(LABELS);
    let (task, out) = (folder.path().join("task.toml"), folder.path().join("out"));
    let args = ["run", task.to_str().unwrap(), "--out", out.to_str().unwrap(), "--device", "cuda:99"];
    let output = trainer(&args);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("device cuda:99 cannot be used"), "{error}");
    assert!(error.contains("onnxruntime-gpu") || error.contains("nvidia-smi"), "a remedy: {error}");
    let error = text(&trainer(&["run", task.to_str().unwrap(), "--out", "x", "--device", "gpu"]).stderr);
    assert!(error.contains("name auto, cpu, cuda (the first GPU), cuda:N"), "{error}");
}

#[test]
fn a_graph_can_be_written_for_inspection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tuning.onnx");
    let output = trainer(&["graph", "tuning-labels", "--out", path.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let size = std::fs::metadata(path).unwrap().len();
    assert!((50_000..1_000_000).contains(&size), "{size} bytes: weights stay outside");
}
