//! What makes text into a prediction: the tokenizer, the template, and the labels as a trie.

mod template;
mod tokenizer;
mod trie;

pub use template::{Template, TemplateError};
pub use tokenizer::{Tokenizer, TokenizerError};
pub use trie::{Decision, LabelTrie, TrieError};
