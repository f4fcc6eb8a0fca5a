use xprompt::engine::{Generator, Scorer, Source};
use xprompt::task::{LabelTrie, Tokenizer};

use crate::support::{Tensors, VARIANTS, fixtures, model, nano, references, root};

const D: usize = 32;
const VOCABULARY: usize = 96;
const EOS: u32 = 1;

/// The reference examples as sources of the engine.
pub struct Examples {
    prompts: Vec<Vec<f32>>,
    texts: Vec<Vec<u32>>,
}

impl Examples {
    pub fn read(expected: &Tensors) -> Self {
        let rows = expected.f32s("prompts");
        let per_prompt = expected.shape("prompts")[1] * D;
        let lengths = expected.i64s("prompt_lengths");
        let prompts = expected
            .i64s("prompt_index")
            .into_iter()
            .zip(lengths)
            .map(|(prompt, length)| rows[prompt as usize * per_prompt..][..length as usize * D].to_vec());
        let width = expected.shape("text_ids")[1];
        let ids = expected.i64s("text_ids");
        let lengths = expected.i64s("text_lengths").into_iter().enumerate();
        let texts = lengths
            .map(|(i, length)| ids[i * width..][..length as usize].iter().map(|&id| id as u32).collect());
        Self { prompts: prompts.collect(), texts: texts.collect() }
    }

    pub fn sources(&self) -> Vec<Source<'_>> {
        self.prompts.iter().zip(&self.texts).map(|(prompt, text)| Source { prompt, text }).collect()
    }
}

/// Labels by name, as tokens of their words.
type Labels = Vec<(String, Vec<u32>)>;

/// Labels of the reference and, for each example, the probabilities that follow from transformers' logits:
/// at every token of a label the softmax over the tokens that continue a label with the same beginning.
fn reference_labels(expected: &Tensors) -> (Labels, Vec<Vec<f64>>) {
    let (ids, width) = (expected.i64s("labels"), expected.shape("labels")[1]);
    let lengths = expected.i64s("label_lengths").into_iter().enumerate();
    let labels: Labels = lengths
        .map(|(i, length)| {
            let tokens = ids[i * width..][..length as usize].iter().map(|&id| id as u32).collect();
            (i.to_string(), tokens)
        })
        .collect();
    let ended: Vec<Vec<u32>> =
        labels.iter().map(|(_, tokens)| tokens.iter().copied().chain([EOS]).collect()).collect();
    let logits = expected.f32s("label_logits");
    let examples = expected.shape("label_logits")[0];
    let probabilities = (0..examples).map(|example| {
        let label = |label: usize| {
            let tokens = &ended[label];
            let step = |at: usize| {
                let row = ((example * labels.len() + label) * width + at) * VOCABULARY;
                let logit = |token: u32| f64::from(logits[row + token as usize]);
                let mut continuing: Vec<u32> = ended
                    .iter()
                    .filter(|other| other.len() > at && other[..at] == tokens[..at])
                    .map(|other| other[at])
                    .collect();
                continuing.sort_unstable();
                continuing.dedup();
                let total: f64 = continuing.iter().map(|&token| logit(token).exp()).sum();
                logit(tokens[at]).exp() / total
            };
            (0..tokens.len()).map(step).product::<f64>()
        };
        (0..labels.len()).map(label).collect()
    });
    let probabilities = probabilities.collect();
    (labels, probabilities)
}

