//! A prompt made ready to answer: its rows, its parsed template and its labels as a trie.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::Decoding;
use crate::prompt::{Manifest, OutputSpec, PromptFile, TaskSpec};
use crate::t5::Config;
use crate::task::{InputForm, LabelTrie, Template, TemplateError, Tokenizer, TokenizerError, TrieError};

/// Why a prompt's task cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The template is malformed.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The labels cannot be told apart.
    #[error(transparent)]
    Labels(#[from] TrieError),
    /// A label's words cannot be cut.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// An input without content is no input of the task.
    #[error("task.content_free[{index}]: {source}")]
    ContentFree {
        /// Which, from 0.
        index: usize,
        /// What is wrong with it.
        source: InputError,
    },
    /// More inputs without content than are computed.
    #[error("task.content_free has {0} inputs, allowed are {MAX_CONTENT_FREE}")]
    ContentFreeCount(usize),
}

/// Inputs without content that a task may have.
pub const MAX_CONTENT_FREE: usize = 16;

/// Why an input cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It does not fit the template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// It is longer than the task allows.
    #[error("the input has {tokens} tokens, the task takes {limit}; shorten it, or ask for truncation")]
    TooLong {
        /// Its tokens, the end token included.
        tokens: usize,
        /// The task's limit.
        limit: usize,
    },
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// What a task answers with.
#[derive(Clone, Debug, PartialEq)]
pub enum Answers {
    /// One of these labels.
    Labels {
        /// Names, in the order of the task.
        names: Vec<String>,
        /// Their words' tokens.
        trie: LabelTrie,
    },
    /// Free text.
    Text {
        /// Longest answer in tokens.
        max_new_tokens: usize,
    },
}

/// One version of a task without its prompt rows: all that describing it and reading its inputs takes.
#[derive(Debug)]
pub struct TaskCard {
    manifest: Manifest,
    version: String,
    kept_tokens: usize,
    kept_pieces: usize,
    form: InputForm,
    answers: Answers,
    content_free: Vec<Vec<u32>>,
    prior: OnceLock<Vec<f32>>,
}

/// One version of a task, ready to answer: its card, and its rows in memory.
#[derive(Debug)]
pub struct ReadyTask {
    card: Arc<TaskCard>,
    rows: Vec<f32>,
}

// === impl ReadyTask ===

impl ReadyTask {
    /// Makes a checked prompt ready.
    ///
    /// # Errors
    /// If its template is malformed or its labels cannot be told apart by this tokenizer.
    pub fn new(
        file: PromptFile,
        version: String,
        tokenizer: &Tokenizer,
        config: &Config,
    ) -> Result<Self, TaskError> {
        let PromptFile { manifest, prompt, .. } = file;
        let TaskSpec { template, keep, max_input_tokens, .. } = &manifest.task;
        let form = InputForm::new(template, keep, *max_input_tokens)?;
        let answers = Answers::new(&manifest.task.output, tokenizer, config)?;
        let rows = prompt.rows().to_vec();
        let mut card = TaskCard {
            version,
            kept_tokens: prompt.kept_token_count(),
            kept_pieces: prompt.kept_piece_count(),
            form,
            answers,
            content_free: Vec::new(),
            prior: OnceLock::new(),
            manifest,
        };
        card.content_free = card.encode_content_free(tokenizer)?;
        Ok(Self { card: Arc::new(card), rows })
    }

    /// The rows of a version beside the card that it had before.
    #[must_use]
    pub fn with_card(self, card: &Arc<TaskCard>) -> Self {
        Self { card: Arc::clone(card), rows: self.rows }
    }

    /// The version without its rows.
    #[must_use]
    pub fn card(&self) -> &Arc<TaskCard> {
        &self.card
    }

    /// Surviving prompt rows, `[kept tokens, d_model]`.
    #[must_use]
    pub fn rows(&self) -> &[f32] {
        &self.rows
    }
}

impl Deref for ReadyTask {
    type Target = TaskCard;

