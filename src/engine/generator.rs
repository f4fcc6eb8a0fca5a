//! Greedy generation with a cache of the decoder's self-attention.

use super::batch::{Source, SourceBatch};
use crate::runtime::{Input, Model, Output, RuntimeError, Session};
use crate::t5::{Buckets, Config, Direction, graphs};

/// Generates text over batches.
#[derive(Debug)]
pub struct Generator {
    encoder: Session,
    step: Session,
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
    source: SourceBatch,
    hidden: Output,
    cache: Vec<[Output; 2]>,
    limits: Vec<usize>,
    /// Steps taken: the length of every text that has not ended, and of the cache.
    steps: usize,
    texts: Vec<Vec<u32>>,
    finished: Vec<Option<Finish>>,
}

// === impl Generation ===

impl Generation {
    /// Whether every text has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished.iter().all(Option::is_some)
    }

    /// The texts in the order of the sources; one that has not ended counts as cut by length.
    #[must_use]
    pub fn into_texts(self) -> Vec<Generated> {
        let ended = self.finished.into_iter().map(|finish| finish.unwrap_or(Finish::Length));
        self.texts.into_iter().zip(ended).map(|(tokens, finish)| Generated { tokens, finish }).collect()
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
            config: model.config().clone(),
        })
    }

    /// Encodes the sources; `limits` are the largest numbers of tokens to generate for each.
    ///
    /// # Errors
    /// If the run fails.
    pub fn start(&mut self, sources: &[Source<'_>], limits: &[usize]) -> Result<Generation, RuntimeError> {
        let source = SourceBatch::new(sources, &self.config);
        let hidden = self.encoder.run_keeping(&source.inputs(), |_| true)?.take(graphs::ENCODER_HIDDEN)?;
        Ok(Generation {
            hidden,
            cache: Vec::new(),
            limits: limits.to_vec(),
            steps: 0,
            texts: vec![Vec::new(); sources.len()],
            finished: limits.iter().map(|&limit| (limit == 0).then_some(Finish::Length)).collect(),
            source,
        })
    }

    /// Takes the most likely next token of every text that has not ended.
    ///
    /// # Errors
    /// If the run fails.
    pub fn step(&mut self, generation: &mut Generation) -> Result<(), RuntimeError> {
        let c = &self.config;
        let batch = generation.texts.len();
        let past = generation.steps;
        let last = |text: &Vec<u32>| i64::from(*text.last().unwrap_or(&c.decoder_start_token_id));
        let ids: Vec<i64> = generation.texts.iter().map(last).collect();
        let buckets = Buckets::new(c);
        let steps_back = (0..=past).map(|key| key as i64 - past as i64);
        let bias: Vec<i64> =
            steps_back.map(|relative| buckets.of(relative, Direction::Backward) as i64).collect();
        let bias = bias.repeat(batch);
        let names: Vec<[String; 2]> = (0..c.num_decoder_layers)
            .map(|layer| ["key", "value"].map(|kind| graphs::cache_name("past", layer, kind)))
            .collect();
        let mut inputs = vec![
            (graphs::ENCODER_HIDDEN, Input::Kept(&generation.hidden)),
            (graphs::MASK, Input::f32([batch, generation.source.length()], generation.source.mask())),
            (graphs::DECODER_IDS, Input::i64([batch, 1], &ids)),
            (graphs::BIAS_INDEX, Input::i64([batch, 1, past + 1], &bias)),
        ];
        for (layer, names) in names.iter().enumerate() {
            for (kind, name) in names.iter().enumerate() {
                inputs.push((
                    name,
                    match generation.cache.get(layer) {
                        Some(pair) => Input::Kept(&pair[kind]),
                        None => Input::f32([batch, c.num_heads, 0, c.d_kv], &[]),
                    },
                ));
            }
        }
        let mut outputs = self.step.run_keeping(&inputs, |name| name != graphs::LOGITS)?;
        let logits = outputs.take(graphs::LOGITS)?;
        for (row, logits) in logits.f32s()?.chunks(c.vocab_size).enumerate() {
            let token = most_likely(logits);
            if generation.finished[row].is_some() {
                continue;
            }
            if token == c.eos_token_id {
                generation.finished[row] = Some(Finish::Stop);
                continue;
            }
            generation.texts[row].push(token);
            if generation.texts[row].len() == generation.limits[row] {
                generation.finished[row] = Some(Finish::Length);
            }
        }
        generation.steps += 1;
        generation.cache = (0..c.num_decoder_layers)
            .map(|layer| {
                let mut take = |kind| outputs.take(&graphs::cache_name("present", layer, kind));
                Ok([take("key")?, take("value")?])
            })
            .collect::<Result<_, RuntimeError>>()?;
        Ok(())
    }

    /// Generates all texts to their end.
    ///
    /// # Errors
    /// If a run fails.
    pub fn generate(
        &mut self,
        sources: &[Source<'_>],
        limits: &[usize],
    ) -> Result<Vec<Generated>, RuntimeError> {
        let mut generation = self.start(sources, limits)?;
        while !generation.is_finished() {
            self.step(&mut generation)?;
        }
        Ok(generation.into_texts())
    }
}

/// The index of the largest logit, the first of equal ones.
fn most_likely(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, &x) in logits.iter().enumerate() {
        if x > logits[best] {
            best = token;
        }
    }
    best as u32
}
