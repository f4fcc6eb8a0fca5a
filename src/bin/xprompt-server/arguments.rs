//! Every setting: as a flag, as an environment variable, and as a key of the file.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use xprompt::runtime::{DeviceChoice, Precision};
use xprompt::{engine, prompt, server, store};

use crate::values::{Secret, duration, percent, positive, time};

/// Serves many text tasks on one frozen T5: each task is a pruned soft prompt (an XPrompt) in a folder.
///
/// POST /tasks/NAME/predict answers; a prompt is served, replaced or removed as its file
/// NAME.safetensors is. Every flag can be given as the environment variable that stands beside it, and as a key of
/// the --config file: --max-batch is max_batch there. A flag comes before a variable, a variable before the file.
#[derive(Debug, Parser)]
#[command(name = "xprompt-server", version, next_line_help = true, max_term_width = 110)]
pub(crate) struct Arguments {
    /// TOML file of settings
    #[arg(long, env = "XPROMPT_CONFIG", value_name = "FILE", help_heading = "Settings")]
    pub(crate) config: Option<PathBuf>,

    /// Print every setting and where it comes from, as such a file, and exit; secrets are not shown
    #[arg(long, help_heading = "Settings")]
    pub(crate) print_config: bool,

    /// The frozen T5: a folder as Hugging Face has it (config.json, model.safetensors, tokenizer.json), or hf:NAME or
    /// hf:NAME@REVISION for one of the hub, which is fetched once
    #[arg(long, env = "XPROMPT_MODEL", value_name = "DIR", default_value = "models/t5-nano")]
    #[arg(help_heading = "What to serve")]
    pub(crate) model: PathBuf,

    /// Folder of the prompts, or a bucket as s3://BUCKET/PREFIX (settings by the variables AWS_…); it is watched
    /// for created, replaced and removed files
    #[arg(long, env = "XPROMPT_PROMPTS", value_name = "DIR", default_value = "prompts")]
    #[arg(help_heading = "What to serve")]
    pub(crate) prompts: String,

    /// Address to listen on; port 0 takes a free one, which the log names
    #[arg(long, env = "XPROMPT_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    #[arg(help_heading = "What to serve")]
    pub(crate) listen: String,

    /// Address for changes and metrics, which --listen then has not; what --listen has is here too
    #[arg(long, env = "XPROMPT_ADMIN_LISTEN", value_name = "HOST:PORT", help_heading = "Access")]
    pub(crate) admin_listen: Option<String>,

    /// File of API keys, read again when it changes; `xprompt-server keygen --help` says how keys are made
    #[arg(long, env = "XPROMPT_KEYS", value_name = "FILE", help_heading = "Access")]
    pub(crate) keys: Option<PathBuf>,

    /// Let everybody who reaches the server call it and change what it serves; without keys only this machine may
    #[arg(long, env = "XPROMPT_NO_AUTH", help_heading = "Access")]
    pub(crate) no_auth: bool,

    /// Certificate chain in PEM: all listeners speak TLS; read again when it changes
    #[arg(long, env = "XPROMPT_TLS_CERT", value_name = "FILE", help_heading = "Access")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The certificate's private key in PEM; read again when it changes
    #[arg(long, env = "XPROMPT_TLS_KEY", value_name = "FILE", help_heading = "Access")]
    pub(crate) tls_key: Option<PathBuf>,

    /// ONNX Runtime's library; without it ORT_DYLIB_PATH, then beside the program or in ../lib, then where `make setup` put it
    #[arg(long, env = "XPROMPT_ONNXRUNTIME", value_name = "FILE", help_heading = "Computing")]
    pub(crate) onnxruntime: Option<PathBuf>,

    /// Where to compute: auto (the first GPU if one can be used, else cpu), cpu, cuda:N for the GPU with number N,
    /// several as cuda:0,cuda:1, or cuda:all
    #[arg(long, env = "XPROMPT_DEVICE", value_name = "DEVICE", default_value_t, help_heading = "Computing")]
    pub(crate) device: DeviceChoice,

    /// What to compute in: f32, tf32, bf16 or f16 on a GPU (default: bf16, half of the memory), f32, bf16 (with AMX or
    /// AVX512-BF16) or int8 on a CPU (default: f32)
    #[arg(long, env = "XPROMPT_PRECISION", value_name = "PRECISION", help_heading = "Computing")]
    pub(crate) precision: Option<Precision>,

    /// Threads that compute; default: one for each core
    #[arg(value_parser = positive, long, env = "XPROMPT_THREADS", value_name = "COUNT", help_heading = "Computing")]
    pub(crate) threads: Option<usize>,

    /// Inputs in a batch
    #[arg(long, env = "XPROMPT_MAX_BATCH", value_name = "COUNT", default_value_t = engine().max_batch)]
    #[arg(value_parser = positive, help_heading = "Computing")]
    pub(crate) max_batch: usize,

