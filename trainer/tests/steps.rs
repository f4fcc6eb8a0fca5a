//! The stages of the method one by one on prompt files, against the whole method in one go.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

mod support;

use support::Bench;
use xprompt::prompt::{PromptFile, Score, ScoredBy};

/// Of few steps. The labels' words are the wrong way round, so that there is something left to learn when the prompt is
/// retrained.
const TASK: &str = "
[task]
template = 'review: {text}'
labels = [{ name = 'good', words = 'negative' }, { name = 'poor', words = 'positive' }]
[tuning]
batch_size = 8
max_steps = 2
evaluate_every = 2
[pruning]
token_ratios = [0.4]
piece_ratios = [0.5]
importance_rows = 20
[rewinding]
max_steps = 40
";

fn stages(file: &PromptFile) -> Vec<(String, Option<f64>)> {
    file.manifest.history.iter().map(|stage| (stage.name.clone(), stage.ratio)).collect()
}

/// A single ratio of each level races nothing else beside it, so a run's batches are those of the steps, bit for bit.
#[test]
fn the_stages_one_by_one_give_the_prompt_of_the_whole_run() {
    let bench = Bench::new(TASK);
    bench.works("run @task.toml --out @out --seed 7");
    bench.works("tune @task.toml --out @tuned --seed 7");
    let shown = bench.works("score @tuned --task @task.toml");
    assert!(shown.contains("importance") && shown.contains('█'), "{shown}");
    bench.works("prune @tuned --tokens 0.4 --out @pruned");
    bench.works("score @pruned --task @task.toml");
    bench.works("prune @pruned --pieces 0.5 --out @masked");
    bench.works("rewind @masked --to @tuned --task @task.toml --out @xprompt");

    let (whole, single) = (bench.prompt("out/seed-7/tuned.safetensors"), bench.prompt("tuned"));
    assert_eq!(whole.prompt, single.prompt);
    assert_eq!(whole.manifest, single.manifest);
    assert_eq!(whole.token_importance, single.token_importance);

    let (whole, single) = (bench.prompt("out/prompt.safetensors"), bench.prompt("xprompt"));
    assert_eq!(whole.prompt, single.prompt);
    assert_eq!(whole.manifest, single.manifest);
    assert_eq!(bench.read("out/prompt.safetensors"), bench.read("xprompt"), "importance included");
    assert!(single.prompt.rows() != bench.prompt("masked").prompt.rows(), "it was not retrained");

    // another seed is another order of examples
    bench.works("rewind @masked --to @tuned --task @task.toml --out @other --seed 8");
    assert_eq!(bench.prompt("other").manifest.seed, 8);
    assert!(single.prompt.rows() != bench.prompt("other").prompt.rows(), "the seed changes nothing");
}

