//! Generation over batches, with a cache of the decoder's self-attention.
//!
//! A text takes one row of the batch, or one for each of its beams. Rows of texts that have ended leave the batch, and
//! two batches may become one.

use super::Sizes;
use super::batch::{Source, SourceBatch};
use super::decoding::Decoding;
use super::generation::{Generated, Generation, Next};
use crate::runtime::{Input, Model, Output, Outputs, RuntimeError, Session};
use crate::t5::{Buckets, Config, graphs, joining, picking};

/// Generates text over batches.
#[derive(Debug)]
pub struct Generator {
    encoder: Session,
    step: Session,
    pick_hidden: Session,
    pick_cache: Session,
    join_hidden: Session,
    join_cache: Session,
    config: Config,
    sizes: Sizes,
}

// === impl Generator ===

impl Generator {
    /// Loads the encoder and the decoder step.
    ///
    /// # Errors
    /// If ONNX Runtime refuses them.
    pub fn new(model: &Model) -> Result<Self, RuntimeError> {
        Ok(Self {
            encoder: model.session(&graphs::encoder(model.checkpoint(), model.arithmetic()), &[])?,
            step: model.session(&graphs::decoder_step(model.checkpoint(), model.arithmetic()), &[])?,
            pick_hidden: model.session(&picking::hidden(model.config(), model.arithmetic()), &[])?,
            pick_cache: model.session(&picking::cache(model.config(), model.arithmetic()), &[])?,
            join_hidden: model.session(&joining::hidden(model.config(), model.arithmetic()), &[])?,
            join_cache: model.session(&joining::cache(model.config(), model.arithmetic()), &[])?,
            config: model.config().clone(),
            sizes: Sizes::of(model.device()),
        })
    }

