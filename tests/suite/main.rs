//! Integration tests, one binary. Each module says what it holds.
#![allow(missing_docs, unreachable_pub)]

/// Label scores and generated texts against Hugging Face transformers, alone and in batches.
mod answers_reference;
/// The prompt file: what is checked on reading, and that writing is never torn.
mod prompt_file;
mod support;
/// T5 against Hugging Face transformers and PyTorch autograd, on small random models of every variant.
mod t5_reference;
