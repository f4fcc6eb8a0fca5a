use xprompt::engine::{Answers, ReadyTask, Scorer, Source};
use xprompt::prompt::{Limits, PromptFile};
use xprompt::runtime::{Model, Precision};

use crate::narrow::{FORMATS, is_here, of_copy};
use crate::prompts::lab;
use crate::support::root;

#[test]
fn the_bundled_prompts_repeat_their_golden_examples_on_the_bundled_model() {
    repeat_golden_examples(&lab().model, 1e-3);
}

#[test]
fn the_bundled_prompts_repeat_their_golden_examples_nearly_in_narrow_numbers() {
    for (precision, _) in FORMATS.into_iter().filter(|&(precision, _)| is_here(precision)) {
        let tolerance = if precision == Precision::Int8 { 0.1 } else { 0.02 };
        repeat_golden_examples(&of_copy(&root().join("models/t5-nano"), precision), tolerance);
    }
}

fn repeat_golden_examples(model: &Model, tolerance: f32) {
    let lab = lab();
    let mut scorer = Scorer::new(model).unwrap();
    for (name, made_by) in [("tweet-sentiment", "tweets"), ("bbc-topics", "bbc")] {
        let recipe = root().join(format!("trainer/experiments/{made_by}.toml"));
        assert!(recipe.exists(), "{name} says how it was made");
        let path = root().join(format!("prompts/{name}.safetensors"));
        let (file, version) = PromptFile::read(&path, &Limits::default()).unwrap();
        assert_eq!(file.to_bytes().unwrap(), std::fs::read(&path).unwrap(), "what is not said stays unsaid");
        file.verify(&lab.base).unwrap();
        let task = ReadyTask::new(file, version, &lab.tokenizer, lab.model.config()).unwrap();
        let Answers::Labels { trie, .. } = task.answers() else { panic!("{name} has labels") };
        assert!(!task.manifest().golden.is_empty());
        for golden in &task.manifest().golden {
            let (text, _) = task.encode(&golden.input, &lab.tokenizer, true).unwrap();
            let scores = scorer.score(&[(Source { prompt: task.rows(), text: &text }, trie)]).unwrap();
            for (got, want) in scores[0].iter().zip(&golden.scores) {
                assert!((got - want).abs() < tolerance, "{name}: {got} against {want}");
            }
        }
    }
}