#[test]
fn label_probabilities_follow_from_transformers_logits() {
    for name in VARIANTS {
        let expected = Tensors::read(&fixtures().join(format!("expected/{name}.safetensors")));
        let (labels, want) = reference_labels(&expected);
        let trie = LabelTrie::new(&labels, 0, EOS).unwrap();
        let examples = Examples::read(&expected);
        let mut scorer = Scorer::new(&model(&fixtures().join("models").join(name))).unwrap();
        let items: Vec<_> = examples.sources().into_iter().map(|source| (source, &trie)).collect();
        for (got, want) in scorer.score(&items).unwrap().iter().zip(&want) {
            assert!((got.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            for (&got, want) in got.iter().zip(want) {
                assert!((f64::from(got) - want).abs() < 1e-4, "{name}: {got} against {want}");
            }
        }
    }
}

#[test]
fn greedy_generation_repeats_transformers_token_by_token() {
    for (name, folder, expected) in references() {
        let examples = Examples::read(&expected);
        let model = model(&folder);
        let eos = model.config().eos_token_id;
        let mut generator = Generator::new(&model).unwrap();
        let steps = expected.shape("generated")[1];
        let texts = generator.generate(&examples.sources(), &vec![steps; examples.texts.len()]).unwrap();
        for (text, want) in texts.iter().zip(expected.i64s("generated").chunks(steps)) {
            // the reference goes on after the end token
            let want: Vec<u32> = want.iter().map(|&id| id as u32).take_while(|&id| id != eos).collect();
            assert_eq!(text.tokens, want, "{name}");
        }
    }
}

/// The promise that batches may mix anything: a probability moves by less than 1e-5 with its batch mates.
#[test]
fn any_batch_gives_each_input_the_scores_it_gets_alone() {
    let model = nano();
    let config = model.config();
    let tokenizer = Tokenizer::open(&root().join("models/t5-nano"), config.vocab_size, EOS).unwrap();
    let rows = |from: usize, count: usize| -> Vec<f32> {
        let checkpoint = model.checkpoint();
        (from..from + count).flat_map(|id| checkpoint.row(checkpoint.embedding(), id)).collect()
    };
    let prompts = [rows(100, 20), rows(300, 7), rows(500, 1), Vec::new()];
    let tries =
        [&["positive", "negative"][..], &["sport", "business news", "business", "politics"], &["a", "b"]]
            .map(|words| {
                let labels: Vec<_> =
                    words.iter().map(|&word| (word.to_owned(), tokenizer.words(word).unwrap())).collect();
                LabelTrie::new(&labels, 0, EOS).unwrap()
            });
    let text = "the quick brown fox jumps over the lazy dog and then it goes on and on until nobody listens";
    let words: Vec<&str> = text.split(' ').collect();
    let texts: Vec<Vec<u32>> =
        (0..24).map(|i| tokenizer.source(&words[..i * 7 % words.len()].join(" ")).unwrap()).collect();
    let items: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| (Source { prompt: &prompts[i % prompts.len()], text }, &tries[i % tries.len()]))
        .collect();
    let mut scorer = Scorer::new(&model).unwrap();
    let alone: Vec<Vec<f32>> =
        items.iter().map(|item| scorer.score(std::slice::from_ref(item)).unwrap().remove(0)).collect();
    for batch in [2, 5, 24] {
        let mixed: Vec<Vec<f32>> =
            items.chunks(batch).flat_map(|chunk| scorer.score(chunk).unwrap()).collect();
        for (mixed, alone) in mixed.iter().flatten().zip(alone.iter().flatten()) {
            assert!((mixed - alone).abs() < 1e-5, "{mixed} in a batch of {batch}, {alone} alone");
        }
    }
}

#[test]
fn the_bundled_model_cuts_and_continues_texts_as_transformers_does() {
    let expected = std::fs::read_to_string(fixtures().join("expected/t5-nano.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
    let model = nano();
    let tokenizer = Tokenizer::open(&root().join("models/t5-nano"), model.config().vocab_size, EOS).unwrap();
    let ids = |value: &serde_json::Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let mut generator = Generator::new(&model).unwrap();
    for case in expected["examples"].as_array().unwrap() {
        let source = tokenizer.source(case["text"].as_str().unwrap()).unwrap();
        assert_eq!(source, ids(&case["input_ids"]));
        let steps = 12;
        let text = generator.generate(&[Source { prompt: &[], text: &source }], &[steps]).unwrap().remove(0);
        let want: Vec<u32> = ids(&case["generated"]).into_iter().filter(|&id| id != EOS).collect();
        assert_eq!(text.tokens, want, "{}", case["text"]);
    }
}
