//! Words that were cut into tokens before.
//!
//! Sentencepiece's tokenizers cut a text at its spaces and each word by itself, so that a word always has the same tokens.
//! Most of the time of a tokenizer goes into keeping track of where they came from, which nobody asks here.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{PoisonError, RwLock};

use serde_json::Value;
use tokenizers::{Model as _, ModelWrapper, NormalizedString, Normalizer as _, Tokenizer};

/// Words that are kept; when there are more, all are forgotten.
const WORDS: usize = 32 * 1024;
/// Bytes of a word that is kept.
const WORD_BYTES: usize = 48;

/// Characters that texts are mostly of: none of them joins another, whatever stands beside it.
const USUAL: [RangeInclusive<char>; 4] =
    ['!'..='~', '\u{a1}'..='\u{17f}', '\u{2010}'..='\u{2027}', '\u{20a0}'..='\u{20bf}'];
/// The white space between words, beside which others are rare.
const SPACES: [char; 4] = [' ', '\t', '\n', '\r'];

/// What is remembered of a tokenizer that cuts word by word.
#[derive(Debug)]
pub(super) struct Memo {
    tokens: RwLock<HashMap<Box<str>, Box<[u32]>>>,
    /// What stands before each word when the vocabulary is searched.
    mark: String,
    /// Whether a character may be in a word that is cut by itself: it is left as it is, begins no special token, and
    /// is no mark.
    plain: Vec<bool>,
    /// Whether white space of any kind and length is as good as one space.
    runs: bool,
}

/// Whether what a normalizer does to a character depends on that character alone, if it is a [`USUAL`] one, and words stay
/// apart.
fn keeps_words(normalizer: &Value) -> bool {
    match normalizer["type"].as_str() {
        None => normalizer.is_null(),
        Some("NFC" | "NFKC" | "Precompiled" | "Strip") => true,
        Some("Replace") => matches!(normalizer["pattern"]["Regex"].as_str(), Some(r"\s+" | " {2,}")),
        Some("Sequence") => {
            normalizer["normalizers"].as_array().is_some_and(|all| all.iter().all(keeps_words))
        }
        Some(_) => false,
    }
}

/// What is put before each word, if words are cut apart.
fn mark_of(pre_tokenizer: &Value) -> Option<&str> {
    let mark = match pre_tokenizer["pretokenizers"].as_array().map(Vec::as_slice) {
        None => pre_tokenizer,
        Some([spaces, mark]) if spaces["type"] == "WhitespaceSplit" => mark,
        Some(_) => return None,
    };
    let before_each = mark["prepend_scheme"] == "always" && mark["split"] == true;
    if mark["type"] == "Metaspace" && before_each { mark["replacement"].as_str() } else { None }
}

fn is_space(c: char) -> bool {
    SPACES.contains(&c)
}

fn ids(tokenizer: &Tokenizer, text: &str) -> tokenizers::Result<Vec<u32>> {
    Ok(tokenizer.encode_fast(text, false)?.get_ids().to_vec())
}

// === impl Memo ===

