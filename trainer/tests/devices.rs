//! Work spread over several devices, simulated on the processor.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

use std::path::Path;

use serde_json::Map;
use xprompt::engine::{Answers, Source};
use xprompt::prompt::{Label, OutputSpec};
use xprompt::runtime::Device;
use xprompt_trainer::evaluate::{Answer, Evaluator, Job};
use xprompt_trainer::example::{Example, Target};
use xprompt_trainer::setup::{Options, Setup};
use xprompt_trainer::tuner::{Contribution, Tuned, Tuner};

const DEVICES: usize = 3;

fn setup(devices: usize) -> Setup {
    let options = Options {
        model: Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/t5-nano"),
        threads: Some(2),
        device: "cpu".parse().unwrap(),
        ..Options::default()
    };
    Setup::load(&options).unwrap().over(&vec![Device::Cpu; devices])
}

fn tasks(setup: &Setup) -> [Answers; 2] {
    let labels = ["sport", "business news"].map(|words| Label { name: words.into(), words: words.into() });
    [OutputSpec::Labels { labels: labels.into() }, OutputSpec::Text { max_new_tokens: 2 }]
        .map(|output| Answers::new(&output, &setup.tokenizer, setup.model.config()).unwrap())
}

/// Texts of many lengths, with a label or a text to say.
fn examples(setup: &Setup, text: bool) -> Vec<Example> {
    let example = |i: usize| {
        let words = "a late goal won the cup for the visitors ".repeat(1 + i % 3);
        Example {
            input: Map::new(),
            source: setup.tokenizer.source(&format!("{i} {words}")).unwrap(),
            target: if text {
                Target::Text { text: "won".into(), tokens: setup.tokenizer.source("won").unwrap() }
            } else {
                Target::Label(i % 2)
            },
            accepted: Vec::new(),
            group: None,
        }
    };
    (0..10).map(example).collect()
}

fn rows(setup: &Setup) -> Vec<f32> {
    let checkpoint = setup.model.checkpoint();
    (200..205).flat_map(|id| checkpoint.row(checkpoint.embedding(), id)).collect()
}

fn tune(setup: &Setup, tuner: &mut Tuner<'_>) -> Vec<Contribution> {
    let tasks = tasks(setup);
    let (labels, texts, rows) = (examples(setup, false), examples(setup, true), rows(setup));
    let tuned = |example: &'_ Example, answers| -> (Vec<u32>, Target, &Answers) {
        (example.source.clone(), example.target.clone(), answers)
    };
    let all: Vec<_> = labels
        .iter()
        .map(|example| tuned(example, &tasks[0]))
        .chain(texts.iter().map(|example| tuned(example, &tasks[1])))
        .collect();
    let all: Vec<Tuned<'_>> = all
        .iter()
        .map(|(text, target, answers)| Tuned { source: Source { prompt: &rows, text }, target, answers })
        .collect();
    tuner.contributions(&all).unwrap()
}

fn evaluate(setup: &Setup, evaluator: &mut Evaluator<'_>) -> Vec<Vec<Answer>> {
    let (tasks, rows) = (tasks(setup), rows(setup));
    let examples = [examples(setup, false), examples(setup, true)];
    let jobs: Vec<Job<'_>> = tasks
        .iter()
        .zip(&examples)
        .map(|(answers, examples)| Job { rows: &rows, answers, examples })
        .collect();
    evaluator.answers(&jobs).unwrap()
}

/// The same runs, on whichever device: every loss, gradient, probability and text is the same, bit by bit.
#[test]
fn several_devices_compute_what_one_computes_and_keep_its_order() {
    let setup = setup(DEVICES);
    assert_eq!(setup.lanes.len(), DEVICES);
    let (one, all) = (&setup.lanes[..1], &setup.lanes[..]);
    let alone = tune(&setup, &mut Tuner::new(one, setup.plan));
    let mut tuner = Tuner::new(all, setup.plan);
    for _ in 0..2 {
        assert_eq!(tune(&setup, &mut tuner), alone);
    }
    let alone = evaluate(&setup, &mut Evaluator::new(one, &setup.tokenizer, setup.plan));
    let mut evaluator = Evaluator::new(all, &setup.tokenizer, setup.plan);
    for _ in 0..2 {
        assert_eq!(evaluate(&setup, &mut evaluator), alone);
    }
}

/// Other cuts round otherwise, and that is all.
#[test]
fn cutting_runs_for_several_devices_changes_no_more_than_rounding() {
    let (one, several) = (setup(1), setup(DEVICES));
    let whole = tune(&one, &mut one.tuner());
    let parts = tune(&several, &mut several.tuner());
    for (a, b) in whole.iter().zip(&parts) {
        assert!((a.loss - b.loss).abs() < 1e-4 * (1.0 + a.loss), "{} and {}", a.loss, b.loss);
        let apart: f32 = a.gradient.iter().zip(&b.gradient).map(|(a, b)| (a - b).powi(2)).sum();
        let size: f32 = a.gradient.iter().map(|a| a.powi(2)).sum();
        assert!(apart <= 1e-6 * size, "{apart} of {size}");
    }
}

#[test]
fn a_device_that_fails_is_named() {
    let setup = setup(2);
    let (answers, rows) = (&tasks(&setup)[0], rows(&setup));
    // an id that names a prompt row which is not there
    let text = [setup.model.config().vocab_size as u32 + 1000];
    let bad = Tuned { source: Source { prompt: &rows, text: &text }, target: &Target::Label(0), answers };
    let words = setup.tuner().contributions(&[bad]).unwrap_err().to_string();
    assert!(words.starts_with("cpu: ONNX Runtime: "), "{words}");
}
