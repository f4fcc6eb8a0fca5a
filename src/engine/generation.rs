//! A batch of texts in the making: which rows it has, what each text has come to, and what its rows read next.
//!
//! Texts may have begun at different steps: every row has its own positions in the cache.

use std::collections::BTreeMap;

use super::beams::BeamSearch;
use super::cache::Blocks;
use super::decoding::{Decoding, Method};
use super::sampler::Sampler;
use crate::runtime::Output;

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

/// A batch whose texts are being generated, one token of each a step. Texts have numbers, in the order in which they
/// came.
#[derive(Debug)]
pub struct Generation {
    /// `[seats, length, d_model]`, of which the first are the rows'.
    pub(super) hidden: Output,
    /// `[seats, length]`.
    pub(super) mask: Vec<f32>,
    pub(super) seats: usize,
    /// Encoder positions of a row.
    pub(super) length: usize,
    pub(super) rows: Vec<Row>,
    texts: BTreeMap<usize, Text>,
}

/// A row of the batch.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) text: usize,
    /// What the decoder reads next.
    pub(super) token: u32,
    /// How many positions it has in the cache.
    pub(super) age: usize,
    /// Where they are.
    pub(super) blocks: Blocks,
}

/// The rows of a batch after a step: what each continues, and what it is.
pub(super) type Next = (Vec<usize>, Vec<Row>);

#[derive(Debug)]
struct Text {
    limit: usize,
    /// Rows that it may come to take.
    width: usize,
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
    pub(super) fn new(
        (hidden, mask, length): (Output, Vec<f32>, usize),
        decodings: &[Decoding],
        start: u32,
        eos: u32,
    ) -> Self {
        let text = |decoding| Text::new(decoding, eos);
        let row = |text| Row { text, token: start, age: 0, blocks: Blocks::default() };
        Self {
            hidden,
            mask,
            seats: decodings.len(),
            length,
            rows: (0..decodings.len()).map(row).collect(),
            texts: decodings.iter().map(text).enumerate().collect(),
        }
    }

    /// Whether every text has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes a text out if it has ended.
    pub fn take_ended(&mut self, text: usize) -> Option<Generated> {
        if !self.texts.get(&text)?.has_ended() {
            return None;
        }
        self.texts.remove(&text).map(Text::into_generated)
    }

    /// The tokens that are certain so far; of a beam search none before it ends.
    #[must_use]
    pub fn tokens(&self, text: usize) -> &[u32] {
        match self.texts.get(&text).map(|text| &text.state) {
            Some(State::Single { tokens, .. }) => tokens,
            Some(State::Ended(generated)) => &generated.tokens,
            Some(State::Beams(_)) | None => &[],
        }
    }

    /// Takes a text out where it stands: nobody waits for it.
    pub fn abandon(&mut self, text: usize) {
        self.texts.remove(&text);
    }

    /// The texts in the order of their numbers; one that has not ended counts as cut by length.
    #[must_use]
    pub fn into_texts(self) -> Vec<Generated> {
        self.texts.into_values().map(Text::into_generated).collect()
    }

    /// Whether two batches may go on as one of so many rows and padded encoder positions at most, of which at most
    /// `max_padding` percent are padding. Both need a text that goes on and have to have taken a step.
    #[must_use]
    pub fn fits(&self, other: &Self, max_rows: usize, max_positions: usize, max_padding: usize) -> bool {
        let goes_on = |generation: &Self| {
            let living = generation.living().1;
            !living.is_empty() && living.iter().all(|row| row.age > 0)
        };
        if !goes_on(self) || !goes_on(other) {
            return false;
        }
        let width = |generation: &Self| generation.texts.values().map(|text| text.width).sum::<usize>();
        let own = |generation: &Self| {
            let of_rows = &generation.mask[..generation.rows.len() * generation.length];
            of_rows.iter().filter(|&&own| own > 0.0).count()
        };
        let padded = (self.rows.len() + other.rows.len()) * self.length.max(other.length);
        let padding = padded - own(self) - own(other);
        width(self) + width(other) <= max_rows
            && padded <= max_positions
            && padding * 100 <= padded * max_padding
    }

