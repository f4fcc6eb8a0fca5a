//! Integration tests, one binary. Each module says what it holds.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

/// Label scores and generated texts against Hugging Face transformers, alone and in batches.
mod answers_reference;
/// The prompts of this repository on the model of this repository.
mod bundled_prompts;
/// Steps of generation over the cache, against a pass over all positions.
mod cached_steps;
/// Checkpoints with something wrong in them.
mod checkpoints;
/// Beam search against Hugging Face transformers; sampling by seed.
mod decoding_reference;
/// Several devices behind one queue, simulated.
mod devices;
/// The requests that the documentation shows.
mod documentation;
/// The programs that the documentation shows, in every language.
mod documentation_clients;
/// Other programs' prompts made into rows as the documentation says.
mod documentation_folding;
/// Links of the documentation.
mod documentation_links;
/// Pages of the documentation that are made from the program.
mod documentation_reference;
/// Soft prompts of PEFT and NumPy, against what those programs answer and write.
mod exchange;
/// Models fetched from a hub, and what can go wrong there.
mod hub;
/// Texts that join others under way, against the same texts alone.
mod joined_generations;
/// Prompts that clients upload, roll back, share out, pin and remove.
mod lifecycle;
/// Products of 8-bit integers and of bf16 against PyTorch, and the files that weights of them are kept in.
mod narrow;
/// Where nodes compute.
mod placement;
/// The prompt file: what is checked on reading, and that writing is never torn.
mod prompt_file;
/// Prompts for the bundled model, and a server on them.
mod prompts;
/// Gradients with activations that are computed again.
mod recompute;
/// Comparing pages with what they have to be.
#[path = "../reference/page.rs"]
mod reference_page;
/// API keys, listeners, and who may do what on them.
mod server_access;
/// Folders that PEFT saved, in a server's place of prompts.
mod server_adapters;
/// Public clients from PyPI against the server.
mod server_clients;
/// The dashboard and the alerts in docker/, against what a server exports.
mod server_dashboards;
/// Every error code, and what comes with it.
mod server_errors;
/// Kills of the server at any moment of its clients' changes.
mod server_kill;
/// What clients may cost beyond a call, and the proof that readiness asks for.
mod server_limits;
/// Pages of the list of tasks.
mod server_list;
/// The server's metrics: names and values.
mod server_metrics;
/// The description of the interface against what the server does.
mod server_openapi;
/// The options of predict calls.
mod server_options;
/// What predict calls get.
mod server_predict;
/// The binary as a process: start-up errors, signals.
mod server_process;
/// Prompts that come, change, break and go while the server runs.
mod server_prompts;
/// Flags, environment variables and the file of settings.
mod server_settings;
/// Texts sent as they are generated.
mod server_stream;
/// Computing threads, by what the system gives the process.
mod server_threads;
/// TLS, HTTP/2, and certificates that change.
mod server_tls;
/// Request ids in the log, and traces as a collector gets them.
mod server_traces;
/// Sessions over small graphs.
mod sessions;
/// The store on a folder that hands and programs change too.
mod store_folder;
/// The store against a simple model of it, by random operations, faults and kills.
mod store_model;
/// The store on a bucket of a real S3 server, with everything that goes wrong there.
mod store_s3;
mod support;
/// T5 against Hugging Face transformers and PyTorch autograd, on small random models of every variant.
mod t5_reference;
/// Tokenizers against Hugging Face's, on strings that are hard.
mod tokenizers;
mod weights;
