//! What makes text into a prediction: the tokenizer, the template and how it is cut, and the labels as a trie.

mod calibration;
mod input;
mod template;
mod tokenizer;
mod trie;

pub use calibration::{calibrate, normalize_lengths};
pub use input::InputForm;
pub use template::{Template, TemplateError};
pub use tokenizer::{Tokenizer, TokenizerError};
pub use trie::{Decision, LabelTrie, TrieError};
