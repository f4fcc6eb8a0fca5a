//! Text to token ids and back, by the model's own `tokenizer.json`, or by bytes for ByT5, which has none.

mod bytes;
mod frame;
mod memo;

use std::path::{Path, PathBuf};

use self::bytes::Bytes;
use self::frame::Frame;
use self::memo::Memo;
use crate::fingerprint;

/// Why a tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file cannot be read.
    #[error("{path}: {source}; {remedy}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// What to do.
        remedy: String,
    },
    /// The file is not a tokenizer.
    #[error("{path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// The tokenizer's ids do not fit the model.
    #[error("{path}: token ids reach {largest}, but the model's vocabulary has {vocabulary} entries")]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// The largest id.
        largest: u32,
        /// The model's vocabulary.
        vocabulary: usize,
    },
    /// A text could not be cut.
    #[error("the tokenizer failed: {0}")]
    Encode(String),
}

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    cutter: Cutter,
    frame: Frame,
    fingerprint: String,
}

/// What cuts texts.
#[derive(Debug)]
enum Cutter {
    /// What `tokenizer.json` says, and where it cuts word by word, words that were cut before.
    File(Box<tokenizers::Tokenizer>, Option<Memo>),
    /// ByT5's.
    Bytes(Bytes),
}

const FILE: &str = "tokenizer.json";

fn failed(error: impl Into<tokenizers::Error>) -> TokenizerError {
    TokenizerError::Encode(error.into().to_string())
}

// === impl Tokenizer ===

impl Tokenizer {
    /// Reads `tokenizer.json` in a model's folder, for a model with this vocabulary and end token. A ByT5 needs no such
    /// file: it is known by its `tokenizer_class`, in `tokenizer_config.json` or `config.json`.
    ///
    /// # Errors
    /// If the file is missing, malformed, or of another vocabulary.
    pub fn open(folder: &Path, vocabulary: usize, eos: u32) -> Result<Self, TokenizerError> {
        let path = folder.join(FILE);
        let bytes = if path.exists() { None } else { Bytes::of(folder)? };
        let (this, largest, path) = match bytes {
            Some((bytes, place)) => {
                let largest = bytes.largest();
                let fingerprint = fingerprint::of_bytes(bytes.describe().as_bytes());
                let frame = Frame { before: Vec::new(), after: vec![bytes.eos()] };
                (Self { cutter: Cutter::Bytes(bytes), frame, fingerprint }, largest, place)
            }
            None => {
                let (this, largest) = Self::of_file(&path, eos)?;
                (this, largest, path)
            }
        };
        if largest as usize >= vocabulary {
            return Err(TokenizerError::Vocabulary { path, largest, vocabulary });
        }
        Ok(this)
    }

    fn of_file(path: &Path, eos: u32) -> Result<(Self, u32), TokenizerError> {
        let bytes = std::fs::read(path).map_err(|source| TokenizerError::Read {
            path: path.to_owned(),
            source,
            remedy: remedy(path.parent().unwrap_or(Path::new("."))),
        })?;
        let parse = |error: tokenizers::Error| TokenizerError::Parse {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(parse)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(parse)?;
        let frame = Frame::of(&inner, eos).map_err(|reason| parse(reason.into()))?;
        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0);
        let fingerprint = fingerprint::of_bytes(&bytes);
        let memo = Memo::of(&inner);
        Ok((Self { cutter: Cutter::File(Box::new(inner), memo), frame, fingerprint }, largest))
    }

    /// The ids of a text, without an end token.
    ///
    /// # Errors
    /// If the tokenizer fails on the text.
    pub fn words(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        match &self.cutter {
            Cutter::File(inner, Some(memo)) if memo.knows(text) => memo.cut(text, inner).map_err(failed),
            Cutter::File(inner, _) => Ok(inner.encode_fast(text, false).map_err(failed)?.get_ids().to_vec()),
            Cutter::Bytes(bytes) => Ok(bytes.cut(text).map(|(id, _)| id).collect()),
        }
    }

    /// Whether a text is cut much faster than others of its length, once most of its words were seen.
    #[must_use]
    pub fn is_fast(&self, text: &str) -> bool {
        match &self.cutter {
            Cutter::File(_, memo) => memo.as_ref().is_some_and(|memo| memo.knows(text)),
            Cutter::Bytes(_) => true,
        }
    }

    /// The ids of a text as the decoder writes it, but for the end token: what stands before every text of this tokenizer,
    /// mostly nothing, and [`words`](Self::words).
    ///
    /// # Errors
    /// If the tokenizer fails on the text.
    pub fn answer(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let words = self.words(text)?;
        Ok([&self.frame.before[..], &words].concat())
    }

    /// The ids of a text as the encoder reads it, with the end token.
    ///
    /// # Errors
    /// If the tokenizer fails on the text.
    pub fn source(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = self.answer(text)?;
        // ByT5's does not repeat an end token that the text brings
        let has_end = matches!(self.cutter, Cutter::Bytes(_)) && ids.ends_with(&self.frame.after);
        if !has_end {
            ids.extend(&self.frame.after);
        }
        Ok(ids)
    }

    /// As [`source`](Self::source), cut to `limit` tokens with the end token last, and how many there were before.
    ///
    /// # Errors
    /// If the tokenizer fails on the text.
    pub fn source_within(&self, text: &str, limit: usize) -> Result<(Vec<u32>, usize), TokenizerError> {
        let mut ids = self.source(text)?;
        let tokens = ids.len();
        if tokens > limit {
            ids.truncate(limit.saturating_sub(self.frame.after.len()));
            ids.extend(&self.frame.after);
        }
        Ok((ids, tokens))
    }

    /// The token that stands for what the vocabulary lacks, if there is one.
    #[must_use]
    pub fn unknown(&self) -> Option<u32> {
        match &self.cutter {
            Cutter::File(inner, _) => inner.token_to_id("<unk>"),
            // every text is bytes
            Cutter::Bytes(_) => None,
        }
    }

    /// Where the tokens of a text end, in bytes.
    pub(super) fn token_ends(&self, text: &str) -> Result<Vec<usize>, TokenizerError> {
        match &self.cutter {
            Cutter::File(inner, _) => {
                let encoding = inner.encode(text, false).map_err(failed)?;
                Ok(encoding.get_offsets().iter().map(|&(_, end)| end).collect())
            }
            Cutter::Bytes(bytes) => Ok(bytes.cut(text).map(|(_, end)| end).collect()),
        }
    }

    /// The text of generated ids; special tokens are left out.
    ///
    /// # Errors
    /// If an id is unknown.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        match &self.cutter {
            Cutter::File(inner, _) => inner.decode(ids, true).map_err(failed),
            Cutter::Bytes(bytes) => Ok(bytes.decode(ids)),
        }
    }

    /// What tells this tokenizer from another: the first 16 hexadecimal digits of its file's SHA-256.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// What to do about a folder without `tokenizer.json`.
fn remedy(folder: &Path) -> String {
    let slow = ["spiece.model", "sentencepiece.bpe.model", "vocab.json"]
        .into_iter()
        .find(|file| folder.join(file).exists());
    let Some(slow) = slow else {
        return "a model's folder holds its fast tokenizer as tokenizer.json".into();
    };
    let folder = folder.display();
    format!(
        "{slow} is not read; make tokenizer.json of it once: python3 -m pip install transformers sentencepiece protobuf, \
         then python3 -c \"from transformers import AutoTokenizer as T; \
         T.from_pretrained('{folder}').save_pretrained('{folder}')\""
    )
}