    /// Tokens in a batch, prompts and padding included; a longer input goes alone
    #[arg(long, env = "XPROMPT_MAX_BATCH_TOKENS", value_name = "TOKENS", help_heading = "Computing")]
    #[arg(value_parser = positive, default_value_t = engine().max_batch_tokens)]
    pub(crate) max_batch_tokens: usize,

    /// Padding that a batch may have, in percent of its tokens; batches of labels on a CPU have none
    #[arg(long, env = "XPROMPT_MAX_PADDING", value_name = "PERCENT", default_value_t = engine().max_padding)]
    #[arg(help_heading = "Computing")]
    pub(crate) max_padding: usize,

    /// Inputs that wait for the engine; calls beyond are answered 429
    #[arg(long, env = "XPROMPT_MAX_QUEUE", value_name = "COUNT", default_value_t = engine().max_queue)]
    #[arg(value_parser = positive, help_heading = "Limits of calls")]
    pub(crate) max_queue: usize,

    /// Predict calls in flight, those that wait included; calls beyond are answered 429
    #[arg(long, env = "XPROMPT_MAX_REQUESTS", value_name = "COUNT", default_value_t = server().requests)]
    #[arg(value_parser = positive, help_heading = "Limits of calls")]
    pub(crate) max_requests: usize,

    /// Inputs of one call; not more than --max-queue
    #[arg(long, env = "XPROMPT_MAX_INPUTS", value_name = "COUNT", default_value_t = server().inputs)]
    #[arg(value_parser = positive, help_heading = "Limits of calls")]
    pub(crate) max_inputs: usize,

    /// Bytes of a call's body
    #[arg(long, env = "XPROMPT_MAX_BODY_BYTES", value_name = "BYTES", default_value_t = server().body_bytes)]
    #[arg(value_parser = positive, help_heading = "Limits of calls")]
    pub(crate) max_body_bytes: usize,

    /// From a call's arrival to its answer; later it is answered 504 and not computed
    #[arg(long, env = "XPROMPT_REQUEST_TIMEOUT", value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = time, help_heading = "Limits of calls")]
    pub(crate) request_timeout: Duration,

    /// For a client to send a request's head, and again for its body; also how long a connection may be idle
    #[arg(long, env = "XPROMPT_READ_TIMEOUT", value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = time, help_heading = "Limits of calls")]
    pub(crate) read_timeout: Duration,

    /// Open connections; more wait to be accepted
    #[arg(long, env = "XPROMPT_MAX_CONNECTIONS", value_name = "COUNT", help_heading = "Limits of calls")]
    #[arg(value_parser = positive, default_value_t = server().connections)]
    pub(crate) max_connections: usize,

    /// For calls in flight to be answered after SIGTERM or SIGINT; a second signal ends the process at once
    #[arg(long, env = "XPROMPT_DRAIN_TIMEOUT", value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = duration, help_heading = "Limits of calls")]
    pub(crate) drain_timeout: Duration,

    /// Between two trial passes of the model, on which readiness depends
    #[arg(long, env = "XPROMPT_TRIAL_INTERVAL", value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = time, help_heading = "Limits of calls")]
    pub(crate) trial_interval: Duration,

    /// Pause between two looks at the prompts; it grows up to 30s while looks fail
    #[arg(long, env = "XPROMPT_POLL_INTERVAL", value_name = "TIME", default_value = "500ms")]
    #[arg(value_parser = time, help_heading = "Prompts")]
    pub(crate) poll_interval: Duration,

    /// Prompts that are served; files beyond are refused
    #[arg(long, env = "XPROMPT_MAX_PROMPTS", value_name = "COUNT", default_value_t = 20_000)]
    #[arg(value_parser = positive, help_heading = "Prompts")]
    pub(crate) max_prompts: usize,

    /// Bytes of prompt rows in memory; others are read on first use, and the ones used last stay
    #[arg(long, env = "XPROMPT_MAX_RESIDENT_BYTES", value_name = "BYTES", default_value_t = 1 << 30)]
    #[arg(help_heading = "Prompts")]
    pub(crate) max_resident_bytes: usize,

    /// Earlier versions of a task that are kept for a rollback
    #[arg(long, env = "XPROMPT_KEEP_VERSIONS", value_name = "COUNT", default_value_t = 5)]
    #[arg(value_parser = positive, help_heading = "Prompts")]
    pub(crate) keep_versions: usize,

    /// Tasks that are loaded first and stay in memory; the server is ready when they are
    #[arg(long, env = "XPROMPT_PRELOAD", value_name = "TASK,…", value_delimiter = ',')]
    #[arg(help_heading = "Prompts")]
    pub(crate) preload: Vec<String>,

    /// For one request to a bucket
    #[arg(long, env = "XPROMPT_STORE_TIMEOUT", value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = time, help_heading = "Prompts")]
    pub(crate) store_timeout: Duration,

