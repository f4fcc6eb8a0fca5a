//! Integration tests, one binary. Each module says what it holds.
#![allow(missing_docs, unreachable_pub)]

/// Prompts for the bundled model, and a server on them.
mod prompts;
/// The server's metrics: names and values.
mod server_metrics;
/// What predict calls get.
mod server_predict;
mod support;
/// T5 against Hugging Face transformers and PyTorch autograd, on small random models of every variant.
mod t5_reference;
