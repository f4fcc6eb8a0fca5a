//! Generation over batches, with a cache of the decoder's self-attention.
//!
//! A text takes one row of the batch, or one for each of its beams. Rows of texts that have ended leave the batch, and
//! two batches may become one. Where sizes are rounded, rows that are copies fill the batch up.

use super::Sizes;
use super::batch::{Source, SourceBatch};
use super::cache::{Cache, table};
use super::decoding::Decoding;
use super::generation::{Generated, Generation, Next, Row};
use crate::runtime::{Input, Model, Outputs, RuntimeError, Session};
use crate::t5::{Config, graphs, joining, picking, step};

/// Generates text over batches.
#[derive(Debug)]
pub struct Generator {
    encoder: Session,
    step: Session,
    pick_hidden: Session,
    join_hidden: Session,
    cache: Cache,
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
            step: model.replayed_session(&step::decoder_step(model.checkpoint(), model.arithmetic()))?,
            pick_hidden: model.session(&picking::hidden(model.config(), model.arithmetic()), &[])?,
            join_hidden: model.session(&joining::hidden(model.config(), model.arithmetic()), &[])?,
            cache: Cache::new(model)?,
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
        let living = generation.living();
        self.pick(generation, living)?;
        if generation.is_finished() {
            return Ok(());
        }
        let needs_logits = generation.needs_logits();
        let mut outputs = self.run(generation, needs_logits)?;
        let rows = generation.rows.len();
        let best = outputs.take(step::MOST_LIKELY)?;
        let best: Vec<u32> = best.f32s()?.iter().take(rows).map(|&token| token as u32).collect();
        let logits = if needs_logits { Some(outputs.take(graphs::LOGITS)?) } else { None };
        let logits: Vec<&[f32]> = match &logits {
            Some(logits) => logits.f32s()?.chunks(self.config.vocab_size).take(rows).collect(),
            None => vec![&[]; rows],
        };
        let next = generation.advance(&best, &logits, self.config.eos_token_id);
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
        for generation in [&mut *generation, &mut other] {
            let living = generation.living();
            self.pick(generation, living)?;
        }
        let length = generation.length.max(other.length);
        let seats = self.sizes.count(generation.rows.len() + other.rows.len());
        // the first positions of a row are its own, and the rest is masked
        let first = generation.seats * generation.length;
        let of = |first: usize, generation: &Generation| {
            let own = generation.length;
            (0..generation.rows.len())
                .flat_map(move |row| (0..length).map(move |i| (first + row * own + i.min(own - 1)) as i64))
        };
        let mut rows: Vec<i64> = of(0, generation).chain(of(first, &other)).collect();
        rows.resize(seats * length, 0);
        let inputs = [
            (graphs::ENCODER_HIDDEN, Input::Kept(&generation.hidden)),
            (joining::OTHER_HIDDEN, Input::Kept(&other.hidden)),
            (joining::ROWS, Input::i64([seats, length], &rows)),
        ];
        generation.hidden = self.join_hidden.run_keeping(&inputs, |_| true)?.take(joining::JOINED_HIDDEN)?;
        let mut mask = Vec::with_capacity(seats * length);
        for from in [&*generation, &other] {
            for row in from.mask.chunks(from.length).take(from.rows.len()) {
                mask.extend_from_slice(row);
                mask.resize(mask.len() + length - row.len(), 0.0);
            }
        }
        mask.resize(seats * length, 0.0);
        (generation.mask, generation.seats, generation.length) = (mask, seats, length);
        let (rows, texts) = other.into_parts();
        Ok(generation.adopt(rows, texts))
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

    /// What follows each row, by seats. Each row gets a position in the cache.
    fn run(&mut self, generation: &mut Generation, needs_logits: bool) -> Result<Outputs, RuntimeError> {
        for row in &mut generation.rows {
            if self.cache.make_room(&mut row.blocks, row.age)? {
                self.step.forget_state();
            }
        }
        let seats = generation.seats;
        let whole = |of: fn(&Row) -> i64| {
            let mut numbers: Vec<i64> = generation.rows.iter().map(of).collect();
            numbers.resize(seats, 0);
            numbers
        };
        let (ids, ages) = (whole(|row| i64::from(row.token)), whole(|row| row.age as i64));
        let blocks = generation.rows.iter().map(|row| &row.blocks);
        let (table, n) = table(blocks, seats, |n| self.sizes.count(n));
        let inputs = [
            (graphs::ENCODER_HIDDEN, Input::Kept(&generation.hidden)),
            (graphs::MASK, Input::f32([seats, generation.length], &generation.mask)),
            (graphs::DECODER_IDS, Input::i64([seats, 1], &ids)),
            (step::CACHE, Input::State(self.cache.state())),
            (step::CACHE_TABLE, Input::i64([seats, n], &table)),
            (step::AGES, Input::i64([seats], &ages)),
        ];
        self.step.run_for(&inputs, |name| needs_logits || name != graphs::LOGITS)
    }

    /// Gives the batch its next rows, each a copy of the row that it continues.
    fn pick(&mut self, generation: &mut Generation, (pick, next): Next) -> Result<(), RuntimeError> {
        let same_sources = generation.rows.iter().map(|row| row.text).eq(next.iter().map(|row| row.text));
        generation.rows = next;
        let seats = self.sizes.count(pick.len());
        if pick.is_empty() || same_sources && seats == generation.seats {
            return Ok(());
        }
        let mut index: Vec<i64> = pick.iter().map(|&row| row as i64).collect();
        index.resize(seats, 0);
        let length = generation.length;
        let mask = index.iter().flat_map(|&row| &generation.mask[row as usize * length..][..length]);
        let mask: Vec<f32> = mask.copied().collect();
        let inputs = [
            (graphs::ENCODER_HIDDEN, Input::Kept(&generation.hidden)),
            (picking::PICK, Input::i64([seats], &index)),
        ];
        generation.hidden = self.pick_hidden.run_keeping(&inputs, |_| true)?.take(picking::PICKED_HIDDEN)?;
        (generation.mask, generation.seats) = (mask, seats);
        Ok(())
    }
}
