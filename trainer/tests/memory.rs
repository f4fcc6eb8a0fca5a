//! What a run says and keeps when the memory does not suffice. The process gets a limited address space, in which the
//! model loads and the short texts run, but not two long ones at once.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

/// With this seed the first batch is that of the short texts.
const SEED: &str = "1";

/// Address space in KiB: enough for one long text at a time (it was measured to fit into
/// 900,000), not for two (which fit into 1,100,000).
const LIMIT: usize = 950_000;

const TASK: &str = "
[data]
train = 'train.jsonl'
dev = 'dev.jsonl'
[task]
labels = [{ name = 'good', words = 'positive' }, { name = 'poor', words = 'negative' }]
max_input_tokens = 1000
[tuning]
prompt_tokens = 4
batch_size = 8
max_steps = 2
evaluate_every = 1
[pruning]
token_ratios = [0.5]
piece_ratios = [0.5]
importance_rows = 2
[rewinding]
max_steps = 1
";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let row = |i: usize, films: usize| {
        let (word, label) = if i.is_multiple_of(2) { ("superb", "good") } else { ("dull", "poor") };
        let films: Vec<String> =
            (0..films).map(|film| format!("a {word} film of {} minutes", i + film)).collect();
        json!({"text": films.join(" "), "label": label}).to_string()
    };
    let write = |name: &str, rows: Vec<String>| {
        std::fs::write(folder.path().join(name), rows.join("\n")).unwrap();
    };
    write("train.jsonl", (0..16).map(|i| row(i, if i < 8 { 2 } else { 200 })).collect());
    write("dev.jsonl", (16..24).map(|i| row(i, 1)).collect());
    std::fs::write(folder.path().join("task.toml"), TASK).unwrap();
    folder
}

fn run(folder: &Path, mebibytes: &str) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Command::new("sh")
        .args(["-c", &format!("ulimit -v {LIMIT} && exec \"$0\" \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_xprompt-trainer"))
        .arg("run")
        .arg(folder.join("task.toml"))
        .args(["--threads", "1", "--seeds", SEED, "--memory", mebibytes, "--out"])
        .arg(folder.join("out"))
        .current_dir(root)
        .output()
        .unwrap()
}

#[test]
fn a_run_out_of_memory_names_the_remedy_and_goes_on_with_it() {
    let folder = folder();
    let failed = run(folder.path(), "100000");
    let message = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(1), "{message}");
    assert!(message.contains("out of memory; run the same command with a lower --memory"), "{message}");
    assert!(message.contains("it was 100000 MiB"), "{message}");
    let kept = folder.path().join("out/state/01-tuning.underway");
    assert!(kept.exists(), "the step that fitted is kept: {message}");

    let succeeded = run(folder.path(), "1");
    let message = String::from_utf8_lossy(&succeeded.stderr).into_owned();
    assert!(succeeded.status.success(), "{message}");
    assert!(message.contains("goes on after step 1"), "{message}");
    assert!(message.contains("1 MiB from here on; the run began with 100000 MiB"), "{message}");
    assert!(folder.path().join("out/prompt.safetensors").exists());
}