    /// Rows of texts that have not ended and were not taken out.
    pub(super) fn living(&self) -> Next {
        let lives = |row: &Row| self.texts.get(&row.text).is_some_and(|text| !text.has_ended());
        self.rows.iter().enumerate().filter(|(_, row)| lives(row)).map(|(i, row)| (i, row.clone())).unzip()
    }

    /// Whether a text goes on by more than the most likely token.
    pub(super) fn needs_logits(&self) -> bool {
        let needs = |text: &Text| match &text.state {
            State::Single { sampler, .. } => sampler.is_some(),
            State::Beams(_) => true,
            State::Ended(_) => false,
        };
        self.texts.values().any(needs)
    }

    /// Takes the most likely token and, if they are [needed](Self::needs_logits), the logits that follow each row. Returns
    /// the rows of the next step.
    pub(super) fn advance(&mut self, best: &[u32], logits: &[&[f32]], eos: u32) -> Next {
        let (mut pick, mut next) = (Vec::new(), Vec::new());
        let mut first = 0;
        for rows in self.rows.chunk_by(|a, b| a.text == b.text) {
            let (number, age) = (rows[0].text, rows[0].age + 1);
            let of_text = first..first + rows.len();
            let (best, logits) = (best[first], &logits[of_text]);
            let text = self.texts.get_mut(&number);
            for (row, token) in text.map(|text| text.advance(best, logits, eos)).unwrap_or_default() {
                pick.push(first + row);
                next.push(Row { text: number, token, age, blocks: rows[row].blocks.clone() });
            }
            first += rows.len();
        }
        (pick, next)
    }

    /// Takes over the texts and rows of another batch, whose tensors are joined already. Returns what the numbers of
    /// its texts grew by.
    pub(super) fn adopt(&mut self, rows: Vec<Row>, texts: Texts) -> usize {
        let by = self.texts.keys().next_back().map_or(0, |last| last + 1);
        self.rows.extend(rows.into_iter().map(|row| Row { text: row.text + by, ..row }));
        self.texts.extend(texts.0.into_iter().map(|(number, text)| (number + by, text)));
        by
    }

    /// Lets go of the texts.
    pub(super) fn into_parts(self) -> (Vec<Row>, Texts) {
        (self.rows, Texts(self.texts))
    }
}

/// The texts of a batch that was joined with another.
pub(super) struct Texts(BTreeMap<usize, Text>);

// === impl Text ===

impl Text {
    fn new(decoding: &Decoding, eos: u32) -> Self {
        let (limit, width) = (decoding.max_new_tokens, decoding.rows());
        let single = |sampler| State::Single { tokens: Vec::new(), sampler };
        let mut text = Self {
            limit,
            width,
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

    fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    fn end(&mut self, finish: Finish) {
        let nothing = State::Ended(Generated { tokens: Vec::new(), finish });
        let state = std::mem::replace(&mut self.state, nothing);
        self.state = State::Ended(state.ended(finish));
    }

    /// What it has come to; if it has not ended, it counts as cut by length.
    fn into_generated(self) -> Generated {
        self.state.ended(Finish::Length)
    }

    /// Takes the most likely token of the first of the text's rows, and the logits of all. Returns its next rows: which row
    /// each continues, and its token.
    fn advance(&mut self, best: u32, logits: &[&[f32]], eos: u32) -> Vec<(usize, u32)> {
        match &mut self.state {
            State::Ended(_) => Vec::new(),
            State::Single { tokens, sampler } => {
                let token = match sampler {
                    Some(sampler) => sampler.draw(logits[0]),
                    None => best,
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

// === impl State ===

impl State {
    fn ended(self, finish: Finish) -> Generated {
        match self {
            Self::Single { tokens, .. } => Generated { tokens, finish },
            Self::Beams(search) => search.into_best(),
            Self::Ended(generated) => generated,
        }
    }
}
