//! The trainer's arithmetic with the bundled model: loss, importance, initialization.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use xprompt::engine::{Answers, Source};
use xprompt::prompt::{Label, OutputSpec, Prompt};
use xprompt_trainer::data::{Example, Target};
use xprompt_trainer::importance::importance;
use xprompt_trainer::initialize::initialize;
use xprompt_trainer::setup::Setup;
use xprompt_trainer::task_file::Initialization;
use xprompt_trainer::tuner::{Tuned, Tuner};

const WORDS: [&str; 4] = ["sport", "business", "business news", "business news today"];
const TEXTS: [&str; 3] = ["shares fell on monday", "a late goal won the cup for the visitors", "x"];

fn setup() -> Setup {
    Setup::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/t5-nano"), None, Some(2)).unwrap()
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
    let mut setup = setup();
    let answers = answers(&setup);
    let Answers::Labels { trie, .. } = &answers else { unreachable!() };
    let prompts = [rows(&setup, 200..205), rows(&setup, 300..301)];
    let texts = TEXTS.map(|text| setup.tokenizer.source(text).unwrap());
    let mut tuner = Tuner::new(&setup.model, &answers).unwrap();
    let targets: Vec<Target> = (0..WORDS.len()).map(Target::Label).collect();
    let mut examples = Vec::new();
    for prompt in &prompts {
        for text in &texts {
            for target in &targets {
                examples.push(Tuned { source: Source { prompt, text }, target });
            }
        }
    }
    let losses = tuner.contributions(&examples).unwrap();
    let scored: Vec<_> = examples.iter().map(|example| (example.source, trie)).collect();
    let scores = setup.scorer.score(&scored).unwrap();
    for (i, (loss, scores)) in losses.iter().zip(&scores).enumerate() {
        let want = -scores[i % WORDS.len()].ln();
        assert!((loss.loss - want).abs() < 1e-3 * (1.0 + want), "{} against {want}", loss.loss);
        assert_eq!(loss.gradient.len(), examples[i].source.prompt.len());
    }
}

/// I(i) = E_x |dL(x)/dgamma_i| and its like for pieces, with each derivative taken by central differences of the
/// mask itself.
#[test]
fn importance_is_the_mean_absolute_derivative_of_the_loss_by_the_mask() {
    let setup = setup();
    let answers = answers(&setup);
    let mut tuner = Tuner::new(&setup.model, &answers).unwrap();
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
    let got = importance(&prompt, &chosen, 2, &mut tuner, |_| {}).unwrap();

    let step = 0.02f32;
    let mut derivative = |range: std::ops::Range<usize>| -> f64 {
        let mut loss = |mask: f32| -> Vec<f32> {
            let mut rows = prompt.rows().to_vec();
            rows[range.clone()].iter_mut().for_each(|x| *x *= mask);
            let tuned: Vec<Tuned<'_>> = examples
                .iter()
                .map(|e| Tuned { source: Source { prompt: &rows, text: &e.source }, target: &e.target })
                .collect();
            tuner.contributions(&tuned).unwrap().iter().map(|c| c.loss).collect()
        };
        let (above, below) = (loss(1.0 + step), loss(1.0 - step));
        let each = above.iter().zip(&below).map(|(a, b)| f64::from((a - b) / (2.0 * step)).abs());
        each.sum::<f64>() / examples.len() as f64
    };
    for token in 0..4 {
        let (want, got) = (derivative(token * 256..(token + 1) * 256), f64::from(got.tokens[token]));
        assert!((want - got).abs() < 0.02 * (0.05 + want), "token {token}: {got} against {want}");
    }
    for piece in [0, 17, 35, 63] {
        let (want, got) = (derivative(piece * 16..(piece + 1) * 16), f64::from(got.pieces[piece]));
        assert!((want - got).abs() < 0.02 * (0.05 + want), "piece {piece}: {got} against {want}");
    }
}

#[test]
fn prompts_start_from_vocabulary_or_label_embeddings() {
    let setup = setup();
    let checkpoint = setup.model.checkpoint();
    let start = |how, seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        initialize(how, 20, &labels(), checkpoint, &setup.tokenizer, &mut rng).unwrap()
    };
    let sampled = start(Initialization::SampledVocabulary, 1);
    assert_eq!(sampled, start(Initialization::SampledVocabulary, 1));
    assert_ne!(sampled, start(Initialization::SampledVocabulary, 2));
    let frequent: Vec<Vec<f32>> = (0..5000).map(|id| rows(&setup, id..id + 1)).collect();
    assert!(sampled.chunks(256).all(|row| frequent.iter().any(|known| known == row)));

    let classes = start(Initialization::ClassLabels, 1);
    let words: Vec<Vec<f32>> = setup
        .tokenizer
        .words("business news")
        .unwrap()
        .iter()
        .map(|&id| rows(&setup, id as usize..id as usize + 1))
        .collect();
    for (i, &x) in classes[2 * 256..3 * 256].iter().enumerate() {
        let mean = words.iter().map(|row| row[i]).sum::<f32>() / words.len() as f32;
        assert!((x - mean).abs() < 1e-6, "label 2 starts as the mean of its words");
    }
    assert!(classes[4 * 256..].chunks(256).all(|row| frequent.iter().any(|known| known == row)));
}
