//! ByT5's tokenizer: a token for each byte of UTF-8, behind the three special ones. It has no file; what its
//! `tokenizer_config.json` may say of special tokens is honoured.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::TokenizerError;

/// The id of byte 0; before it stand the padding, the end and the unknown token.
const FIRST_BYTE: u32 = 3;
/// The first id behind the bytes.
const FIRST_EXTRA: u32 = FIRST_BYTE + 256;
/// Sentinels of a ByT5 whose configuration names none.
const EXTRA_IDS: u32 = 125;

/// The tokenizer of a ByT5.
#[derive(Debug)]
pub(super) struct Bytes {
    special: Vec<Special>,
    eos: u32,
}

/// A token with a text of its own.
#[derive(Debug)]
struct Special {
    text: String,
    id: u32,
    /// Whether it swallows white space before it.
    lstrip: bool,
    /// Whether it swallows white space behind it.
    rstrip: bool,
}

/// What is read of `tokenizer_config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Keys {
    tokenizer_class: Option<String>,
    extra_ids: Option<u32>,
    additional_special_tokens: Option<Vec<Token>>,
    pad_token: Option<Token>,
    eos_token: Option<Token>,
    unk_token: Option<Token>,
    added_tokens_decoder: Option<serde_json::Map<String, Value>>,
}

/// A token as a text, or with its properties.
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Full(Full),
}

#[derive(Deserialize)]
struct Full {
    content: String,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
}

// === impl Bytes ===

impl Bytes {
    /// The tokenizer of a folder whose `tokenizer_config.json`, or else `config.json`, names ByT5's, and the file that does.
    pub(super) fn of(folder: &Path) -> Result<Option<(Self, PathBuf)>, TokenizerError> {
        for name in ["tokenizer_config.json", "config.json"] {
            let path = folder.join(name);
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let wrong = |reason: String| TokenizerError::Parse { path: path.clone(), reason };
            let value: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
            let Some(class) = value["tokenizer_class"].as_str() else { continue };
            if class != "ByT5Tokenizer" {
                return Ok(None);
            }
            // config.json has keys of the same names that mean the model's
            let keys: Keys = match name {
                "config.json" => Keys::default(),
                _ => serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?,
            };
            return Ok(Some((Self::new(keys).map_err(wrong)?, path)));
        }
        Ok(None)
    }

    fn new(keys: Keys) -> Result<Self, String> {
        let usual = |token: Option<Token>, text: &str| {
            token.unwrap_or_else(|| Token::Text(text.to_owned())).special(true)
        };
        let pad = usual(keys.pad_token, "<pad>");
        let eos = usual(keys.eos_token, "</s>");
        let unknown = usual(keys.unk_token, "<unk>");
        let extra = match keys.additional_special_tokens {
            Some(tokens) if !tokens.is_empty() => tokens,
            _ => {
                let count = keys.extra_ids.unwrap_or(EXTRA_IDS);
                (0..count).map(|i| Token::Text(format!("<extra_id_{i}>"))).collect()
            }
        };
        let extra = extra.into_iter().map(|token| token.special(false));
        let eos_text = eos.content.clone();
        let mut special: Vec<Special> = Vec::new();
        for (id, token) in (0..FIRST_BYTE).zip([pad, eos, unknown]).chain((FIRST_EXTRA..).zip(extra)) {
            special.push(Special::new(id, token)?);
        }
        if let Some(map) = keys.added_tokens_decoder {
            special.clear();
            for (id, token) in map {
                let wrong = |reason: &dyn std::fmt::Display| format!("added_tokens_decoder.{id}: {reason}");
                let number = id.parse().map_err(|error| wrong(&error))?;
                let token = Full::deserialize(&token).map_err(|error| wrong(&error))?;
                special.push(Special::new(number, token)?);
            }
        }
        let eos = special.iter().find(|token| token.text == eos_text).map(|token| token.id);
        let eos =
            eos.ok_or_else(|| format!("added_tokens_decoder has no token {eos_text:?}, the end token"))?;
        // of two that begin alike the longer is meant
        special.sort_by_key(|token| std::cmp::Reverse(token.text.len()));
        Ok(Self { special, eos })
    }

    /// The end token.
    pub(super) fn eos(&self) -> u32 {
        self.eos
    }

    /// The largest id.
    pub(super) fn largest(&self) -> u32 {
        self.special.iter().map(|token| token.id).fold(FIRST_EXTRA - 1, u32::max)
    }

    /// A text that is the same for tokenizers that are the same.
    pub(super) fn describe(&self) -> String {
        format!("ByT5 {self:?}")
    }

    /// The tokens of a text, each with the place in bytes where it ends.
    pub(super) fn cut(&self, text: &str) -> impl Iterator<Item = (u32, usize)> {
        let mut tokens = Vec::with_capacity(text.len());
        let bytes = |from: usize, to: usize| {
            let each = text.as_bytes()[from..to].iter().zip(from + 1..);
            each.map(|(&byte, end)| (FIRST_BYTE + u32::from(byte), end))
        };
        // where the bytes begin that no token has yet
        let mut open = 0;
        let mut at = 0;
        while at < text.len() {
            let found = self.special.iter().find(|token| text[at..].starts_with(&token.text));
            let Some(token) = found else {
                at = text.ceil_char_boundary(at + 1);
                continue;
            };
            let before = &text[open..at];
            let before = if token.lstrip { before.trim_end_matches(is_space) } else { before };
            tokens.extend(bytes(open, open + before.len()));
            at += token.text.len();
            tokens.push((token.id, at));
            if token.rstrip {
                at = text.len() - text[at..].trim_start_matches(is_space).len();
            }
            open = at;
        }
        tokens.extend(bytes(open, text.len()));
        tokens.into_iter()
    }

    /// The text of the bytes among the tokens; what is no UTF-8 is left out.
    pub(super) fn decode(&self, ids: &[u32]) -> String {
        let byte = |&id: &u32| u8::try_from(id.checked_sub(FIRST_BYTE)?).ok();
        let bytes: Vec<u8> = ids.iter().filter_map(byte).collect();
        bytes.utf8_chunks().map(|chunk| chunk.valid()).collect()
    }
}

/// White space as Python's `str.strip` has it.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

// === impl Token ===

impl Token {
    /// With its properties; `strips` are those of a text without.
    fn special(self, strips: bool) -> Full {
        match self {
            Self::Text(content) => Full { content, lstrip: strips, rstrip: strips, single_word: false },
            Self::Full(full) => full,
        }
    }
}

// === impl Special ===

impl Special {
    fn new(id: u32, token: Full) -> Result<Self, String> {
        let Full { content, lstrip, rstrip, single_word } = token;
        if content.is_empty() || single_word {
            return Err(format!(
                "special token {id}, {content:?}: it has a text, and single_word is not built"
            ));
        }
        if (FIRST_BYTE..FIRST_EXTRA).contains(&id) {
            return Err(format!("special token {content:?} has the id {id}, which is that of a byte"));
        }
        Ok(Self { text: content, id, lstrip, rstrip })
    }
}
