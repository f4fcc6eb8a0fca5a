//! The XPrompt: soft prompt rows with whole tokens and pieces of tokens pruned away, and its file.
//!
//! [`Prompt`] is the tensor with its masks, [`Manifest`] what the file says about itself, [`PromptFile`] both,
//! read with every check before a byte is used and written so that no torn file is ever visible.

mod file;
mod manifest;
mod pruning;
mod tensor;

pub use file::{Limits, PromptError, PromptFile, UNFINISHED, replace_atomically, write_atomically};
pub use manifest::{
    Base, DataSource, FORMAT, Fingerprint, Golden, Label, Manifest, OutputSpec, Score, ScoredBy, Stage,
    TaskSpec,
};
pub use pruning::{keep_top_pieces, keep_top_tokens};
pub use tensor::Prompt;
