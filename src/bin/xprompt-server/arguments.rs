//! The command line and its environment variables.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Parser, ValueEnum};
use xprompt::runtime::DeviceChoice;
use xprompt::{engine, prompt, server, store};

/// Serves many text tasks on one frozen T5: each task is a pruned soft prompt (an XPrompt) in a folder.
///
/// POST /tasks/NAME/predict answers; a prompt is served, replaced or removed as its file
/// NAME.safetensors is. Every flag can be given as the environment variable that stands beside it.
#[derive(Debug, Parser)]
#[command(name = "xprompt-server", version, next_line_help = true, max_term_width = 110)]
pub(crate) struct Arguments {
    /// Folder of the frozen T5, as Hugging Face has it: config.json, model.safetensors, tokenizer.json
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

    /// ONNX Runtime's library; without it ORT_DYLIB_PATH, then beside the program, then where `make setup` put it
    #[arg(long, env = "XPROMPT_ONNXRUNTIME", value_name = "FILE", help_heading = "Computing")]
    pub(crate) onnxruntime: Option<PathBuf>,

    /// Where to compute: auto (the first GPU if one can be used, else cpu), cpu, cuda:N for the GPU with number N,
    /// several as cuda:0,cuda:1, or cuda:all
    #[arg(long, env = "XPROMPT_DEVICE", value_name = "DEVICE", default_value_t, help_heading = "Computing")]
    pub(crate) device: DeviceChoice,

    /// Threads that compute; default: one for each core
    #[arg(long, env = "XPROMPT_THREADS", value_name = "COUNT", help_heading = "Computing")]
    pub(crate) threads: Option<usize>,

    /// Inputs in a batch
    #[arg(long, env = "XPROMPT_MAX_BATCH", value_name = "COUNT", default_value_t = engine().max_batch)]
    #[arg(help_heading = "Computing")]
    pub(crate) max_batch: usize,

    /// Tokens in a batch, prompts and padding included; a longer input goes alone
    #[arg(long, env = "XPROMPT_MAX_BATCH_TOKENS", value_name = "TOKENS", help_heading = "Computing")]
    #[arg(default_value_t = engine().max_batch_tokens)]
    pub(crate) max_batch_tokens: usize,

    /// Padding that a batch may have, in percent of its tokens; on a CPU padding costs what text costs
    #[arg(long, env = "XPROMPT_MAX_PADDING", value_name = "PERCENT", default_value_t = engine().max_padding)]
    #[arg(help_heading = "Computing")]
    pub(crate) max_padding: usize,

    /// Inputs that wait for the engine; calls beyond are answered 429
    #[arg(long, env = "XPROMPT_MAX_QUEUE", value_name = "COUNT", default_value_t = engine().max_queue)]
    #[arg(help_heading = "Limits of calls")]
    pub(crate) max_queue: usize,

    /// Predict calls in flight, those that wait included; calls beyond are answered 429
    #[arg(long, env = "XPROMPT_MAX_REQUESTS", value_name = "COUNT", default_value_t = server().requests)]
    #[arg(help_heading = "Limits of calls")]
    pub(crate) max_requests: usize,

    /// Inputs of one call; not more than --max-queue
    #[arg(long, env = "XPROMPT_MAX_INPUTS", value_name = "COUNT", default_value_t = server().inputs)]
    #[arg(help_heading = "Limits of calls")]
    pub(crate) max_inputs: usize,

    /// Bytes of a call's body
    #[arg(long, env = "XPROMPT_MAX_BODY_BYTES", value_name = "BYTES", default_value_t = server().body_bytes)]
    #[arg(help_heading = "Limits of calls")]
    pub(crate) max_body_bytes: usize,

    /// From a call's arrival to its answer; later it is answered 504 and not computed
    #[arg(long, env = "XPROMPT_REQUEST_TIMEOUT", value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = duration, help_heading = "Limits of calls")]
    pub(crate) request_timeout: Duration,

    /// For a client to send a request's head, and again for its body; also how long a connection may be idle
    #[arg(long, env = "XPROMPT_READ_TIMEOUT", value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = duration, help_heading = "Limits of calls")]
    pub(crate) read_timeout: Duration,

    /// Open connections; more wait to be accepted
    #[arg(long, env = "XPROMPT_MAX_CONNECTIONS", value_name = "COUNT", help_heading = "Limits of calls")]
    #[arg(default_value_t = server().connections)]
    pub(crate) max_connections: usize,

    /// For calls in flight to be answered after SIGTERM or SIGINT; a second signal ends the process at once
    #[arg(long, env = "XPROMPT_DRAIN_TIMEOUT", value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = duration, help_heading = "Limits of calls")]
    pub(crate) drain_timeout: Duration,

