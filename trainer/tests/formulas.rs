//! The trainer's arithmetic with the bundled model: loss and importance.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

mod support;

use support::{embeddings, setup};
use xprompt::engine::{Answers, Scorer, Source};
use xprompt::prompt::{Label, OutputSpec, Prompt};
use xprompt::runtime::Device;
use xprompt_trainer::example::{Example, Target};
use xprompt_trainer::importance::{importance, left_out};
use xprompt_trainer::plan::Plan;
use xprompt_trainer::setup::Setup;
use xprompt_trainer::tuner::{Tuned, Tuner};

const WORDS: [&str; 4] = ["sport", "business", "business news", "business news today"];
const TEXTS: [&str; 3] = ["shares fell on monday", "a late goal won the cup for the visitors", "x"];

fn labels() -> Vec<Label> {
    WORDS.iter().map(|&words| Label { name: words.into(), words: words.into() }).collect()
}

fn answers(setup: &Setup) -> Answers {
    Answers::new(&OutputSpec::Labels { labels: labels() }, &setup.tokenizer, setup.model.config()).unwrap()
}

fn examples(setup: &Setup) -> Vec<Example> {
    let example = |(i, text): (usize, &&str)| Example {
        input: serde_json::Map::new(),
        source: setup.tokenizer.source(text).unwrap(),
        target: Target::Label(i),
        accepted: Vec::new(),
        group: None,
    };
    TEXTS.iter().enumerate().map(example).collect()
}

fn tuned<'a>(prompt: &'a [f32], examples: &'a [Example], answers: &'a Answers) -> Vec<Tuned<'a>> {
    let tuned = |example: &'a Example| Tuned {
        source: Source { prompt, text: &example.source },
        target: &example.target,
        answers,
    };
    examples.iter().map(tuned).collect()
}

fn close(want: f32, got: f32) -> bool {
    (want - got).abs() < 1e-4 * (1.0 + want.abs())
}

/// The loss that tuning lowers is the negative log of the probability that serving answers with, for labels of
/// one and of several tokens, in a batch that mixes prompts.
#[test]
fn the_tuning_loss_is_the_served_probability() {
    let setup = setup();
    let answers = answers(&setup);
    let Answers::Labels { trie, .. } = &answers else { unreachable!() };
    let prompts = [embeddings(&setup, 200..205), embeddings(&setup, 300..301)];
    let texts = TEXTS.map(|text| setup.tokenizer.source(text).unwrap());
    let mut tuner = setup.tuner();
    let targets: Vec<Target> = (0..WORDS.len()).map(Target::Label).collect();
    let mut examples = Vec::new();
    for prompt in &prompts {
        for text in &texts {
            for target in &targets {
                examples.push(Tuned { source: Source { prompt, text }, target, answers: &answers });
            }
        }
    }
    let losses = tuner.contributions(&examples).unwrap();
    let scored: Vec<_> = examples.iter().map(|example| (example.source, trie)).collect();
    let scores = Scorer::new(&setup.model).unwrap().score(&scored).unwrap();
    for (i, (loss, scores)) in losses.iter().zip(&scores).enumerate() {
        let want = -scores[i % WORDS.len()].ln();
        assert!((loss.loss - want).abs() < 1e-3 * (1.0 + want), "{} against {want}", loss.loss);
        assert_eq!(loss.gradient.len(), examples[i].source.prompt.len());
    }
}

