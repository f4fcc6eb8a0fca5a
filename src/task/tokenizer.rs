//! Text to token ids and back, by the model's own `tokenizer.json`.

use std::path::{Path, PathBuf};

use crate::fingerprint;

/// Why a tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file cannot be read.
    #[error("{path}: {source}; a model's folder holds its fast tokenizer as tokenizer.json")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
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
    inner: tokenizers::Tokenizer,
    eos: u32,
    fingerprint: String,
}

// === impl Tokenizer ===

impl Tokenizer {
    /// Reads `tokenizer.json` in a model's folder, for a model with this vocabulary and end token.
    ///
    /// # Errors
    /// If the file is missing, malformed, or of another vocabulary.
    pub fn open(folder: &Path, vocabulary: usize, eos: u32) -> Result<Self, TokenizerError> {
        let path = folder.join("tokenizer.json");
        let bytes =
            std::fs::read(&path).map_err(|source| TokenizerError::Read { path: path.clone(), source })?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| TokenizerError::Parse { path: path.clone(), reason: error.to_string() })?;
        inner.with_padding(None);
        let parse = |error: tokenizers::Error| TokenizerError::Parse {
            path: path.clone(),
            reason: error.to_string(),
        };
        inner.with_truncation(None).map_err(parse)?;
        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0);
        if largest as usize >= vocabulary {
            return Err(TokenizerError::Vocabulary { path, largest, vocabulary });
        }
        let fingerprint = fingerprint::of_bytes(&bytes);
        Ok(Self { inner, eos, fingerprint })
    }

    /// The ids of a text, without an end token.
    ///
    /// # Errors
    /// If the tokenizer fails on the text.
    pub fn words(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.map_err(|error| TokenizerError::Encode(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of a text as the encoder reads it, with the end token.
    ///
    /// # Errors
    /// If the tokenizer fails on the text.
    pub fn source(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = self.words(text)?;
        ids.push(self.eos);
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
            ids.truncate(limit.saturating_sub(1));
            ids.push(self.eos);
        }
        Ok((ids, tokens))
    }

    /// The token that stands for what the vocabulary lacks, if there is one.
    #[must_use]
    pub fn unknown(&self) -> Option<u32> {
        self.inner.token_to_id("<unk>")
    }

    /// Where the tokens of a text end, in bytes.
    pub(super) fn token_ends(&self, text: &str) -> Result<Vec<usize>, TokenizerError> {
        let encoding = self.inner.encode(text, false);
        let encoding = encoding.map_err(|error| TokenizerError::Encode(error.to_string()))?;
        Ok(encoding.get_offsets().iter().map(|&(_, end)| end).collect())
    }

    /// The text of generated ids; special tokens are left out.
    ///
    /// # Errors
    /// If an id is unknown.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.inner.decode(ids, true).map_err(|error| TokenizerError::Encode(error.to_string()))
    }

    /// What tells this tokenizer from another: the first 16 hexadecimal digits of its file's SHA-256.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}
