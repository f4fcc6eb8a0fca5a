//! The log of a run: what its files hold, and what is left of them after a run was killed and resumed.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

use std::fs::{OpenOptions, read, read_to_string};
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use xprompt::prompt::{DataSource, Fingerprint};
use xprompt_trainer::log::{Candidate, Event, Log, LogError, Position, TaskStarted};
use xprompt_trainer::summary::{Arm, Estimate, SplitMetrics};

fn candidate(name: Option<&str>) -> Candidate {
    Candidate { task: "rte".into(), seed: 7, name: name.map(Into::into) }
}

fn evaluation(step: usize, loss: Option<f32>) -> Event {
    Event::Evaluation {
        part: "tuning".into(),
        candidate: candidate(None),
        step,
        loss,
        metric: "accuracy".into(),
        value: 0.5,
        examples_per_second: loss.map(|_| 80.0),
    }
}

fn arm() -> Arm {
    let split = |name: &str, value| SplitMetrics {
        split: name.into(),
        values: vec![
            Estimate { value, low: 0.1, high: 0.9 },
            Estimate { value: value / 2.0, low: 0.0, high: 0.9 },
        ],
    };
    Arm {
        name: "tuned".into(),
        tokens: 20,
        pieces: 320,
        parameters: 5120,
        bytes: 20_523,
        steps: 900,
        training: None,
        metrics: vec![split("choose", 0.75), split("test", 0.5)],
    }
}

fn every_event() -> Vec<Event> {
    let name = |name: &str| Fingerprint { name: name.into(), fingerprint: "00ff00ff00ff00ff".into() };
    let part = || "token pruning".to_owned();
    let data = vec![DataSource { split: "train".into(), rows: 9, fingerprint: "ab".into() }];
    let task = TaskStarted { task: "rte".into(), settings: json!({"tuning": {"batch_size": 16}}), data };
    vec![
        Event::RunStarted {
            producer: "xprompt-trainer 1".into(),
            base_model: name("t5"),
            tokenizer: name("t5"),
            device: "CPU, 2 threads".into(),
            seeds: vec![7, u64::MAX],
            tasks: vec![task],
        },
        Event::PartStarted { part: part() },
        Event::Evaluation {
            part: part(),
            candidate: candidate(Some("30 %")),
            step: 50,
            loss: Some(0.25),
            metric: "accuracy".into(),
            value: 0.75,
            examples_per_second: None,
        },
        Event::CandidateDropped { part: part(), candidate: candidate(Some("40 %")), step: 100 },
        Event::ComputedAgain { part: part(), step: 60, mebibytes: 512 },
        Event::Resumed { part: part(), step: 50 },
        Event::PartFinished { part: part(), seconds: 1.5 },
        Event::stage_recorded("rte", 7, &arm(), &["accuracy".into(), "macro_f1".into()]),
        Event::RunFinished { seconds: 2.0 },
    ]
}

/// The lines without their times.
fn lines(folder: &Path) -> Vec<Value> {
    let text = read_to_string(folder.join(Log::LINES)).unwrap();
    assert!(text.ends_with('\n'));
    text.lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let time = line.as_object_mut().unwrap().remove("time").unwrap().as_f64().unwrap();
            assert!(time > 1.7e9, "{time} s since the epoch");
            line
        })
        .collect()
}

/// The messages of the event file without their times, which come first in each.
fn records(folder: &Path) -> Vec<Vec<u8>> {
    let bytes = read(folder.join(Log::SCALARS)).unwrap();
    let (mut records, mut rest) = (Vec::new(), &bytes[..]);
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        records.push(rest[12 + 9..12 + length].to_vec());
        rest = &rest[12 + length + 4..];
    }
    records
}

fn written(folder: &Path, resume: Option<&Position>, events: &[Event]) -> Position {
    let mut log = Log::open(folder, resume).unwrap();
    events.iter().for_each(|event| log.write(event).unwrap());
    log.position()
}

#[test]
fn a_line_names_its_event_and_its_fields() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), None, &every_event());
    let model = json!({"name": "t5", "fingerprint": "00ff00ff00ff00ff"});
    let want = [
        json!({
            "event": "run_started", "producer": "xprompt-trainer 1", "base_model": model, "tokenizer": model,
            "device": "CPU, 2 threads", "seeds": [7, u64::MAX],
            "tasks": [{"task": "rte", "settings": {"tuning": {"batch_size": 16}},
                "data": [{"split": "train", "rows": 9, "fingerprint": "ab"}]}],
        }),
        json!({"event": "part_started", "part": "token pruning"}),
        json!({
            "event": "evaluation", "part": "token pruning", "task": "rte", "seed": 7, "candidate": "30 %",
            "step": 50, "loss": 0.25, "metric": "accuracy", "value": 0.75, "examples_per_second": null,
        }),
        json!({
            "event": "candidate_dropped", "part": "token pruning", "task": "rte", "seed": 7, "candidate": "40 %",
            "step": 100,
        }),
        json!({"event": "computed_again", "part": "token pruning", "step": 60, "mebibytes": 512}),
        json!({"event": "resumed", "part": "token pruning", "step": 50}),
        json!({"event": "part_finished", "part": "token pruning", "seconds": 1.5}),
        json!({
            "event": "stage_recorded", "task": "rte", "seed": 7, "arm": "tuned", "tokens": 20, "pieces": 320,
            "parameters": 5120, "steps": 900,
            "metrics": {"choose": {"accuracy": 0.75, "macro_f1": 0.375}, "test": {"accuracy": 0.5, "macro_f1": 0.25}},
        }),
        json!({"event": "run_finished", "seconds": 2.0}),
    ];
    assert_eq!(lines(folder.path()), want);
}

