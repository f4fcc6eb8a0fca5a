//! Where a prompt starts: vocabulary, random numbers, labels, a text or another prompt. What each is and where it
//! comes from stands at [`Initialization`].

use std::path::{Path, PathBuf};

use rand::Rng as _;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use xprompt::prompt::{Label, Limits, PromptError, PromptFile};
use xprompt::task::TokenizerError;

use crate::setup::Setup;
use crate::task_file::Initialization;

/// T5's vocabulary is sorted by frequency; rows are drawn from this many of its first entries.
const FREQUENT: usize = 5000;

/// Largest value of a random start.
const UNIFORM: f32 = 0.5;

/// Why a prompt has nothing to start from.
#[derive(Debug, thiserror::Error)]
pub enum InitializeError {
    /// A label's words or a text cannot be cut into tokens.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The prompt file cannot be read; the error names it.
    #[error("tuning.initialization: {0}")]
    Read(PromptError),
    /// The prompt file is not valid, or is of another model.
    #[error("tuning.initialization: {path}: {source}")]
    Prompt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PromptError,
    },
    /// The prompt file holds more rows than the new prompt.
    #[error(
        "tuning.initialization: {path} has {rows} rows, more than the {tokens} of tuning.prompt_tokens; raise it to \
         {rows}, or start from a prompt that is pruned to {tokens} tokens or fewer"
    )]
    TooManyRows {
        /// The file.
        path: PathBuf,
        /// Its surviving rows.
        rows: usize,
        /// Rows of the new prompt.
        tokens: usize,
    },
}

/// What a prompt starts from.
#[derive(Clone, Debug, PartialEq)]
pub struct Initial {
    /// Rows `[tokens, d_model]`.
    pub rows: Vec<f32>,
    /// Where the rows come from, in words, such as `2 of 2 labels, 18 rows of sampled vocabulary`. A prompt file is
    /// named with its version.
    pub origin: String,
}

/// The rows that `how` gives, and their origin in words.
type Given = (Vec<Vec<f32>>, String);

/// Makes `tokens` rows to start from.
///
/// # Errors
/// If labels or a text cannot be cut into tokens, or a prompt file is not usable: not valid, of another model, or of
/// more rows than `tokens`.
pub fn initialize(
    how: &Initialization,
    tokens: usize,
    labels: &[Label],
    setup: &Setup,
    rng: &mut ChaCha8Rng,
) -> Result<Initial, InitializeError> {
    let (mut rows, mut origin) = match how {
        Initialization::SampledVocabulary => Given::default(),
        Initialization::RandomUniform => uniform(tokens, setup.base.d_model, rng),
        Initialization::ClassLabels => of_labels(labels, tokens, setup)?,
        Initialization::Text(text) => of_text(text, tokens, setup)?,
        Initialization::Prompt(path) => of_prompt(path, tokens, setup)?,
    };
    if rows.len() < tokens {
        let separator = if origin.is_empty() { "" } else { ", " };
        origin += &format!("{separator}{} rows of sampled vocabulary", tokens - rows.len());
    }
    let frequent = FREQUENT.min(setup.model.config().vocab_size);
    // drawn without repetition, as long as there are enough
    while rows.len() < tokens {
        let missing = (tokens - rows.len()).min(frequent);
        rows.extend(index::sample(rng, frequent, missing).into_iter().map(|token| embedding(setup, token)));
    }
    Ok(Initial { rows: rows.concat(), origin })
}

fn uniform(tokens: usize, d_model: usize, rng: &mut ChaCha8Rng) -> Given {
    let mut row = || (0..d_model).map(|_| rng.random_range(-UNIFORM..=UNIFORM)).collect();
    ((0..tokens).map(|_| row()).collect(), format!("{tokens} rows of random values"))
}

fn of_labels(labels: &[Label], tokens: usize, setup: &Setup) -> Result<Given, TokenizerError> {
    let mut rows = Vec::new();
    for label in labels.iter().take(tokens) {
        let words = setup.tokenizer.words(&label.words)?;
        let vectors: Vec<Vec<f32>> = words.iter().map(|&token| embedding(setup, token as usize)).collect();
        rows.push(mean(&vectors, setup.base.d_model));
    }
    let origin = format!("{} of {} labels", rows.len(), labels.len());
    Ok((rows, origin))
}

fn of_text(text: &str, tokens: usize, setup: &Setup) -> Result<Given, TokenizerError> {
    let words = setup.tokenizer.words(text)?;
    let rows: Vec<Vec<f32>> =
        words.iter().take(tokens).map(|&token| embedding(setup, token as usize)).collect();
    let origin = format!("{} of the text's {} tokens", rows.len(), words.len());
    Ok((rows, origin))
}

fn of_prompt(path: &Path, tokens: usize, setup: &Setup) -> Result<Given, InitializeError> {
    let refuse = |error| match error {
        PromptError::Io { .. } => InitializeError::Read(error),
        source => InitializeError::Prompt { path: path.to_owned(), source },
    };
    let (file, version) = PromptFile::read(path, &Limits::default()).map_err(refuse)?;
    file.verify(&setup.base).map_err(refuse)?;
    let rows = file.prompt.kept_token_count();
    if rows > tokens {
        return Err(InitializeError::TooManyRows { path: path.to_owned(), rows, tokens });
    }
    let origin = format!("{rows} rows of {} (version {version})", path.display());
    Ok((file.prompt.rows().chunks(setup.base.d_model).map(<[f32]>::to_vec).collect(), origin))
}

fn embedding(setup: &Setup, token: usize) -> Vec<f32> {
    let checkpoint = setup.model.checkpoint();
    checkpoint.row(checkpoint.embedding(), token)
}

fn mean(vectors: &[Vec<f32>], d_model: usize) -> Vec<f32> {
    let sum = |i: usize| vectors.iter().map(|vector| vector[i]).sum::<f32>();
    (0..d_model).map(|i| sum(i) / vectors.len().max(1) as f32).collect()
}
