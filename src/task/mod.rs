//! What makes text into a prediction: the tokenizer, the template, the labels as a trie, and the metrics.

mod metrics;
mod template;
mod tokenizer;
mod trie;

pub use metrics::{accuracy, exact_match, macro_f1};
pub use template::{Template, TemplateError};
pub use tokenizer::{Tokenizer, TokenizerError};
pub use trie::{Decision, LabelTrie, TrieError};