/// I(i) = E_x |dL(x)/dgamma_i| and its like for pieces, with each derivative taken by central differences of the
/// mask itself; and the signed score beside it.
#[test]
fn importance_is_the_mean_absolute_derivative_of_the_loss_by_the_mask() {
    let setup = setup();
    let answers = answers(&setup);
    let mut tuner = setup.tuner();
    let prompt = Prompt::dense(256, 16, embeddings(&setup, 200..204));
    let examples = examples(&setup);
    let chosen: Vec<&Example> = examples.iter().collect();
    let got = importance(&prompt, &answers, &chosen, &mut tuner, |_| {}).unwrap();

    let step = 0.02f32;
    let mut derivative = |range: std::ops::Range<usize>| -> (f64, f64) {
        let mut loss = |mask: f32| -> Vec<f32> {
            let mut rows = prompt.rows().to_vec();
            rows[range.clone()].iter_mut().for_each(|x| *x *= mask);
            let tuned = tuned(&rows, &examples, &answers);
            tuner.contributions(&tuned).unwrap().iter().map(|c| c.loss).collect()
        };
        let (above, below) = (loss(1.0 + step), loss(1.0 - step));
        let each = above.iter().zip(&below).map(|(a, b)| f64::from((a - b) / (2.0 * step)));
        let (absolute, signed) =
            each.fold((0.0, 0.0), |(absolute, signed), d| (absolute + d.abs(), signed - d));
        (absolute / examples.len() as f64, signed / examples.len() as f64)
    };
    let close = |want: f64, got: f32, what: &str| {
        let got = f64::from(got);
        assert!((want - got).abs() < 0.02 * (0.05 + want.abs()), "{what}: {got} against {want}");
    };
    for token in 0..4 {
        let (absolute, signed) = derivative(token * 256..(token + 1) * 256);
        close(absolute, got.absolute.tokens[token], "token");
        close(signed, got.signed.tokens[token], "token, signed");
    }
    for piece in [0, 17, 35, 63] {
        let (absolute, signed) = derivative(piece * 16..(piece + 1) * 16);
        close(absolute, got.absolute.pieces[piece], "piece");
        close(signed, got.signed.pieces[piece], "piece, signed");
    }
}

/// Labels and free text, prompts of several lengths, each example alone and all together.
#[test]
fn losses_without_gradients_are_those_of_tuning_in_any_batch() {
    let setup = setup();
    let labels = answers(&setup);
    let text = Answers::Text { max_new_tokens: 4 };
    let said = Target::Text { tokens: setup.tokenizer.source("business news").unwrap(), text: String::new() };
    let prompts = [embeddings(&setup, 200..205), embeddings(&setup, 300..301), Vec::new()];
    let sources = TEXTS.map(|text| setup.tokenizer.source(text).unwrap());
    let label = Target::Label(2);
    let mut examples = Vec::new();
    for prompt in &prompts {
        for text_ids in &sources {
            let source = Source { prompt, text: text_ids };
            examples.push(Tuned { source, target: &label, answers: &labels });
            examples.push(Tuned { source, target: &said, answers: &text });
        }
    }
    let tuned = setup.tuner().contributions(&examples).unwrap();
    for bytes in [1, 1 << 20, 1 << 30] {
        let mut tuner = Tuner::new(std::slice::from_ref(&setup.model), Plan::new(Device::Cpu, Some(bytes)));
        let losses = tuner.losses(&examples).unwrap();
        assert_eq!(losses.len(), examples.len());
        for (tuned, loss) in tuned.iter().zip(losses) {
            assert!(close(tuned.loss, loss), "{loss} against {}", tuned.loss);
        }
    }
}

/// What is left out of a prompt is gone: a piece is zeros, a token is not in the sequence.
#[test]
fn a_left_out_score_is_the_rise_of_the_mean_loss_in_any_batch() {
    let setup = setup();
    let answers = answers(&setup);
    let prompt = Prompt::dense(256, 16, embeddings(&setup, 200..204));
    let examples = examples(&setup);
    let chosen: Vec<&Example> = examples.iter().collect();
    let mut tuner = setup.tuner();
    let mut loss = |rows: &[f32]| -> f32 {
        let tuned = tuned(rows, &examples, &answers);
        let losses = tuner.contributions(&tuned).unwrap().into_iter().map(|contribution| contribution.loss);
        losses.sum::<f32>() / examples.len() as f32
    };
    let whole = loss(prompt.rows());
    let piece = 37;
    let mut zeroed = prompt.rows().to_vec();
    zeroed[piece * 16..(piece + 1) * 16].fill(0.0);
    let without_token = [&prompt.rows()[..256], &prompt.rows()[512..]].concat();
    let want = [loss(&zeroed) - whole, loss(&without_token) - whole];
    let ranges = [piece..piece + 1, 16..32];
    for bytes in [1, 1 << 30] {
        let mut tuner = Tuner::new(std::slice::from_ref(&setup.model), Plan::new(Device::Cpu, Some(bytes)));
        let mut done = 0;
        let rises = left_out(&prompt, &answers, &chosen, &ranges, &mut tuner, |n| done += n).unwrap();
        assert_eq!(done, ranges.len());
        assert!(want.iter().zip(&rises).all(|(&want, &got)| close(want, got)), "{rises:?} against {want:?}");
    }
}
