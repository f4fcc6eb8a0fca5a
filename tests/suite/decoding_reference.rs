use std::collections::BTreeMap;

use serde_json::Value;
use xprompt::engine::{BeamSettings, Decoding, Generator, Method, Sampling, Source};

use crate::answers_reference::Examples;
use crate::support::{Tensors, fixtures, model, nano};

fn beams(case: &Value) -> Decoding {
    let count = case["num_beams"].as_u64().unwrap() as usize;
    let length_penalty = case["length_penalty"].as_f64().unwrap() as f32;
    Decoding {
        max_new_tokens: case["max_new_tokens"].as_u64().unwrap() as usize,
        method: Method::Beams(BeamSettings { count, length_penalty }),
    }
}

/// A copy of a model with another end token.
fn with_end_token(name: &str, eos: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(fixtures().join("models").join(name)).unwrap() {
        let path = file.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["eos_token_id"] = eos.into();
    std::fs::write(&path, config.to_string()).unwrap();
    folder
}

#[test]
fn beam_search_finds_the_texts_that_transformers_finds_alone_and_side_by_side() {
    let expected = std::fs::read_to_string(fixtures().join("expected/decoding.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let mut by_model: BTreeMap<(String, u64), Vec<&Value>> = BTreeMap::new();
    for case in expected["beams"].as_array().unwrap() {
        let model = (case["model"].as_str().unwrap().to_owned(), case["eos"].as_u64().unwrap());
        by_model.entry(model).or_default().push(case);
    }
    let (mut stopped, mut all) = (0, 0);
    for ((name, eos), cases) in by_model {
        let folder = with_end_token(&name, eos);
        let mut generator = Generator::new(&model(folder.path())).unwrap();
        let stored = Tensors::read(&fixtures().join(format!("expected/{name}.safetensors")));
        let examples = Examples::read(&stored);
        let sources: Vec<Source<'_>> =
            cases.iter().map(|case| examples.sources()[case["example"].as_u64().unwrap() as usize]).collect();
        let decodings: Vec<Decoding> = cases.iter().map(|&case| beams(case)).collect();
        // a greedy neighbour rides along
        let mut mixed = (sources.clone(), decodings.clone());
        mixed.0.insert(3, sources[0]);
        mixed.1.insert(3, Decoding::greedy(4));
        let mut together = generator.decode(&mixed.0, &mixed.1).unwrap();
        together.remove(3);
        for (i, case) in cases.iter().enumerate() {
            let mut want: Vec<u64> =
                case["tokens"].as_array().unwrap().iter().map(|token| token.as_u64().unwrap()).collect();
            if want.last() == Some(&eos) {
                want.pop();
                stopped += 1;
            }
            all += 1;
            let alone = generator.decode(&sources[i..=i], &decodings[i..=i]).unwrap().remove(0);
            let got: Vec<u64> = alone.tokens.iter().map(|&token| u64::from(token)).collect();
            assert_eq!(got, want, "{case}");
            assert_eq!(together[i], alone, "{case}");
        }
    }
    assert!(stopped > 50 && all - stopped > 50, "{stopped} of {all} end with the end token");
}

#[test]
fn a_drawn_text_depends_on_its_seed_and_not_on_its_batch_mates() {
    let mut generator = Generator::new(&nano()).unwrap();
    let texts: Vec<Vec<u32>> =
        (0..6).map(|i| (0..3 + 5 * i).map(|k| 20 + 31 * k + i).chain([1]).collect()).collect();
    let sources: Vec<Source<'_>> = texts.iter().map(|text| Source { prompt: &[], text }).collect();
    let sample = |seed| {
        let sampling = Sampling { temperature: 0.9, top_k: Some(50), top_p: 0.95, seed, stream: 0 };
        Decoding { max_new_tokens: 12, method: Method::Sample(sampling) }
    };
    let decodings: Vec<Decoding> = (0..6).map(sample).collect();
    let together = generator.decode(&sources, &decodings).unwrap();
    for i in 0..6 {
        let alone = generator.decode(&sources[i..=i], &decodings[i..=i]).unwrap();
        assert_eq!(alone[0], together[i]);
    }
    let other = generator.decode(&sources[..1], &[sample(77)]).unwrap();
    assert_ne!(other[0], together[0]);
}
