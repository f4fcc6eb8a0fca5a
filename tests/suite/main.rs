//! Integration tests, one binary. Each module says what it holds.
#![allow(missing_docs, unreachable_pub)]

mod support;
/// T5 against Hugging Face transformers and PyTorch autograd, on small random models of every variant.
mod t5_reference;
