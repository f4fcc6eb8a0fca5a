//! What a tokenizer puts around every text.

/// The tokens around a text: T5's end token, RoBERTa's begin and end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) before: Vec<u32>,
    pub(super) after: Vec<u32>,
}

// === impl Frame ===

impl Frame {
    /// By what the tokenizer's post-processor does to a text; without one, the end token stands behind.
    pub(super) fn of(tokenizer: &tokenizers::Tokenizer, eos: u32) -> Result<Self, String> {
        let ids = |special| {
            let encoding = tokenizer.encode_fast("a", special).map_err(|error| error.to_string())?;
            Ok::<_, String>(encoding.get_ids().to_vec())
        };
        let (words, framed) = (ids(false)?, ids(true)?);
        if words == framed {
            return Ok(Self { before: Vec::new(), after: vec![eos] });
        }
        let at = framed.windows(words.len().max(1)).position(|part| part == words);
        let at = at.ok_or("the post-processor does more than to put tokens around a text")?;
        Ok(Self { before: framed[..at].to_vec(), after: framed[at + words.len()..].to_vec() })
    }
}
