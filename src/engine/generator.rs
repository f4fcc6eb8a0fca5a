//! Generation over batches, with a cache of the decoder's self-attention.
//!
//! A text takes one row of the batch, or one for each of its beams. Rows of texts that have ended leave the batch.

use super::batch::{Source, SourceBatch};
use super::beams::BeamSearch;
use super::decoding::{Decoding, Method};
use super::sampler::{Sampler, most_likely};
use crate::runtime::{Input, Model, Output, Outputs, RuntimeError, Session};
use crate::t5::{Buckets, Config, Direction, graphs, picking};

/// Generates text over batches.
#[derive(Debug)]
pub struct Generator {
    encoder: Session,
    step: Session,
    pick_hidden: Session,
    pick_cache: Session,
    config: Config,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model said the end token.
    Stop,
    /// The longest length was reached.
    Length,
}

/// One generated text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Its tokens, without the end token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
}

/// A batch whose texts are being generated, one token of each a step.
#[derive(Debug)]
pub struct Generation {
    hidden: Output,
    mask: Vec<f32>,
    /// Encoder positions of a row.
    length: usize,
    cache: Vec<[Output; 2]>,
    /// Steps taken: the length of every text that has not ended, and of the cache.
    steps: usize,
    texts: Vec<Text>,
    rows: Vec<Row>,
}

/// A row of the batch.
#[derive(Clone, Copy, Debug)]
struct Row {
    text: usize,
    /// What the decoder reads next.
    token: u32,
}

#[derive(Debug)]
struct Text {
    limit: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// One row, which is the text so far.
    Single {
        tokens: Vec<u32>,
        sampler: Option<Box<Sampler>>,
    },
    /// A row for each beam.
    Beams(Box<BeamSearch>),
    Ended(Generated),
}

// === impl Generation ===

impl Generation {
    /// Whether every text has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.rows.is_empty()
    }

    /// A text that has ended.
    #[must_use]
    pub fn ended(&self, text: usize) -> Option<&Generated> {
        match &self.texts[text].state {
            State::Ended(generated) => Some(generated),
            State::Single { .. } | State::Beams(_) => None,
        }
    }

    /// The tokens that are certain so far; of a beam search none before it ends.
    #[must_use]
    pub fn tokens(&self, text: usize) -> &[u32] {
        match &self.texts[text].state {
            State::Single { tokens, .. } => tokens,
            State::Beams(_) => &[],
            State::Ended(generated) => &generated.tokens,
        }
    }

    /// Ends a text where it stands: nobody waits for it.
    pub fn abandon(&mut self, text: usize) {
        self.texts[text].end(Finish::Length);
    }

    /// The texts in the order of the sources; one that has not ended counts as cut by length.
    #[must_use]
    pub fn into_texts(self) -> Vec<Generated> {
        let text = |text: Text| match text.state {
            State::Single { tokens, .. } => Generated { tokens, finish: Finish::Length },
            State::Beams(search) => search.into_best(),
            State::Ended(generated) => generated,
        };
        self.texts.into_iter().map(text).collect()
    }
}

// === impl Text ===

impl Text {
    fn new(decoding: &Decoding, eos: u32) -> Self {
        let limit = decoding.max_new_tokens;
        let single = |sampler| State::Single { tokens: Vec::new(), sampler };
        let mut text = Self {
            limit,
            state: match decoding.method {
                Method::Greedy => single(None),
                Method::Sample(sampling) => single(Some(Box::new(Sampler::new(sampling)))),
                Method::Beams(beams) => State::Beams(Box::new(BeamSearch::new(beams, limit, eos))),
            },
        };
        if limit == 0 {
            text.end(Finish::Length);
        }
        text
    }

    fn end(&mut self, finish: Finish) {
        let state =
            std::mem::replace(&mut self.state, State::Ended(Generated { tokens: Vec::new(), finish }));
        self.state = State::Ended(match state {
            State::Single { tokens, .. } => Generated { tokens, finish },
            State::Beams(search) => search.into_best(),
            State::Ended(generated) => generated,
        });
    }

