//! A run that is killed goes on, and ends with the results of an undisturbed one.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const TASK: &str = "
[data]
train = 'train.jsonl'
dev = 'dev.jsonl'
[task]
labels = [{ name = 'good', words = 'positive' }, { name = 'poor', words = 'negative' }]
[tuning]
batch_size = 8
max_steps = 9
evaluate_every = 2
[pruning]
token_ratios = [0.2, 0.4, 0.6]
piece_ratios = [0.5, 0.7]
importance_rows = 16
[rewinding]
max_steps = 6
[controls]
random_mask = true
fresh_start = true
";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (praise, blame) = (["lovely", "great", "superb"], ["awful", "dull", "dreadful"]);
    let row = |i: usize| {
        let (words, label) = if i.is_multiple_of(2) { (praise, "good") } else { (blame, "poor") };
        json!({"text": format!("a {} film of {i} minutes", words[i / 2 % 3]), "label": label}).to_string()
    };
    let write = |name: &str, rows: std::ops::Range<usize>| {
        std::fs::write(folder.path().join(name), rows.map(row).collect::<Vec<_>>().join("\n")).unwrap();
    };
    write("train.jsonl", 0..32);
    write("dev.jsonl", 32..56);
    std::fs::write(folder.path().join("task.toml"), TASK).unwrap();
    folder
}

fn start(folder: &Path, out: &Path) -> Child {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Command::new(env!("CARGO_BIN_EXE_xprompt-trainer"))
        .arg("run")
        .arg(folder.join("task.toml"))
        .args(["--seeds", "1,2", "--threads", "2", "--out"])
        .arg(out)
        .current_dir(root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills the run as soon as its log has so many lines; false if it ended before.
fn kill_after(mut child: Child, out: &Path, lines: usize) -> bool {
    let deadline = Instant::now() + Duration::from_mins(2);
    while Instant::now() < deadline {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        let log = std::fs::read_to_string(out.join("log.jsonl")).unwrap_or_default();
        if log.lines().count() >= lines {
            child.kill().unwrap();
            child.wait().unwrap();
            return true;
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    panic!("the log never reached {lines} lines");
}

/// The log without what may differ: times, and that a run went on.
fn events(out: &Path) -> Vec<Value> {
    let log = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
    let events = log.lines().map(|line| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        for key in ["time", "seconds", "examples_per_second"] {
            event.as_object_mut().unwrap().remove(key);
        }
        event
    });
    events.filter(|event| event["event"] != "resumed").collect()
}

fn summary_without_times(out: &Path) -> Value {
    let mut summary: Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("summary.json")).unwrap()).unwrap();
    for key in ["times", "seconds"] {
        summary.as_object_mut().unwrap().remove(key);
    }
    summary
}

#[test]
fn a_run_killed_many_times_ends_like_an_undisturbed_one() {
    let folder = folder();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    assert!(start(folder.path(), &whole).wait().unwrap().success());
    let all = events(&whole).len();
    let mut kills = 0;
    for lines in (3..all).step_by(all / 7) {
        kills += usize::from(kill_after(start(folder.path(), &broken), &broken, lines));
    }
    assert!(kills >= 5, "only {kills} of the runs were killed");
    assert!(start(folder.path(), &broken).wait().unwrap().success());

    for file in ["prompt.safetensors", "seed-1/tuned.safetensors", "seed-2/xprompt.safetensors"] {
        let read = |out: &PathBuf| std::fs::read(out.join(file)).unwrap();
        assert_eq!(read(&whole), read(&broken), "{file}");
    }
    assert_eq!(summary_without_times(&whole), summary_without_times(&broken));
    assert_eq!(events(&whole), events(&broken));

    // asked for once more, a finished run has nothing to do and changes nothing
    let before = events(&broken);
    assert!(start(folder.path(), &broken).wait().unwrap().success());
    assert_eq!(events(&broken), before);
}

#[test]
fn a_disk_that_is_full_is_a_clear_error_and_keeps_what_was_done() {
    let folder = folder();
    let out = folder.path().join("out");
    let script = format!(
        "trap '' XFSZ; ulimit -f 40; exec '{}' run '{}' --out '{}' --threads 2 --seeds 1",
        env!("CARGO_BIN_EXE_xprompt-trainer"),
        folder.path().join("task.toml").display(),
        out.display()
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new("bash").args(["-c", &script]).current_dir(root).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("state/") && error.contains("run the same command again"), "{error}");
    assert!(!out.join("summary.json").exists());
    // with room again it goes on
    assert!(start_one(folder.path(), &out).success());
    assert!(out.join("summary.json").exists());
}

fn start_one(folder: &Path, out: &Path) -> std::process::ExitStatus {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(env!("CARGO_BIN_EXE_xprompt-trainer"));
    command
        .arg("run")
        .arg(folder.join("task.toml"))
        .args(["--seeds", "1", "--threads", "2", "--out"])
        .arg(out);
    command.current_dir(root).output().unwrap().status
}

#[test]
fn a_loss_that_is_not_finite_names_the_remedy() {
    let folder = folder();
    let task = TASK.replace("batch_size = 8", "batch_size = 8\nlearning_rate = 1e30");
    std::fs::write(folder.path().join("task.toml"), task).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(env!("CARGO_BIN_EXE_xprompt-trainer"))
        .arg("run")
        .arg(folder.path().join("task.toml"))
        .args(["--threads", "2", "--out"])
        .arg(folder.path().join("out"))
        .current_dir(root)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("lower tuning.learning_rate"), "{error}");
    assert!(folder.path().join("out/run.json").exists());
}
