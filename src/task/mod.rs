//! What makes text into a prediction: the tokenizer, the template and how it is cut, the labels as a trie, and the metrics.

mod input;
mod metrics;
mod template;
mod tokenizer;
mod trie;

pub use input::InputForm;
pub use metrics::{accuracy, exact_match, macro_f1};
pub use template::{Template, TemplateError};
pub use tokenizer::{Tokenizer, TokenizerError};
pub use trie::{Decision, LabelTrie, TrieError};
