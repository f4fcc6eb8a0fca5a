//! The method end to end on a small task with the bundled model, by the library and by the command line.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

mod support;

use serde_json::Value;
use support::{Bench, text};
use xprompt_trainer::summary::Arm;

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

#[test]
fn a_run_gives_a_pruned_prompt_that_eval_measures_alike() {
    let bench = Bench::new(LABELS);
    bench.works("run @task.toml --out @out --seed 1");
    let file = bench.prompt("out/prompt.safetensors");
    assert_eq!((file.prompt.tokens(), file.prompt.kept_token_count()), (20, 12));
    assert_eq!((file.prompt.kept_piece_count(), file.prompt.rows().len()), (12 * 8, 12 * 256));
    assert_eq!(file.manifest.golden.len(), 8);
    let stages: Vec<&str> = file.manifest.history.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(stages, ["tuned", "token_pruned", "piece_pruned", "xprompt"]);

    let summary = bench.summary("out");
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

    let report = bench.works("eval @out/prompt.safetensors --data @dev.jsonl --json");
    let report: Value = serde_json::from_str(&report).unwrap();
    let measured = xprompt.metrics[2].values[0].value;
    assert_eq!(report["metrics"]["accuracy"], measured, "what the trainer measured is what eval measures");

    let shown = bench.works("inspect @out/prompt.safetensors");
    assert!(shown.contains("12 of 20 (60 %)") && shown.contains("good (\"positive\")"), "{shown}");
}

#[test]
fn every_control_is_measured_and_keeps_as_much_as_the_xprompt() {
    let bench = Bench::new(&LABELS.replace("importance_rows = 20", "importance_rows = 8\npieces = 4"));
    bench.works("run @task.toml --out @out --seeds 1,2 --all-controls");
    let summary = bench.summary("out");
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
    let bench = Bench::new(LABELS);
    bench.task("other.toml", &LABELS.replace("review: {text}", "say: {text}"));
    bench.works("run @task.toml @other.toml --out @both --seeds 3");
    bench.works("run @task.toml --out @alone --seeds 3");
    let (alone, together) = (bench.summary("alone"), bench.summary("both/task"));
    assert_eq!(together.name, "task");
    for (alone, together) in alone.seeds[0].arms.iter().zip(&together.seeds[0].arms) {
        assert_eq!((alone.tokens, alone.steps), (together.tokens, together.steps));
        let value = |arm: &Arm| arm.metrics[0].values[0].value;
        assert!((value(alone) - value(together)).abs() < 0.13, "{}: one row may round otherwise", alone.name);
    }
    assert!(bench.at("both/other/prompt.safetensors").exists());
}

#[test]
fn a_seed_repeats_a_run_byte_for_byte() {
    let bench = Bench::new(LABELS);
    let prompt = |out: &str, seed: u64| {
        bench.works(&format!("run @task.toml --out @{out} --seed {seed}"));
        bench.read(&format!("{out}/prompt.safetensors"))
    };
    let first = prompt("a", 5);
    assert_eq!(first, prompt("b", 5));
    assert_ne!(first, prompt("c", 6));
}

#[test]
fn a_free_text_task_runs_through_all_stages() {
    let recipe = LABELS
        .replace(
            "labels = [{ name = 'good', words = 'positive' }, { name = 'poor', words = 'negative' }]",
            "max_new_tokens = 4",
        )
        .replace("template = 'review: {text}'", "template = '{text}'");
    let bench = Bench::new(&recipe);
    bench.works("run @task.toml --out @out --seed 1");
    let file = bench.prompt("out/prompt.safetensors");
    assert!(file.manifest.golden.iter().all(|golden| golden.text.is_some()));
    assert!(file.manifest.history[3].dev.contains_key("exact_match"));
    assert_eq!(bench.summary("out").metrics, ["exact_match"]);
}

#[test]
fn mistakes_are_one_clear_line_that_names_the_place() {
    let bench = Bench::new(LABELS);
    bench.write(
        "wrong.jsonl",
        "{\"text\": \"x\", \"label\": \"good\"}\n{\"text\": \"x\", \"label\": \"odd\"}\n",
    );
    bench.write("torn.jsonl", "{\"text\": \"x\", \"lab");
    for (from, to, words) in [
        ("train.jsonl", "missing.jsonl", "missing.jsonl: No such file"),
        ("train.jsonl", "wrong.jsonl", "wrong.jsonl:2: label is \"odd\"; the task's labels are good, poor"),
        ("train.jsonl", "torn.jsonl", "torn.jsonl:1:"),
        ("{text}", "{body}", "the input has no field \"body\""),
        ("max_steps = 6", "max_step = 6", "unknown field `max_step`"),
        ("'negative'", "'positive'", "words of the same tokens"),
    ] {
        let task = text(&bench.read("task.toml")).replacen(from, to, 1);
        bench.write("wrong.toml", &task);
        bench.fails("run @wrong.toml --out @out", &[words]);
    }
    assert!(!bench.at("out").exists(), "a failed run leaves nothing behind");
}

#[test]
fn a_device_that_cannot_be_used_is_an_error_and_never_a_silent_fallback() {
    let bench = Bench::new(LABELS);
    let error = bench.fails("run @task.toml --out @out --device cuda:99", &["device cuda:99 cannot be used"]);
    assert!(error.contains("onnxruntime-gpu") || error.contains("nvidia-smi"), "a remedy: {error}");
    let forms = "name auto, cpu, cuda (the first GPU), cuda:N";
    bench.fails("run @task.toml --out @out --device gpu", &[forms]);
}

#[test]
fn a_precision_that_the_device_has_not_is_an_error() {
    let bench = Bench::new(LABELS);
    let refused = &["--precision f16 cannot be had on cpu", "--device cuda"];
    bench.fails("run @task.toml --out @out --device cpu --precision f16", refused);
    bench.fails("run @task.toml --out @out --precision fp8", &["name f32, tf32, bf16, f16 or int8"]);
    assert!(!bench.at("out").exists(), "a failed run leaves nothing behind");
}

#[test]
fn answers_in_two_precisions_are_compared_row_by_row() {
    let bench = Bench::new(LABELS);
    bench.write(
        "rows.jsonl",
        "{\"text\": \"what a lovely flight\", \"label\": \"positive\"}\n{\"text\": \"late again\", \"label\": \"negative\"}\n",
    );
    let command = "eval prompts/tweet-sentiment.safetensors --data @rows.jsonl --device cpu --against";
    let report: serde_json::Value =
        serde_json::from_str(&bench.works(&format!("{command} f32 --json"))).unwrap();
    assert_eq!(report["precision"], "f32");
    let agreement = &report["against"]["agreement"];
    assert_eq!((&agreement["rows"], &agreement["same"]), (&2.into(), &2.into()));
    assert_eq!(agreement["largest_difference"], 0.0, "the same sessions give the same bits");
    let words = bench.works(&format!("{command} f32"));
    assert!(words.contains("f32 and f32 answer 2 of 2 rows alike"), "{words}");
    bench.fails(&format!("{command} f16"), &["f16 cannot be had on cpu"]);
}

#[test]
fn a_graph_can_be_written_for_inspection() {
    let bench = Bench::new(LABELS);
    for graph in ["tuning-labels", "loss-text"] {
        bench.works(&format!("graph {graph} --out @graph.onnx"));
        let size = bench.read("graph.onnx").len();
        assert!((50_000..1_000_000).contains(&size), "{size} bytes: weights stay outside");
    }
}