impl Memo {
    /// For a tokenizer that is known to cut word by word.
    pub(super) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let normalizer = serde_json::to_value(tokenizer.get_normalizer()).ok()?;
        let pre_tokenizer = serde_json::to_value(tokenizer.get_pre_tokenizer()).ok()?;
        let ModelWrapper::Unigram(model) = tokenizer.get_model() else { return None };
        let draws = model.alpha.is_some_and(|alpha| alpha > 0.0);
        if draws || !keeps_words(&normalizer) {
            return None;
        }
        let mark = mark_of(&pre_tokenizer)?.to_owned();
        let mut plain = Vec::new();
        for usual in USUAL.into_iter().flatten() {
            let mut normalized = NormalizedString::from(usual.to_string());
            if let Some(normalizer) = tokenizer.get_normalizer() {
                normalizer.normalize(&mut normalized).ok()?;
            }
            plain.resize(usual as usize + 1, false);
            plain[usual as usize] = normalized.get().chars().eq([usual]);
        }
        // special tokens are found before words are, and a mark within a word cuts it
        let tokens = tokenizer.get_added_tokens_decoder().into_values();
        let first_of_each: Option<String> = tokens.map(|token| token.content.chars().next()).collect();
        for c in first_of_each?.chars().chain(mark.chars()) {
            if let Some(plain) = plain.get_mut(c as usize) {
                *plain = false;
            }
        }
        let two = ids(tokenizer, "a b").ok()?;
        if two != [ids(tokenizer, "a").ok()?, ids(tokenizer, "b").ok()?].concat() {
            return None;
        }
        let mut runs = SPACES.into_iter().flat_map(|a| SPACES.map(|b| format!("a{a}{b}b")));
        let runs = runs.all(|text| ids(tokenizer, &text).is_ok_and(|ids| ids == two));
        Some(Self { tokens: RwLock::default(), mark, plain, runs })
    }

    /// Whether a text has only plain words.
    pub(super) fn knows(&self, text: &str) -> bool {
        let is_plain = |c: char| is_space(c) || self.plain.get(c as usize).is_some_and(|&plain| plain);
        let stands_alone = |word: &str| !word.is_empty() && !word.contains(is_space);
        !text.is_empty()
            && text.chars().all(is_plain)
            && text.trim_matches(is_space).len() == text.len()
            && (self.runs || text.split(' ').all(stands_alone))
    }

    /// The ids of a text of plain words.
    pub(super) fn cut(&self, text: &str, tokenizer: &Tokenizer) -> tokenizers::Result<Vec<u32>> {
        let mut all = Vec::with_capacity(text.len() / 3);
        let mut known = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        for word in text.split(is_space).filter(|word| !word.is_empty()) {
            if let Some(ids) = known.get(word) {
                all.extend(ids);
                continue;
            }
            drop(known);
            let cut = tokenizer.get_model().tokenize(&[&self.mark, word].concat())?;
            let ids: Box<[u32]> = cut.into_iter().map(|token| token.id).collect();
            all.extend(&ids);
            self.learn(word, ids);
            known = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        }
        Ok(all)
    }

    fn learn(&self, word: &str, ids: Box<[u32]>) {
        if word.len() > WORD_BYTES {
            return;
        }
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= WORDS {
            tokens.clear();
        }
        tokens.insert(word.into(), ids);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// The bundled model's tokenizer, with parts replaced.
    fn tokenizer(parts: &Value) -> Tokenizer {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/t5-nano/tokenizer.json");
        let mut whole: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for (key, part) in parts.as_object().unwrap() {
            whole[key] = part.clone();
        }
        Tokenizer::from_bytes(whole.to_string()).unwrap()
    }

    fn marks() -> Value {
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true})
    }

    /// As T5's own tokenizers cut.
    fn parted() -> Tokenizer {
        let parts = json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, marks()]});
        tokenizer(&json!({"normalizer": {"type": "NFKC"}, "pre_tokenizer": parts}))
    }

    fn same(text: &str) {
        static MEMOS: LazyLock<Vec<(Memo, Tokenizer)>> = LazyLock::new(|| {
            let all = [tokenizer(&json!({})), parted(), tokenizer(&json!({"normalizer": null}))];
            all.into_iter().map(|tokenizer| (Memo::of(&tokenizer).unwrap(), tokenizer)).collect()
        });
        for (memo, tokenizer) in &*MEMOS {
            for _ in 0..2 {
                if memo.knows(text) {
                    assert_eq!(memo.cut(text, tokenizer).unwrap(), ids(tokenizer, text).unwrap(), "{text:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_text_is_cut_as_by_the_tokenizer(text in "[ -~\u{a0}-\u{17f}\u{2010}-\u{2028}]{0,60}", words in "([a-z,.'-]{1,9}[ \t\n\r]{1,2}){1,9}[A-Z!?0-9]{1,60}") {
            same(&text);
            same(&words);
        }
    }

    #[test]
    fn white_space_counts_where_the_tokenizer_counts_it() {
        let cuts = |tokenizer: &Tokenizer, text: &str| Memo::of(tokenizer).unwrap().knows(text);
        let bare = tokenizer(&json!({"normalizer": null}));
        for text in ["two  words", "two\nlines", "a\t\rb"] {
            assert!(
                cuts(&parted(), text) && cuts(&tokenizer(&json!({})), text) && !cuts(&bare, text),
                "{text:?}"
            );
        }
        for text in
            ["", " before", "behind ", "cafe\u{301}", "a </s>", "nul\0", "\u{fb01}n", "a\u{a0}b", "\u{bd}"]
        {
            assert!(!cuts(&parted(), text), "{text:?}");
        }
        for text in ["The film was a waste.", "\u{201c}caf\u{e9}\u{201d} \u{2013} \u{20ac}5, \u{a3}4"] {
            assert!(cuts(&parted(), text) && cuts(&bare, text), "{text:?}");
        }
    }

    #[test]
    fn a_mark_of_usual_characters_is_in_no_word() {
        let marks =
            json!({"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": true});
        let tokenizer = tokenizer(&json!({"pre_tokenizer": marks}));
        let memo = Memo::of(&tokenizer).unwrap();
        assert!(memo.knows("snake case") && !memo.knows("snake_case"));
    }

    #[test]
    fn a_tokenizer_whose_words_are_not_by_themselves_has_no_memo() {
        let first =
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true});
        let whole =
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false});
        let digits = json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, marks()]});
        let letters = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "b"});
        for parts in [
            json!({"pre_tokenizer": first}),
            json!({"pre_tokenizer": whole}),
            json!({"pre_tokenizer": digits}),
            json!({"pre_tokenizer": null}),
            json!({"normalizer": {"type": "Lowercase"}}),
            json!({"normalizer": letters}),
        ] {
            assert!(Memo::of(&tokenizer(&parts)).is_none(), "{parts}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let tokenizer = parted();
        let memo = Memo::of(&tokenizer).unwrap();
        for i in 0..=WORDS {
            memo.learn(&i.to_string(), [1].into());
        }
        memo.learn(&"w".repeat(WORD_BYTES + 1), [1].into());
        assert_eq!(memo.tokens.read().unwrap().len(), 1);
    }
}
