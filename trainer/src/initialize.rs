//! Where a prompt starts (Lester et al. 2021, section 3.2).

use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use xprompt::prompt::Label;
use xprompt::t5::Checkpoint;
use xprompt::task::{Tokenizer, TokenizerError};

use crate::task_file::Initialization;

/// T5's vocabulary is sorted by frequency; rows are drawn from this many of its first entries.
const FREQUENT: usize = 5000;

/// Rows `[tokens, d_model]` to start from.
///
/// # Errors
/// If a label's words cannot be cut into tokens.
pub fn initialize(
    how: Initialization,
    tokens: usize,
    labels: &[Label],
    checkpoint: &Checkpoint,
    tokenizer: &Tokenizer,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<f32>, TokenizerError> {
    let embedding = |token: usize| checkpoint.row(checkpoint.embedding(), token);
    let mut rows: Vec<Vec<f32>> = Vec::with_capacity(tokens);
    if how == Initialization::ClassLabels {
        for label in labels.iter().take(tokens) {
            let words = tokenizer.words(&label.words)?;
            let vectors: Vec<Vec<f32>> = words.iter().map(|&token| embedding(token as usize)).collect();
            rows.push(mean(&vectors, checkpoint.config().d_model));
        }
    }
    let frequent = FREQUENT.min(checkpoint.config().vocab_size);
    // drawn without repetition, as long as there are enough
    while rows.len() < tokens {
        let missing = (tokens - rows.len()).min(frequent);
        rows.extend(index::sample(rng, frequent, missing).into_iter().map(embedding));
    }
    Ok(rows.concat())
}

fn mean(vectors: &[Vec<f32>], d_model: usize) -> Vec<f32> {
    let sum = |i: usize| vectors.iter().map(|vector| vector[i]).sum::<f32>();
    (0..d_model).map(|i| sum(i) / vectors.len().max(1) as f32).collect()
}
