use std::path::Path;

use serde_json::Value;
use xprompt::task::{InputForm, Tokenizer};

use crate::support::fixtures;

/// The tokenizers of the reference, with a vocabulary that they just fit and their end token.
const TOKENIZERS: [(&str, usize, u32); 5] =
    [("byt5", 384, 1), ("byt5-hub", 272, 1), ("byt5-saved", 261, 1), ("bpe", 300, 2), ("unigram", 71, 1)];

fn open(name: &str, vocabulary: usize, eos: u32) -> Result<Tokenizer, String> {
    let folder = fixtures().join("tokenizers").join(name);
    Tokenizer::open(&folder, vocabulary, eos).map_err(|error| error.to_string())
}

fn reference(name: &str) -> Value {
    let path = fixtures().join("tokenizers").join(format!("{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn texts_are_cut_as_transformers_cuts_them() {
    for (name, vocabulary, eos) in TOKENIZERS {
        let tokenizer = open(name, vocabulary, eos).unwrap();
        for case in reference(name)["texts"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.source(text).unwrap(), ids(&case["ids"]), "{name}: {text:?}");
            assert_eq!(tokenizer.words(text).unwrap(), ids(&case["words"]), "{name}: {text:?}");
        }
    }
}

#[test]
fn ids_are_put_together_as_transformers_does() {
    for (name, vocabulary, eos) in TOKENIZERS {
        let tokenizer = open(name, vocabulary, eos).unwrap();
        for case in reference(name)["decoded"].as_array().unwrap() {
            assert_eq!(
                tokenizer.decode(&ids(&case["ids"])).unwrap(),
                case["text"].as_str().unwrap(),
                "{name}"
            );
        }
    }
}

#[test]
fn a_text_that_is_cut_keeps_what_stands_around_it() {
    let bpe = open("bpe", 300, 2).unwrap();
    let (cut, tokens) = bpe.source_within("def add(first, second)", 5).unwrap();
    assert_eq!((cut[0], cut[4], cut.len()), (1, 2, 5));
    assert!(tokens > 5);
    assert_eq!(bpe.answer("x").unwrap()[0], 1, "an answer begins as every text of this tokenizer");
    // a field of a ByT5's text is cut between characters
    let byt5 = open("byt5", 384, 1).unwrap();
    let form = InputForm::new("{a} {b}", &["b".to_owned()], 8).unwrap();
    let (ids, tokens) = form.source(&["größe".to_owned(), "ß?".to_owned()], &byt5).unwrap();
    assert_eq!((byt5.decode(&ids).unwrap().as_str(), tokens), ("gr ß?", 12));
}

#[test]
fn a_vocabulary_that_is_too_small_is_refused() {
    for (name, vocabulary, eos) in TOKENIZERS {
        let error = open(name, vocabulary - 1, eos).unwrap_err();
        assert!(error.contains(&format!("token ids reach {}", vocabulary - 1)), "{name}: {error}");
    }
}

fn refused(files: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    Tokenizer::open(folder.path(), 384, 1)
        .unwrap_err()
        .to_string()
        .replace(&*folder.path().to_string_lossy(), "F")
}

#[test]
fn a_folder_without_a_tokenizer_says_what_to_do() {
    let error = refused(&[]);
    assert!(error.contains("F/tokenizer.json: ") && error.contains("tokenizer.json"), "{error}");
    for slow in ["spiece.model", "vocab.json"] {
        let error = refused(&[(slow, "")]);
        assert!(error.contains(&format!("{slow} is not read")), "{error}");
        assert!(error.contains("T.from_pretrained('F').save_pretrained('F')"), "{error}");
    }
}

#[test]
fn special_tokens_that_a_byt5_cannot_have_are_named() {
    let config = |rest: &str| format!(r#"{{"tokenizer_class": "ByT5Tokenizer", {rest}}}"#);
    for (rest, named) in [
        (r#""added_tokens_decoder": {"7": {"content": "</s>"}}"#, "has the id 7"),
        (r#""added_tokens_decoder": {"x": {"content": "</s>"}}"#, "added_tokens_decoder.x"),
        (r#""added_tokens_decoder": {"1": {"content": "</t>"}}"#, "the end token"),
        (r#""eos_token": {"content": "</s>", "single_word": true}"#, "single_word"),
        (r#""eos_token": """#, "special token 1"),
        (r#""extra_ids": "many""#, "invalid type"),
    ] {
        let error = refused(&[("tokenizer_config.json", &config(rest))]);
        assert!(error.contains("F/tokenizer_config.json: ") && error.contains(named), "{rest}: {error}");
    }
    let class = r#"{"tokenizer_class": "ByT5Tokenizer"}"#;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), class).unwrap();
    assert!(Tokenizer::open(Path::new(folder.path()), 384, 1).is_ok(), "config.json may name it too");
}
