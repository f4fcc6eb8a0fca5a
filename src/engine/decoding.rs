//! How a text is generated: the settings of a request.

/// Beams that a text may have: each costs what a text costs.
pub const MAX_BEAMS: usize = 16;

/// How one text is generated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decoding {
    /// Longest text in tokens.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub method: Method,
}

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// The most likely token each time.
    Greedy,
    /// A token drawn by its probability.
    Sample(Sampling),
    /// The best of several texts that are kept in view.
    Beams(BeamSettings),
}

/// What is drawn from, and the source of chance. The order is temperature, `top_k`, `top_p`, as in transformers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; above 0.
    pub temperature: f32,
    /// Only this many of the most likely tokens are drawn from.
    pub top_k: Option<usize>,
    /// Only the most likely tokens that together reach this probability are drawn from; 1 leaves all.
    pub top_p: f32,
    /// The same seed draws the same text, whatever else is in the batch.
    pub seed: u64,
    /// Tells apart texts that are drawn from one seed.
    pub stream: u64,
}

/// How wide beam search looks, and how it weighs lengths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BeamSettings {
    /// Texts kept in view, at most [`MAX_BEAMS`].
    pub count: usize,
    /// A text's score is the sum of its tokens' log probabilities over its length to this power: above 0 long
    /// texts are favoured, below 0 short ones.
    pub length_penalty: f32,
}

// === impl Decoding ===

impl Decoding {
    /// The most likely token each time, at most `max_new_tokens`.
    #[must_use]
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { max_new_tokens, method: Method::Greedy }
    }

    /// Rows that the text takes in a batch.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self.method {
            Method::Greedy | Method::Sample(_) => 1,
            Method::Beams(beams) => beams.count,
        }
    }
}