    /// Encodes the sources, each with how its text is generated.
    ///
    /// # Errors
    /// If the run fails.
    pub fn start(
        &mut self,
        sources: &[Source<'_>],
        decodings: &[Decoding],
    ) -> Result<Generation, RuntimeError> {
        let source = SourceBatch::new(sources, &self.config, self.sizes);
        let hidden = self.encoder.run_keeping(&source.inputs(), |_| true)?.take(graphs::ENCODER_HIDDEN)?;
        let c = &self.config;
        let source = (hidden, source.mask().to_vec(), source.length());
        Ok(Generation::new(source, decodings, c.decoder_start_token_id, c.eos_token_id))
    }

    /// Takes the next token of every text that has not ended.
    ///
    /// # Errors
    /// If the run fails.
    pub fn step(&mut self, generation: &mut Generation) -> Result<(), RuntimeError> {
        self.drop_ended(generation)?;
        if generation.is_finished() {
            return Ok(());
        }
        let logits = self.run(generation)?;
        generation.past += 1;
        let logits: Vec<&[f32]> = logits.f32s()?.chunks(self.config.vocab_size).collect();
        let next = generation.advance(&logits, self.config.eos_token_id);
        self.pick(generation, next)
    }

    /// Makes one batch of two that fit each other ([`Generation::fits`]). The texts of `other` go on under larger
    /// numbers; returns by how much.
    ///
    /// # Errors
    /// If a run fails; neither batch can go on then.
    pub fn join(
        &mut self,
        generation: &mut Generation,
        mut other: Generation,
    ) -> Result<usize, RuntimeError> {
        self.drop_ended(generation)?;
        self.drop_ended(&mut other)?;
        let (mine, theirs) = (generation.rows.len(), other.rows.len());
        let length = generation.length.max(other.length);
        // the first positions of a row are its own, and the rest is masked
        let rows = joined((mine, generation.length), (theirs, other.length), length, |row, own, i| {
            row * own + i.min(own - 1)
        });
        let inputs = [
            (graphs::ENCODER_HIDDEN, Input::Kept(&generation.hidden)),
            (joining::OTHER_HIDDEN, Input::Kept(&other.hidden)),
            (joining::ROWS, Input::i64([mine + theirs, length], &rows)),
        ];
        let hidden = self.join_hidden.run_keeping(&inputs, |_| true)?.take(joining::JOINED_HIDDEN)?;
        let masks = [(&generation.mask, generation.length), (&other.mask, other.length)];
        let mut mask = Vec::with_capacity((mine + theirs) * length);
        for row in masks.iter().flat_map(|&(mask, own)| mask.chunks(own)) {
            mask.extend_from_slice(row);
            mask.resize(mask.len() + length - row.len(), 0.0);
        }
        self.join_caches(generation, &other)?;
        (generation.hidden, generation.mask, generation.length) = (hidden, mask, length);
        let (rows, texts) = other.into_parts();
        Ok(generation.adopt(rows, texts))
    }

    fn join_caches(&mut self, generation: &mut Generation, other: &Generation) -> Result<(), RuntimeError> {
        let c = &self.config;
        let heads = c.num_heads;
        let (mine, theirs) = (generation.rows.len(), other.rows.len());
        // what all rows have left behind is not carried on
        let past = generation.rows.iter().chain(&other.rows).map(|row| row.age).max().unwrap_or(0);
        // the last positions of a row are its own, and what is before them is hidden
        let rows =
            joined((mine * heads, generation.past), (theirs * heads, other.past), past, |row, own, i| {
                row * own + (own + i).saturating_sub(past)
            });
        let (of_mine, of_theirs) = (names("past", c), names("other", c));
        let both = [(&of_mine, &generation.cache), (&of_theirs, &other.cache)];
        let pairs =
            both.iter().flat_map(|&(names, cache)| names.iter().flatten().zip(cache.iter().flatten()));
        let mut inputs: Vec<(&str, Input<'_>)> =
            pairs.map(|(name, output)| (name.as_str(), Input::Kept(output))).collect();
        inputs.push((joining::ROWS, Input::i64([mine + theirs, heads, past], &rows)));
        let cache = present(&mut self.join_cache.run_keeping(&inputs, |_| true)?, c)?;
        (generation.cache, generation.past) = (cache, past);
        Ok(())
    }

    /// Generates all texts to their end, each the most likely token at a time, at most `limits` tokens.
    ///
    /// # Errors
    /// If a run fails.
    pub fn generate(
        &mut self,
        sources: &[Source<'_>],
        limits: &[usize],
    ) -> Result<Vec<Generated>, RuntimeError> {
        let decodings: Vec<Decoding> = limits.iter().map(|&limit| Decoding::greedy(limit)).collect();
        self.decode(sources, &decodings)
    }

    /// Generates all texts to their end.
    ///
    /// # Errors
    /// If a run fails.
    pub fn decode(
        &mut self,
        sources: &[Source<'_>],
        decodings: &[Decoding],
    ) -> Result<Vec<Generated>, RuntimeError> {
        let mut generation = self.start(sources, decodings)?;
        while !generation.is_finished() {
            self.step(&mut generation)?;
        }
        Ok(generation.into_texts())
    }

    /// The logits that follow each row; the cache grows by a position.
    fn run(&mut self, generation: &mut Generation) -> Result<Output, RuntimeError> {
        let c = &self.config;
        let batch = generation.rows.len();
        let past = generation.past;
        let ids: Vec<i64> = generation.rows.iter().map(|row| i64::from(row.token)).collect();
        let bias = generation.bias(Buckets::new(c));
        let names = names("past", c);
        let mut inputs = vec![
            (graphs::ENCODER_HIDDEN, Input::Kept(&generation.hidden)),
            (graphs::MASK, Input::f32([batch, generation.length], &generation.mask)),
            (graphs::DECODER_IDS, Input::i64([batch, 1], &ids)),
            (graphs::BIAS_INDEX, Input::i64([batch, 1, past + 1], &bias)),
        ];
        for (layer, names) in names.iter().enumerate() {
            for (kind, name) in names.iter().enumerate() {
                inputs.push((
                    name,
                    match generation.cache.get(layer) {
                        Some(pair) => Input::Kept(&pair[kind]),
                        None => Input::Empty(vec![batch, c.num_heads, 0, c.d_kv]),
                    },
                ));
            }
        }
        let mut outputs = self.step.run_keeping(&inputs, |name| name != graphs::LOGITS)?;
        generation.cache = present(&mut outputs, c)?;
        outputs.take(graphs::LOGITS)
    }

    /// Gives the batch its next rows, each a copy of the row that it continues.
    fn pick(&mut self, generation: &mut Generation, (pick, next): Next) -> Result<(), RuntimeError> {
        let same_sources = generation.rows.iter().map(|row| row.text).eq(next.iter().map(|row| row.text));
        let in_place =
            pick.iter().enumerate().all(|(i, &row)| i == row) && pick.len() == generation.rows.len();
        generation.rows = next;
        if in_place || pick.is_empty() {
            return Ok(());
        }
        let index: Vec<i64> = pick.iter().map(|&row| row as i64).collect();
        let picked = Input::i64([index.len()], &index);
        if !same_sources {
            let inputs =
                [(graphs::ENCODER_HIDDEN, Input::Kept(&generation.hidden)), (picking::PICK, picked.clone())];
            generation.hidden =
                self.pick_hidden.run_keeping(&inputs, |_| true)?.take(picking::PICKED_HIDDEN)?;
            let mask = |&row: &usize| &generation.mask[row * generation.length..][..generation.length];
            generation.mask = pick.iter().flat_map(mask).copied().collect();
        }
        if !generation.cache.is_empty() {
            let names = names("past", &self.config);
            let pairs = names.iter().flatten().zip(generation.cache.iter().flatten());
            let mut inputs: Vec<(&str, Input<'_>)> =
                pairs.map(|(name, output)| (name.as_str(), Input::Kept(output))).collect();
            inputs.push((picking::PICK, picked));
            generation.cache = present(&mut self.pick_cache.run_keeping(&inputs, |_| true)?, &self.config)?;
        }
        Ok(())
    }

    /// Drops the rows of texts that ended between two steps.
    fn drop_ended(&mut self, generation: &mut Generation) -> Result<(), RuntimeError> {
        let living = generation.living();
        self.pick(generation, living)
    }
}

/// Names of a cache's keys and values as inputs, by layer.
fn names(when: &str, config: &Config) -> Vec<[String; 2]> {
    let names = |layer| ["key", "value"].map(|kind| graphs::cache_name(when, layer, kind));
    (0..config.num_decoder_layers).map(names).collect()
}

/// For each of `size` positions of all rows, first one's own `(rows, size)` and then the other's: the flattened
/// position that it is a copy of, within its batch `at(row, size, position)`.
fn joined(
    mine: (usize, usize),
    theirs: (usize, usize),
    size: usize,
    at: impl Fn(usize, usize, usize) -> usize,
) -> Vec<i64> {
    let of = |(rows, own): (usize, usize), first: usize| {
        let at = &at;
        (0..rows).flat_map(move |row| (0..size).map(move |i| (first + at(row, own, i)) as i64))
    };
    of(mine, 0).chain(of(theirs, mine.0 * mine.1)).collect()
}

fn present(outputs: &mut Outputs, config: &Config) -> Result<Vec<[Output; 2]>, RuntimeError> {
    let mut take = |layer, kind| outputs.take(&graphs::cache_name("present", layer, kind));
    (0..config.num_decoder_layers).map(|layer| Ok([take(layer, "key")?, take(layer, "value")?])).collect()
}