    /// Takes the logits of the text's rows. Returns its next rows: which row each continues, and its token.
    fn advance(&mut self, logits: &[&[f32]], eos: u32) -> Vec<(usize, u32)> {
        match &mut self.state {
            State::Ended(_) => Vec::new(),
            State::Single { tokens, sampler } => {
                let token = match sampler {
                    Some(sampler) => sampler.draw(logits[0]),
                    None => most_likely(logits[0]),
                };
                if token == eos {
                    self.end(Finish::Stop);
                    return Vec::new();
                }
                tokens.push(token);
                if tokens.len() == self.limit {
                    self.end(Finish::Length);
                    return Vec::new();
                }
                vec![(0, token)]
            }
            State::Beams(search) => {
                let next = search.advance(logits.iter().copied());
                if next.is_empty() {
                    self.end(Finish::Length);
                }
                next
            }
        }
    }
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
            config: model.config().clone(),
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
        let source = SourceBatch::new(sources, &self.config);
        let hidden = self.encoder.run_keeping(&source.inputs(), |_| true)?.take(graphs::ENCODER_HIDDEN)?;
        let c = &self.config;
        Ok(Generation {
            hidden,
            mask: source.mask().to_vec(),
            length: source.length(),
            cache: Vec::new(),
            steps: 0,
            texts: decodings.iter().map(|decoding| Text::new(decoding, c.eos_token_id)).collect(),
            rows: (0..sources.len()).map(|text| Row { text, token: c.decoder_start_token_id }).collect(),
        })
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
        generation.steps += 1;
        let logits: Vec<&[f32]> = logits.f32s()?.chunks(self.config.vocab_size).collect();
        let (mut pick, mut next) = (Vec::new(), Vec::new());
        let mut first = 0;
        for rows in generation.rows.chunk_by(|a, b| a.text == b.text) {
            let text = rows[0].text;
            let of_text = &logits[first..first + rows.len()];
            for (row, token) in generation.texts[text].advance(of_text, self.config.eos_token_id) {
                pick.push(first + row);
                next.push(Row { text, token });
            }
            first += rows.len();
        }
        self.pick(generation, &pick, next)
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
        let past = generation.steps;
        let ids: Vec<i64> = generation.rows.iter().map(|row| i64::from(row.token)).collect();
        let buckets = Buckets::new(c);
        let steps_back = (0..=past).map(|key| key as i64 - past as i64);
        let bias: Vec<i64> =
            steps_back.map(|relative| buckets.of(relative, Direction::Backward) as i64).collect();
        let bias = bias.repeat(batch);
        let names = past_names(c);
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

    /// Makes `next` the rows of the batch, each a copy of the row that `pick` names.
    fn pick(
        &mut self,
        generation: &mut Generation,
        pick: &[usize],
        next: Vec<Row>,
    ) -> Result<(), RuntimeError> {
        let texts = |rows: &[Row]| -> Vec<usize> { rows.iter().map(|row| row.text).collect() };
        let same_sources = texts(&generation.rows) == texts(&next);
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
            let names = past_names(&self.config);
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
        let left = |row: &Row| generation.ended(row.text).is_none();
        let pick: Vec<usize> = (0..generation.rows.len()).filter(|&i| left(&generation.rows[i])).collect();
        let next = pick.iter().map(|&row| generation.rows[row]).collect();
        self.pick(generation, &pick, next)
    }
}

/// Names of the cache's keys and values as inputs, by layer.
fn past_names(config: &Config) -> Vec<[String; 2]> {
    let names = |layer| ["key", "value"].map(|kind| graphs::cache_name("past", layer, kind));
    (0..config.num_decoder_layers).map(names).collect()
}

fn present(outputs: &mut Outputs, config: &Config) -> Result<Vec<[Output; 2]>, RuntimeError> {
    let mut take = |layer, kind| outputs.take(&graphs::cache_name("present", layer, kind));
    (0..config.num_decoder_layers).map(|layer| Ok([take(layer, "key")?, take(layer, "value")?])).collect()
}
