//! A batch of texts in the making: which rows it has, what each text has come to, and what its rows read next.
//!
//! Texts may have begun at different steps. A row's own positions are the last of the cache; what is before them is
//! hidden from it.

use std::collections::BTreeMap;

use super::beams::BeamSearch;
use super::decoding::{Decoding, Method};
use super::sampler::{Sampler, most_likely};
use crate::runtime::Output;
use crate::t5::{Buckets, Direction};

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
    pub(super) hidden: Output,
    pub(super) mask: Vec<f32>,
    /// Encoder positions of a row.
    pub(super) length: usize,
    pub(super) cache: Vec<[Output; 2]>,
    /// Decoder positions of the cache.
    pub(super) past: usize,
    pub(super) rows: Vec<Row>,
    texts: BTreeMap<usize, Text>,
}

/// A row of the batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) text: usize,
    /// What the decoder reads next.
    pub(super) token: u32,
    /// The positions of the cache that are its own: the last ones.
    pub(super) age: usize,
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
        Self {
            hidden,
            mask,
            length,
            cache: Vec::new(),
            past: 0,
            rows: (0..decodings.len()).map(|text| Row { text, token: start, age: 0 }).collect(),
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
        let goes_on = |generation: &Self| generation.past > 0 && !generation.living().1.is_empty();
        if !goes_on(self) || !goes_on(other) {
            return false;
        }
        let width = |generation: &Self| generation.texts.values().map(|text| text.width).sum::<usize>();
        let own = |generation: &Self| generation.mask.iter().filter(|&&own| own > 0.0).count();
        let padded = (self.rows.len() + other.rows.len()) * self.length.max(other.length);
        let padding = padded - own(self) - own(other);
        width(self) + width(other) <= max_rows
            && padded <= max_positions
            && padding * 100 <= padded * max_padding
    }

    /// Rows of texts that have not ended and were not taken out.
    pub(super) fn living(&self) -> Next {
        let lives = |row: &Row| self.texts.get(&row.text).is_some_and(|text| !text.has_ended());
        (0..self.rows.len()).filter(|&i| lives(&self.rows[i])).map(|i| (i, self.rows[i])).unzip()
    }

    /// Takes the logits that follow each row. Returns the rows of the next step.
    pub(super) fn advance(&mut self, logits: &[&[f32]], eos: u32) -> Next {
        let (mut pick, mut next) = (Vec::new(), Vec::new());
        let mut first = 0;
        for rows in self.rows.chunk_by(|a, b| a.text == b.text) {
            let (number, age) = (rows[0].text, rows[0].age + 1);
            let of_text = &logits[first..first + rows.len()];
            let text = self.texts.get_mut(&number);
            for (row, token) in text.map(|text| text.advance(of_text, eos)).unwrap_or_default() {
                pick.push(first + row);
                next.push(Row { text: number, token, age });
            }
            first += rows.len();
        }
        (pick, next)
    }

    /// The relative position of each row's next token to the positions of the cache and to itself, as buckets.
    pub(super) fn bias(&self, buckets: Buckets) -> Vec<i64> {
        let of_step = |back: usize| buckets.of(-(back as i64), Direction::Backward) as i64;
        let steps: Vec<i64> = (0..=self.past).rev().map(of_step).collect();
        let hidden = buckets.count() as i64;
        let of_row = |row: &Row| {
            let before = self.past - row.age;
            std::iter::repeat_n(hidden, before).chain(steps[before..].iter().copied())
        };
        self.rows.iter().flat_map(of_row).collect()
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
