//! A run that is killed goes on, and ends with the results of an undisturbed one.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Bench, root, text};

const TASK: &str = "
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

fn start(bench: &Bench, line: &str) -> Child {
    bench.command(line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills a command as soon as something is so; false if it ended before.
fn kill_when(mut child: Child, so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_mins(2);
    while Instant::now() < deadline {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if so() {
            child.kill().unwrap();
            child.wait().unwrap();
            return true;
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    panic!("what to wait for never came");
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
    for key in ["command", "times", "seconds"] {
        summary.as_object_mut().unwrap().remove(key);
    }
    summary
}

#[test]
fn a_run_killed_many_times_ends_like_an_undisturbed_one() {
    let bench = Bench::new(TASK);
    let (whole, broken) = (bench.at("whole"), bench.at("broken"));
    let again = "run @task.toml --seeds 1,2 --out @broken";
    bench.works("run @task.toml --seeds 1,2 --out @whole");
    let all = events(&whole).len();
    let mut kills = 0;
    for lines in (3..all).step_by(all / 7) {
        let log = || std::fs::read_to_string(broken.join("log.jsonl")).unwrap_or_default();
        kills += usize::from(kill_when(start(&bench, again), || log().lines().count() >= lines));
    }
    assert!(kills >= 5, "only {kills} of the runs were killed");
    bench.works(again);

    for file in ["prompt.safetensors", "seed-1/tuned.safetensors", "seed-2/xprompt.safetensors"] {
        let read = |out: &str| bench.read(&format!("{out}/{file}"));
        assert_eq!(read("whole"), read("broken"), "{file}");
    }
    assert_eq!(summary_without_times(&whole), summary_without_times(&broken));
    assert_eq!(events(&whole), events(&broken));

    // asked for once more, a finished run has nothing to do and changes nothing
    let before = events(&broken);
    bench.works(again);
    assert_eq!(events(&broken), before);
}

#[test]
fn a_single_training_that_is_killed_goes_on_and_leaves_the_file_of_an_undisturbed_one() {
    let bench = Bench::new(
        &TASK
            .replace("max_steps = 9", "max_steps = 20")
            .replace("[rewinding]\nmax_steps = 6", "[rewinding]\nmax_steps = 20\nevaluate_every = 2"),
    );
    bench.works("tune @task.toml --out @tuned");
    bench.works("score @tuned --task @task.toml --out @scored");
    bench.works("prune @scored --tokens 0.4 --out @pruned");
    let rewind = "rewind @pruned --to @scored --task @task.toml";
    bench.works(&format!("{rewind} --out @xprompt"));
    for (command, part, whole) in
        [("tune @task.toml", "01-tuning", "tuned"), (rewind, "01-retraining", "xprompt")]
    {
        let (file, kept) = (format!("{whole}-again"), format!("{whole}-again.underway"));
        let command = format!("{command} --out @{file}");
        let checkpoint = bench.at(&format!("{kept}/state/{part}.underway"));
        assert!(kill_when(start(&bench, &command), || checkpoint.exists()), "{command} was killed");
        assert!(!bench.at(&file).exists());
        bench.fails(&format!("{command} --seed 8"), &[&kept, "(seeds differs)"]);

        let output = bench.run(&command);
        let said = text(&output.stderr);
        assert!(output.status.success() && said.contains("goes on after step"), "{command}: {said}");
        assert!(bench.read(&file) == bench.read(whole), "{command}: not the file of an undisturbed training");
        assert!(!bench.at(&kept).exists(), "what was kept is removed");
    }
}

#[test]
fn a_disk_that_is_full_is_a_clear_error_and_keeps_what_was_done() {
    let bench = Bench::new(TASK);
    let script = format!(
        "trap '' XFSZ; ulimit -f 40; exec '{}' run '{}' --out '{}' --seeds 1",
        env!("CARGO_BIN_EXE_xprompt-trainer"),
        bench.at("task.toml").display(),
        bench.at("out").display()
    );
    let mut full = Command::new("bash");
    full.args(["-c", &script]).env("XPROMPT_THREADS", "2").current_dir(root());
    let output = full.output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("state/") && error.contains("run the same command again"), "{error}");
    assert!(!bench.at("out/summary.json").exists());
    // with room again it goes on
    bench.works("run @task.toml --out @out --seeds 1");
    assert!(bench.at("out/summary.json").exists());
}

#[test]
fn a_loss_that_is_not_finite_names_the_remedy() {
    let bench = Bench::new(&TASK.replace("batch_size = 8", "batch_size = 8\nlearning_rate = 1e30"));
    bench.fails("run @task.toml --out @out", &["lower tuning.learning_rate"]);
    assert!(bench.at("out/run.json").exists());
}

#[test]
fn a_run_says_in_which_precision_it_computes_and_goes_on_in_no_other() {
    let bench = Bench::new(&TASK.replace("batch_size = 8", "batch_size = 8\nlearning_rate = 1e30"));
    let command = "run @task.toml --out @out --device cpu --precision f32";
    bench.fails(command, &["lower tuning.learning_rate"]);
    let run = text(&bench.read("out/run.json"));
    assert!(run.contains(r#""precision": "f32""#), "{run}");
    bench.write("out/run.json", &run.replace(r#""precision": "f32""#, r#""precision": "bf16""#));
    bench.fails(command, &["(precision differs)"]);
}
