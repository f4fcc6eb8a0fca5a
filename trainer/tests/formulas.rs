//! The trainer's arithmetic with the bundled model: loss and importance.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

use std::path::Path;

use xprompt::engine::{Answers, Scorer, Source};
use xprompt::prompt::{Label, OutputSpec, Prompt};
use xprompt_trainer::example::{Example, Target};
use xprompt_trainer::importance::importance;
use xprompt_trainer::setup::{Options, Setup};
use xprompt_trainer::tuner::Tuned;

const WORDS: [&str; 4] = ["sport", "business", "business news", "business news today"];
const TEXTS: [&str; 3] = ["shares fell on monday", "a late goal won the cup for the visitors", "x"];

fn setup() -> Setup {
    Setup::load(&Options {
        model: Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/t5-nano"),
        threads: Some(2),
        ..Options::default()
    })
    .unwrap()
}

fn labels() -> Vec<Label> {
    WORDS.iter().map(|&words| Label { name: words.into(), words: words.into() }).collect()
}

fn answers(setup: &Setup) -> Answers {
    Answers::new(&OutputSpec::Labels { labels: labels() }, &setup.tokenizer, setup.model.config()).unwrap()
}

fn rows(setup: &Setup, ids: std::ops::Range<usize>) -> Vec<f32> {
    let checkpoint = setup.model.checkpoint();
    ids.flat_map(|id| checkpoint.row(checkpoint.embedding(), id)).collect()
}

/// The loss that tuning lowers is the negative log of the probability that serving answers with, for labels of
/// one and of several tokens, in a batch that mixes prompts.
#[test]
fn the_tuning_loss_is_the_served_probability() {
    let setup = setup();
    let answers = answers(&setup);
    let Answers::Labels { trie, .. } = &answers else { unreachable!() };
    let prompts = [rows(&setup, 200..205), rows(&setup, 300..301)];
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
    let prompt = Prompt::dense(256, 16, rows(&setup, 200..204));
    let examples: Vec<Example> = TEXTS
        .iter()
        .enumerate()
        .map(|(i, text)| Example {
            input: serde_json::Map::new(),
            source: setup.tokenizer.source(text).unwrap(),
            target: Target::Label(i),
            accepted: Vec::new(),
            group: None,
        })
        .collect();
    let chosen: Vec<&Example> = examples.iter().collect();
    let got = importance(&prompt, &answers, &chosen, &mut tuner, |_| {}).unwrap();

    let step = 0.02f32;
    let mut derivative = |range: std::ops::Range<usize>| -> (f64, f64) {
        let mut loss = |mask: f32| -> Vec<f32> {
            let mut rows = prompt.rows().to_vec();
            rows[range.clone()].iter_mut().for_each(|x| *x *= mask);
            let tuned: Vec<Tuned<'_>> = examples
                .iter()
                .map(|e| Tuned {
                    source: Source { prompt: &rows, text: &e.source },
                    target: &e.target,
                    answers: &answers,
                })
                .collect();
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
