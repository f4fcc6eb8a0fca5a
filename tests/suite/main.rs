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
/// The prompt file: what is checked on reading, and that writing is never torn.
mod prompt_file;
/// Prompts for the bundled model, and a server on them.
mod prompts;
/// API keys, listeners, and who may do what on them.
mod server_access;
/// The dashboard and the alerts in docker/, against what a server exports.
mod server_dashboards;
/// Every error code, and what comes with it.
mod server_errors;
/// What clients may cost beyond a call, and the proof that readiness asks for.
mod server_limits;
/// The server's metrics: names and values.
mod server_metrics;
/// What predict calls get.
mod server_predict;
/// The binary as a process: start-up errors, signals.
mod server_process;
/// Prompts that come, change, break and go while the server runs.
mod server_prompts;
/// Flags, environment variables and the file of settings.
mod server_settings;
/// TLS, HTTP/2, and certificates that change.
mod server_tls;
/// Request ids in the log, and traces as a collector gets them.
mod server_traces;
mod support;
/// T5 against Hugging Face transformers and PyTorch autograd, on small random models of every variant.
mod t5_reference;