    fn deref(&self) -> &TaskCard {
        &self.card
    }
}

// === impl TaskCard ===

impl TaskCard {
    /// What the file says about itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The version that the file's bytes give it.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Prompt tokens that survived: what the task adds to every input's length.
    #[must_use]
    pub fn kept_tokens(&self) -> usize {
        self.kept_tokens
    }

    /// Prompt pieces that survived.
    #[must_use]
    pub fn kept_pieces(&self) -> usize {
        self.kept_pieces
    }

    /// What the task answers with.
    #[must_use]
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// How the task generates text if nothing else is asked for.
    #[must_use]
    pub fn decoding(&self) -> Decoding {
        match self.answers {
            Answers::Text { max_new_tokens } => Decoding::greedy(max_new_tokens),
            Answers::Labels { .. } => Decoding::greedy(0),
        }
    }

    /// The parsed template.
    #[must_use]
    pub fn template(&self) -> &Template {
        self.form.template()
    }

    /// Bytes of the rows in memory.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.kept_tokens * self.manifest.d_model * size_of::<f32>()
    }

    fn encode_content_free(&self, tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>, TaskError> {
        let inputs = &self.manifest.task.content_free;
        if inputs.len() > MAX_CONTENT_FREE {
            return Err(TaskError::ContentFreeCount(inputs.len()));
        }
        let encode = |(index, input)| match self.encode(input, tokenizer, true) {
            Ok((ids, _)) => Ok(ids),
            Err(source) => Err(TaskError::ContentFree { index, source }),
        };
        inputs.iter().enumerate().map(encode).collect()
    }

    /// Token ids of the inputs without content, if the file has some.
    #[must_use]
    pub fn content_free(&self) -> &[Vec<u32>] {
        &self.content_free
    }

    /// The label probabilities that inputs without content get, once they were computed.
    #[must_use]
    pub fn prior(&self) -> Option<&[f32]> {
        self.prior.get().map(Vec::as_slice)
    }

    /// Keeps the label probabilities of each input without content, as their means.
    pub fn set_prior(&self, scores: &[Vec<f32>]) {
        let mean =
            |label: usize| scores.iter().map(|scores| scores[label]).sum::<f32>() / scores.len() as f32;
        let labels = scores.first().map_or(0, Vec::len);
        // computed twice side by side, it is the same
        self.prior.get_or_init(|| (0..labels).map(mean).collect());
    }

    /// Token ids of an input, with the end token, and whether they were cut to the task's limit.
    ///
    /// # Errors
    /// If the input does not fit the template, or is too long and `truncate` is false.
    pub fn encode(
        &self,
        input: &Value,
        tokenizer: &Tokenizer,
        truncate: bool,
    ) -> Result<(Vec<u32>, bool), InputError> {
        let values = self.form.template().values(input)?;
        let (ids, tokens) = self.form.source(&values, tokenizer)?;
        let limit = self.form.limit();
        let too_long = tokens > limit;
        if too_long && !truncate {
            return Err(InputError::TooLong { tokens, limit });
        }
        Ok((ids, too_long))
    }
}

// === impl Answers ===

impl Answers {
    /// What a task answers with, by its specification.
    ///
    /// # Errors
    /// If the labels cannot be told apart by this tokenizer.
    pub fn new(output: &OutputSpec, tokenizer: &Tokenizer, config: &Config) -> Result<Self, TaskError> {
        match output {
            OutputSpec::Labels { labels } => {
                let tokens = labels
                    .iter()
                    .map(|label| Ok((label.name.clone(), tokenizer.answer(&label.words)?)))
                    .collect::<Result<Vec<_>, TokenizerError>>()?;
                let trie = LabelTrie::new(&tokens, config.decoder_start_token_id, config.eos_token_id)?;
                Ok(Self::Labels { names: labels.iter().map(|label| label.name.clone()).collect(), trie })
            }
            OutputSpec::Text { max_new_tokens } => Ok(Self::Text { max_new_tokens: *max_new_tokens }),
        }
    }
}