    /// Bytes of a prompt file
    #[arg(long, env = "XPROMPT_MAX_PROMPT_BYTES", value_name = "BYTES", default_value_t = prompt().bytes)]
    #[arg(help_heading = "Prompts")]
    pub(crate) max_prompt_bytes: u64,

    /// Tokens of an input that a prompt may ask for; the time of an input grows with their square
    #[arg(long, env = "XPROMPT_MAX_INPUT_TOKENS", value_name = "TOKENS", default_value_t = 4096)]
    #[arg(value_parser = positive, help_heading = "Prompts")]
    pub(crate) max_input_tokens: usize,

    /// How the log, on standard error, is written
    #[arg(long, env = "XPROMPT_LOG", value_name = "FORMAT", default_value = "text", help_heading = "Log")]
    pub(crate) log: LogFormat,

    /// What is logged: error, warn, info, debug or trace; debug has a line for every request
    #[arg(
        long,
        env = "XPROMPT_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info",
        help_heading = "Log"
    )]
    pub(crate) log_level: String,

    /// OTLP/HTTP endpoint that traces go to, such as http://127.0.0.1:4318; without one there are none
    #[arg(long, env = "XPROMPT_OTLP_ENDPOINT", value_name = "URL", help_heading = "Log")]
    pub(crate) otlp_endpoint: Option<String>,

    /// Headers for that endpoint, such as a key of its owner; a secret that is never shown
    #[arg(long, env = "XPROMPT_OTLP_HEADERS", value_name = "NAME=VALUE,…", hide_env_values = true)]
    #[arg(help_heading = "Log")]
    pub(crate) otlp_headers: Option<Secret>,

    /// Requests that are traced, in percent; one that its caller traces always is, one that its caller does not is not
    #[arg(long, env = "XPROMPT_TRACE_PERCENT", value_name = "PERCENT", default_value_t = 100)]
    #[arg(value_parser = percent, help_heading = "Log")]
    pub(crate) trace_percent: u8,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

// === impl Arguments ===

impl Arguments {
    /// Problems of settings that do not fit each other. Settings that cannot be read have problems already: they are
    /// not looked at.
    pub(crate) fn check(&self, unreadable: &[&str]) -> Vec<String> {
        let problems = [
            (
                ["max_inputs", "max_queue"],
                self.max_inputs > self.max_queue,
                format!(
                    "--max-inputs {} is more than --max-queue {}: such calls could never be queued",
                    self.max_inputs, self.max_queue
                ),
            ),
            (
                ["keys", "no_auth"],
                self.keys.is_some() && self.no_auth,
                "--keys asks for keys and --no-auth for none; give one of them".into(),
            ),
            (
                ["tls_cert", "tls_key"],
                self.tls_cert.is_some() != self.tls_key.is_some(),
                "--tls-cert and --tls-key belong together; give both, or none".into(),
            ),
        ];
        let is_read = |about: &[&str]| !about.iter().any(|name| unreadable.contains(name));
        let found = problems.into_iter().filter(|(about, holds, _)| *holds && is_read(about));
        found.map(|(_, _, problem)| problem).collect()
    }

    pub(crate) fn engine_options(&self) -> engine::Options {
        engine::Options {
            max_queue: self.max_queue,
            max_batch_tokens: self.max_batch_tokens,
            max_batch: self.max_batch,
            max_padding: self.max_padding,
        }
    }

    pub(crate) fn prompt_limits(&self) -> prompt::Limits {
        prompt::Limits { bytes: self.max_prompt_bytes, ..prompt() }
    }

    pub(crate) fn store_options(&self) -> store::Options {
        store::Options {
            poll_interval: self.poll_interval,
            max_prompts: self.max_prompts,
            max_resident_bytes: self.max_resident_bytes,
            keep_versions: self.keep_versions,
            preload: self.preload.iter().cloned().collect(),
        }
    }

    pub(crate) fn limits(&self) -> server::Limits {
        server::Limits {
            body_bytes: self.max_body_bytes,
            inputs: self.max_inputs,
            requests: self.max_requests,
            connections: self.max_connections,
            request_time: self.request_timeout,
            read_time: self.read_timeout,
            drain_time: self.drain_timeout,
        }
    }
}

fn engine() -> engine::Options {
    engine::Options::default()
}

fn server() -> server::Limits {
    server::Limits::default()
}

fn prompt() -> prompt::Limits {
    prompt::Limits::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn every_flag_has_an_environment_variable_named_like_it() {
        Arguments::command().debug_assert();
        for argument in Arguments::command().get_arguments() {
            let Some(flag) = argument.get_long() else { continue };
            if flag == "print-config" {
                continue; // asks for something, is no setting
            }
            let variable = format!("XPROMPT_{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(
                argument.get_env().and_then(|name| name.to_str()),
                Some(variable.as_str()),
                "--{flag}"
            );
        }
    }
}