#[test]
fn tensorboard_gets_losses_and_metrics_by_task_seed_part_and_split() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), None, &every_event());
    let records = records(folder.path());
    assert_eq!(records.len(), 3, "the version, an evaluation and a stage");
    let tags = |record: &[u8], tags: &[&str]| {
        let text = String::from_utf8_lossy(record).into_owned();
        let all = tags.iter().all(|tag| text.contains(tag));
        assert!(all && text.matches("rte/").count() == tags.len(), "{text:?}");
    };
    let evaluation = ["rte/seed-7/token pruning/30 %/loss", "rte/seed-7/token pruning/30 %/choose/accuracy"];
    tags(&records[1], &evaluation);
    let stage = [
        "rte/seed-7/tuned/choose/accuracy",
        "rte/seed-7/tuned/choose/macro_f1",
        "rte/seed-7/tuned/test/accuracy",
        "rte/seed-7/tuned/test/macro_f1",
    ];
    tags(&records[2], &stage);
}

#[test]
fn a_resumed_log_holds_the_events_of_an_undisturbed_one() {
    let events: Vec<Event> = (0..6).map(|i| evaluation(50 * i, (i > 0).then_some(1.0 / i as f32))).collect();
    let undisturbed = tempfile::tempdir().unwrap();
    written(undisturbed.path(), None, &events);

    let resumed = tempfile::tempdir().unwrap();
    let checkpoint = written(resumed.path(), None, &events[..3]);
    let kept: Position = serde_json::from_value(serde_json::to_value(checkpoint).unwrap()).unwrap();
    // two events after the checkpoint, and then the process is killed in the middle of a write
    written(resumed.path(), Some(&kept), &events[3..5]);
    for name in [Log::LINES, Log::SCALARS] {
        let mut file = OpenOptions::new().append(true).open(resumed.path().join(name)).unwrap();
        file.write_all(b"{\"time\":17").unwrap();
    }
    written(resumed.path(), Some(&kept), &events[3..]);

    assert_eq!(lines(resumed.path()), lines(undisturbed.path()));
    assert_eq!(records(resumed.path()), records(undisturbed.path()));
}

#[test]
fn a_log_shorter_than_its_checkpoint_goes_on_after_its_last_whole_event() {
    let folder = tempfile::tempdir().unwrap();
    let events: Vec<Event> = (0..4).map(|i| evaluation(50 * i, None)).collect();
    let checkpoint = written(folder.path(), None, &events[..3]);
    for name in [Log::LINES, Log::SCALARS] {
        let file = OpenOptions::new().write(true).open(folder.path().join(name)).unwrap();
        file.set_len(file.metadata().unwrap().len() - 5).unwrap();
    }
    written(folder.path(), Some(&checkpoint), &events[3..]);
    let steps: Vec<u64> = lines(folder.path()).iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 50, 150]);
    assert_eq!(records(folder.path()).len(), 1 + 3);

    std::fs::remove_file(folder.path().join(Log::SCALARS)).unwrap();
    written(folder.path(), Some(&checkpoint), &events[3..]);
    assert_eq!(records(folder.path()).len(), 1 + 1, "a lost event file starts anew, version first");
}

#[test]
fn a_new_run_starts_a_new_log() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), None, &[evaluation(0, None), evaluation(50, Some(0.5))]);
    written(folder.path(), None, &[evaluation(0, None)]);
    assert_eq!((lines(folder.path()).len(), records(folder.path()).len()), (1, 2));
}

#[test]
fn a_log_that_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(Log::LINES)).unwrap();
    let error = Log::open(folder.path(), None).unwrap_err();
    assert!(matches!(error, LogError::Open { .. }) && error.to_string().contains(Log::LINES), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join(Log::LINES)).unwrap();
    let mut log = Log::open(folder.path(), None).unwrap();
    let before = log.position();
    let error = log.write(&evaluation(0, None)).unwrap_err();
    assert!(matches!(error, LogError::Write { .. }), "{error}");
    let words = error.to_string();
    assert!(words.contains(Log::LINES) && words.contains("No space left on device"), "{words}");
    assert_eq!(log.position(), before);
}
