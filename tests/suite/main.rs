//! Integration tests, one binary. Each module says what it holds.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

/// Label scores and generated texts against Hugging Face transformers, alone and in batches.
mod answers_reference;
/// The prompts of this repository on the model of this repository.
mod bundled_prompts;
/// Several devices behind one queue, simulated.
mod devices;
/// Prompts that clients upload, roll back, share out, pin and remove.
mod lifecycle;
/// Where nodes compute.
mod placement;
/// The prompt file: what is checked on reading, and that writing is never torn.
mod prompt_file;
/// Prompts for the bundled model, and a server on them.
mod prompts;
/// Every error code, and what comes with it.
mod server_errors;
/// Kills of the server at any moment of its clients' changes.
mod server_kill;
/// The server's metrics: names and values.
mod server_metrics;
/// What predict calls get.
mod server_predict;
/// The binary as a process: start-up errors, signals.
mod server_process;
/// Prompts that come, change, break and go while the server runs.
mod server_prompts;
/// The store on a folder that hands and programs change too.
mod store_folder;
/// The store against a simple model of it, by random operations, faults and kills.
mod store_model;
/// The store on a bucket of a real S3 server, with everything that goes wrong there.
mod store_s3;
mod support;
/// T5 against Hugging Face transformers and PyTorch autograd, on small random models of every variant.
mod t5_reference;