    /// Pause between two looks at the prompts; it grows up to 30s while looks fail
    #[arg(long, env = "XPROMPT_POLL_INTERVAL", value_name = "TIME", default_value = "500ms")]
    #[arg(value_parser = duration, help_heading = "Prompts")]
    pub(crate) poll_interval: Duration,

    /// Prompts that are served; files beyond are refused
    #[arg(long, env = "XPROMPT_MAX_PROMPTS", value_name = "COUNT", default_value_t = 20_000)]
    #[arg(help_heading = "Prompts")]
    pub(crate) max_prompts: usize,

    /// Bytes of prompt rows in memory; others are read on first use, and the ones used last stay
    #[arg(long, env = "XPROMPT_MAX_RESIDENT_BYTES", value_name = "BYTES", default_value_t = 1 << 30)]
    #[arg(help_heading = "Prompts")]
    pub(crate) max_resident_bytes: usize,

    /// Earlier versions of a task that are kept for a rollback
    #[arg(long, env = "XPROMPT_KEEP_VERSIONS", value_name = "COUNT", default_value_t = 5)]
    #[arg(help_heading = "Prompts")]
    pub(crate) keep_versions: usize,

    /// Tasks that are loaded first and stay in memory; the server is ready when they are
    #[arg(long, env = "XPROMPT_PRELOAD", value_name = "TASK,…", value_delimiter = ',')]
    #[arg(help_heading = "Prompts")]
    pub(crate) preload: Vec<String>,

    /// For one request to a bucket
    #[arg(long, env = "XPROMPT_STORE_TIMEOUT", value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = duration, help_heading = "Prompts")]
    pub(crate) store_timeout: Duration,

    /// Bytes of a prompt file
    #[arg(long, env = "XPROMPT_MAX_PROMPT_BYTES", value_name = "BYTES", default_value_t = prompt().bytes)]
    #[arg(help_heading = "Prompts")]
    pub(crate) max_prompt_bytes: u64,

    /// Tokens of an input that a prompt may ask for; the time of an input grows with their square
    #[arg(long, env = "XPROMPT_MAX_INPUT_TOKENS", value_name = "TOKENS", default_value_t = 4096)]
    #[arg(help_heading = "Prompts")]
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
    /// Checks what the single values cannot show; names all problems at once.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let positive = [
            ("--threads", self.threads.unwrap_or(1)),
            ("--max-batch", self.max_batch),
            ("--max-batch-tokens", self.max_batch_tokens),
            ("--max-queue", self.max_queue),
            ("--max-requests", self.max_requests),
            ("--max-inputs", self.max_inputs),
            ("--max-body-bytes", self.max_body_bytes),
            ("--max-connections", self.max_connections),
            ("--max-prompts", self.max_prompts),
            ("--max-input-tokens", self.max_input_tokens),
            ("--keep-versions", self.keep_versions),
        ];
        let mut problems: Vec<String> = positive
            .iter()
            .filter(|&&(_, value)| value == 0)
            .map(|(flag, _)| format!("{flag} is 0, it has to be 1 or more"))
            .collect();
        let times = [
            ("--request-timeout", self.request_timeout),
            ("--read-timeout", self.read_timeout),
            ("--poll-interval", self.poll_interval),
            ("--store-timeout", self.store_timeout),
        ];
        problems.extend(
            times
                .iter()
                .filter(|(_, time)| time.is_zero())
                .map(|(flag, _)| format!("{flag} is 0, it has to be 1ms or more")),
        );
        if self.max_inputs > self.max_queue {
            problems.push(format!(
                "--max-inputs {} is more than --max-queue {}: such calls could never be queued",
                self.max_inputs, self.max_queue
            ));
        }
        if !problems.is_empty() {
            bail!(problems.join("; "));
        }
        Ok(())
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

/// Reads a time such as `500ms`, `30s` or `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err("a time needs a unit: write for example 500ms, 30s or 2m".into()),
    };
    let number: u64 = number.parse().map_err(|_| "a time is a whole number and ms, s or m".to_owned())?;
    // a day is longer than anything here may wait
    match number.checked_mul(milliseconds) {
        Some(time) if time <= 86_400_000 => Ok(Duration::from_millis(time)),
        _ => Err("a time is a day at most".into()),
    }
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
            let variable = format!("XPROMPT_{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(
                argument.get_env().and_then(|name| name.to_str()),
                Some(variable.as_str()),
                "--{flag}"
            );
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["30", "", "s", "1h", "-1s", "99999999999999999999s", "18446744073709551615m", "2000m"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let arguments = ["xprompt-server", "--max-queue", "0", "--max-inputs", "5", "--poll-interval", "0s"];
        let error = Arguments::parse_from(arguments).check().unwrap_err().to_string();
        for part in ["--max-queue is 0", "--max-inputs 5 is more", "--poll-interval is 0"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