#[test]
fn pruning_keeps_values_drops_golden_examples_and_goes_on_record() {
    let bench = Bench::new(TASK);
    bench.works("tune @task.toml --out @tuned");
    bench.fails(
        "prune @tuned --tokens 0.5 --out @pruned",
        &["tuned: the file holds no importance of tokens", "xprompt-trainer score"],
    );
    bench.works("score @tuned --task @task.toml --out @scored");
    assert_eq!(bench.prompt("tuned").token_importance, None, "with --out the prompt stays as it was");
    let said = bench.works("prune @scored --tokens 0.25 --pieces 0.5 --out @pruned");
    assert!(said.contains("15 of 20 tokens, 120 of 320 pieces"), "{said}");
    assert_eq!(bench.prompt("scored").manifest.scored_by, ScoredBy::both(Score::AbsoluteGradient));
    let stage = |name: &str, ratio| (name.to_owned(), ratio);
    let pruned = [stage("tuned", None), stage("token_pruned", Some(0.25)), stage("piece_pruned", Some(0.5))];
    assert_eq!(stages(&bench.prompt("pruned")), pruned);
    let (tuned, pruned) = (bench.prompt("tuned"), bench.prompt("pruned"));
    assert_eq!(pruned.prompt, tuned.prompt.masked(pruned.prompt.piece_mask()));
    assert!(pruned.manifest.golden.is_empty() && pruned.manifest.history[2].dev.is_empty());
    let scores = pruned.token_importance.unwrap();
    let gone = (0..20).filter(|&token| !pruned.prompt.token_mask()[token]).map(|token| scores[token]);
    let left = pruned.prompt.kept_tokens().map(|token| scores[token]);
    assert!(gone.fold(0.0, f32::max) <= left.fold(f32::MAX, f32::min), "the least important are gone");

    // scored again it is measured, and tells what a server has to repeat
    bench.works("score @pruned --task @task.toml --by signed");
    let signed = bench.prompt("pruned");
    assert_eq!(signed.manifest.golden.len(), 8);
    assert!(signed.manifest.history[2].dev.contains_key("accuracy"));
    assert_eq!(signed.manifest.scored_by, ScoredBy::both(Score::SignedGradient));
    let by: Vec<Option<Score>> = signed.manifest.history.iter().map(|stage| stage.score).collect();
    let pruned_by = Some(Score::AbsoluteGradient);
    assert_eq!(by, [None, pruned_by, pruned_by], "what was pruned before was pruned by the score of then");
    let signed_scores = signed.token_importance.unwrap();
    assert_ne!(signed_scores, scores);
    bench.works("prune @scored --tokens 0.9 --out @few");
    let absolute = bench.prompt("few").token_importance.unwrap();
    bench.works("score @few --task @task.toml --by leave-one-out");
    let left_out = bench.prompt("few").token_importance.unwrap();
    assert_ne!(left_out, absolute);
    assert_eq!(left_out.iter().filter(|&&score| score != 0.0).count(), 2, "what is pruned scores 0");

    for shares in ["--tokens 1", "--tokens 40", "--pieces -1", "--pieces half"] {
        bench.fails(&format!("prune @scored {shares} --out @no"), &["from 0 to below 1"]);
    }
    bench.fails("prune @scored --out @no", &["--tokens <SHARE>"]);
    assert!(!bench.at("no").exists());
}

#[test]
fn prompts_that_do_not_belong_together_are_refused_with_what_differs() {
    let bench = Bench::new(TASK);
    bench.task("say.toml", &TASK.replace("review: {text}", "say: {text}"));
    bench.task("short.toml", &TASK.replace("[tuning]", "[tuning]\nprompt_tokens = 10"));
    bench.works("tune @task.toml --out @tuned");
    bench.works("tune @say.toml --out @say");
    bench.works("tune @short.toml --out @short");
    bench.works("score @tuned --task @task.toml");
    bench.works("prune @tuned --tokens 0.5 --out @pruned");
    bench.works("score @pruned --task @task.toml --by signed");
    bench.works("prune @pruned --tokens 0.5 --out @less");

    let other =
        "the prompt was made for another task: its template is \"review: {text}\", the task file's is";
    bench.fails("score @tuned --task @say.toml", &["tuned: ", other, "\"say: {text}\""]);
    bench.fails("rewind @pruned --to @tuned --task @say.toml --out @no", &[other]);
    for (to, words) in [
        ("say", "its template is \"review: {text}\", the tuned prompt's is \"say: {text}\""),
        ("short", "its number of tokens is 20, the tuned prompt's is 10"),
    ] {
        bench
            .fails(&format!("rewind @pruned --to @{to} --task @task.toml --out @no"), &["pruned to ", words]);
    }
    bench.fails(
        "rewind @pruned --to @less --task @task.toml --out @no",
        &["80 of the pieces that are kept have no values in the tuned prompt"],
    );
    bench.fails("score @missing --task @task.toml", &["missing: No such file"]);
    assert!(!bench.at("no").exists() && !bench.at("no.underway").exists());
}

#[test]
fn help_lists_the_commands_in_the_order_of_the_method() {
    let bench = Bench::new(TASK);
    let help = bench.works("help");
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let order = [
        "check",
        "run",
        "tune",
        "score",
        "prune",
        "rewind",
        "eval",
        "report",
        "inspect",
        "import",
        "export",
        "graph",
        "fetch",
        "completions",
        "manual",
    ];
    assert_eq!(commands[..order.len()], order);
    assert_eq!(commands[order.len()..], ["help"]);
    for command in order {
        let help = bench.works(&format!("{command} --help"));
        assert!(help.contains("Example") && help.contains(&format!("xprompt-trainer {command} ")), "{help}");
    }
}
