//! Padding token ids, prompt rows and decoder positions into the tensors of a run.

use std::collections::HashMap;

use super::sizes::Sizes;
use crate::runtime::Input;
use crate::t5::{Buckets, Config, Direction, graphs};

/// What the encoder reads for one example: prompt rows in front of a text.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Prompt rows `[tokens, d_model]`. Examples that pass the same slice share it in the batch.
    pub prompt: &'a [f32],
    /// Token ids of the text, with the end token.
    pub text: &'a [u32],
}

// === impl Source ===

impl Source<'_> {
    /// Positions that the example takes.
    #[must_use]
    pub fn length(&self, d_model: usize) -> usize {
        self.prompt.len() / d_model + self.text.len()
    }
}

/// Examples as one padded batch.
#[derive(Debug)]
pub struct SourceBatch {
    batch: usize,
    length: usize,
    d_model: usize,
    ids: Vec<i64>,
    mask: Vec<f32>,
    packed_ids: Vec<i64>,
    starts: Vec<i64>,
    rows: Vec<f32>,
}

// === impl SourceBatch ===

impl SourceBatch {
    /// Pads the examples to the longest; the length, and the number of prompt rows, may be rounded up.
    #[must_use]
    pub fn new(sources: &[Source<'_>], config: &Config, sizes: Sizes) -> Self {
        let d = config.d_model;
        let length = sources.iter().map(|source| source.length(d)).max().unwrap_or(0);
        let length = sizes.length(length);
        let mut ids = vec![i64::from(config.pad_token_id); sources.len() * length];
        let mut mask = vec![0.0; sources.len() * length];
        let (mut packed_ids, mut starts) = (Vec::new(), vec![0]);
        let mut rows = Vec::new();
        let mut first_rows: HashMap<(*const f32, usize), usize> = HashMap::new();
        for (i, source) in sources.iter().enumerate() {
            let tokens = source.prompt.len() / d;
            let first =
                *first_rows.entry((source.prompt.as_ptr(), source.prompt.len())).or_insert_with(|| {
                    rows.extend_from_slice(source.prompt);
                    rows.len() / d - tokens
                });
            let prompt = (first..first + tokens).map(|row| (config.vocab_size + row) as i64);
            let text = source.text.iter().map(|&id| i64::from(id));
            packed_ids.extend(prompt.chain(text));
            let own = &packed_ids[starts[i] as usize..];
            starts.push(packed_ids.len() as i64);
            ids[i * length..][..own.len()].copy_from_slice(own);
            mask[i * length..][..own.len()].fill(1.0);
        }
        // a batch without prompts still has a table to index
        rows.resize(d * sizes.count((rows.len() / d).max(1)), 0.0);
        Self { batch: sources.len(), length, d_model: d, ids, mask, packed_ids, starts, rows }
    }

    /// Number of examples.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Positions that each example takes, padding included.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Prompt rows in the batch.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.rows.len() / self.d_model
    }

    /// The mask as it goes into a decoder step.
    #[must_use]
    pub fn mask(&self) -> &[f32] {
        &self.mask
    }

    /// The inputs of a graph that encodes, padded and packed: it reads what it wants.
    #[must_use]
    pub fn inputs(&self) -> Vec<(&'static str, Input<'_>)> {
        let shape = [self.batch, self.length];
        vec![
            (graphs::IDS, Input::i64(shape, &self.ids)),
            (graphs::MASK, Input::f32(shape, &self.mask)),
            (graphs::PACKED_IDS, Input::i64([self.packed_ids.len()], &self.packed_ids)),
            (graphs::STARTS, Input::i64([self.starts.len()], &self.starts)),
            (graphs::PROMPT_ROWS, Input::f32([self.row_count(), self.d_model], &self.rows)),
        ]
    }
}

/// Decoder positions of each example, with who sees whom.
#[derive(Debug)]
pub struct DecoderBatch {
    batch: usize,
    target: usize,
    ids: Vec<i64>,
    bias_index: Vec<i64>,
}

// === impl DecoderBatch ===

impl DecoderBatch {
    /// Lays out `batch` examples of at most `target` positions. `tokens(i)` are example i's tokens, and
    /// `parent(i, position)` is the position before it; a position sees itself and all that lead to it.
    pub fn new<T>(
        batch: usize,
        target: usize,
        buckets: Buckets,
        tokens: impl Fn(usize) -> T,
        parent: impl Fn(usize, usize) -> Option<usize>,
    ) -> Self
    where
        T: Iterator<Item = u32>,
    {
        let hidden = buckets.count() as i64;
        let mut ids = vec![0; batch * target];
        let mut bias_index = vec![hidden; batch * target * target];
        for i in 0..batch {
            let mut count = 0;
            for (slot, token) in ids[i * target..(i + 1) * target].iter_mut().zip(tokens(i)) {
                *slot = i64::from(token);
                count += 1;
            }
            for (query, keys) in bias_index[i * target * target..].chunks_mut(target).take(target).enumerate()
            {
                // a padded position sees itself only, so that its softmax is defined
                let before = |&key: &usize| if key < count { parent(i, key) } else { None };
                for (steps, key) in std::iter::successors(Some(query), before).enumerate() {
                    keys[key] = buckets.of(-(steps as i64), Direction::Backward) as i64;
                }
            }
        }
        Self { batch, target, ids, bias_index }
    }

    /// Positions that each example takes, padding included.
    #[must_use]
    pub fn target(&self) -> usize {
        self.target
    }

    /// The inputs of a graph that decodes.
    #[must_use]
    pub fn inputs(&self) -> [(&'static str, Input<'_>); 2] {
        let (b, t) = (self.batch, self.target);
        [
            (graphs::DECODER_IDS, Input::i64([b, t], &self.ids)),
            (graphs::BIAS_INDEX, Input::i64([b, t, t], &self.bias_index)),
        ]
    }
}
