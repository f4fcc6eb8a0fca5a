//! What a completion call asks for.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::error::CompletionError;
use crate::engine::{Answers, TaskCard};
use crate::server::inference::{Ask, Options, too_many};
use crate::server::{Code, Problem};

/// Texts of one prompt.
const MAX_SAMPLES: usize = 16;
/// Stop texts of a call.
const MAX_STOPS: usize = 16;

/// A call as OpenAI's clients write it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(in crate::server) struct CompletionCall {
    /// The task that answers.
    pub(super) model: String,
    /// One text, or several.
    prompt: Prompts,
    /// Longest text in tokens. More than the task allows counts as what it allows.
    #[schema(minimum = 1)]
    max_tokens: Option<usize>,
    /// Draw tokens at this temperature, 0 to 2. Where neither this, nor `top_p`, nor `seed` is given, the most
    /// likely tokens are taken, as with 0.
    temperature: Option<f32>,
    /// Draw only from the most likely tokens that together reach this probability.
    top_p: Option<f32>,
    /// Texts of each prompt; more than 1 only where they are drawn.
    #[schema(minimum = 1, maximum = 16)]
    n: Option<usize>,
    /// What is drawn follows from this number.
    seed: Option<i64>,
    /// Send the texts piece by piece, as server-sent events.
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// A text ends before the first of these.
    stop: Option<Stops>,
    /// Cut prompts that are longer than the task takes, instead of refusing them.
    truncate: Option<bool>,
    /// Not used.
    #[expect(dead_code, reason = "clients may send it")]
    user: Option<String>,
    /// What no text is answered for, unless it says what holds anyway.
    #[serde(flatten)]
    #[schema(ignore)]
    others: Map<String, Value>,
}

/// How a stream is sent.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub(in crate::server) struct StreamOptions {
    /// Send the usage as the last event.
    pub(super) include_usage: bool,
}

/// One text, or several.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum Prompts {
    One(String),
    Many(Vec<String>),
}

/// One stop text, or several.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum Stops {
    One(String),
    Many(Vec<String>),
}

/// A checked call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) prompts: Vec<Value>,
    pub(super) options: Options,
    pub(super) ask: Ask,
    pub(super) samples: usize,
    pub(super) stop: Vec<String>,
    pub(super) truncate: bool,
    /// Whether to stream, and whether with usage.
    pub(super) stream: Option<StreamOptions>,
}

// === impl CompletionCall ===

impl CompletionCall {
    pub(super) fn parse(body: &[u8]) -> Result<Self, CompletionError> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let detail = error.into_inner().to_string();
            match path.as_str() {
                "" | "." => Problem::new(Code::BadRequest, detail).into(),
                _ => CompletionError::of(&path, format!("{path}: {detail}")),
            }
        })
    }

    /// Checks the call against the task that answers it.
    pub(super) fn check(self, task: &TaskCard, max_inputs: usize) -> Result<Call, CompletionError> {
        let Answers::Text { .. } = task.answers() else {
            let detail = format!(
                "{:?} is a task with labels; POST /tasks/{}/predict answers it",
                self.model, self.model
            );
            return Err(CompletionError::of("model", detail));
        };
        if let [_, _, ..] = task.template().fields() {
            let fields = task.template().fields().join(", ");
            let detail = format!(
                "{:?} takes several fields ({fields}) and not one prompt; POST /tasks/{}/predict answers it",
                self.model, self.model
            );
            return Err(CompletionError::of("model", detail));
        }
        self.refuse_others()?;
        let samples = self.n.unwrap_or(1);
        if !(1..=MAX_SAMPLES).contains(&samples) {
            return Err(CompletionError::of("n", format!("n is {samples}; ask for 1 to {MAX_SAMPLES}")));
        }
        if self.max_tokens == Some(0) {
            return Err(CompletionError::of("max_tokens", "max_tokens is 0; ask for at least 1"));
        }
        let options = Options {
            max_new_tokens: self.max_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            // the bits of a negative number are a seed like any other
            seed: self.seed.map(i64::cast_unsigned),
            ..Options::default()
        };
        let options = options.within(task);
        let ask = options.ask(&self.model, task)?;
        if samples > 1 && Options::seed_of(&ask).is_none() {
            let detail = "n is above 1 and no text is drawn; say a temperature above 0";
            return Err(CompletionError::of("n", detail));
        }
        let prompts = match self.prompt {
            Prompts::One(prompt) => vec![prompt],
            Prompts::Many(prompts) => prompts,
        };
        if prompts.is_empty() {
            return Err(CompletionError::of("prompt", "prompt is empty; send at least one"));
        }
        if prompts.len() * samples > max_inputs {
            return Err(too_many(prompts.len() * samples, max_inputs).into());
        }
        let stop = match self.stop {
            None => Vec::new(),
            Some(Stops::One(stop)) => vec![stop],
            Some(Stops::Many(stops)) => stops,
        };
        if stop.len() > MAX_STOPS || stop.iter().any(String::is_empty) {
            let detail = format!("stop is up to {MAX_STOPS} texts, none of them empty");
            return Err(CompletionError::of("stop", detail));
        }
        Ok(Call {
            prompts: prompts.into_iter().map(Value::String).collect(),
            options,
            ask,
            samples,
            stop,
            truncate: self.truncate.unwrap_or(false),
            stream: self.stream.unwrap_or(false).then(|| self.stream_options.unwrap_or_default()),
        })
    }

    /// Parameters of the original that change nothing here may be sent with the value that changes nothing there.
    fn refuse_others(&self) -> Result<(), CompletionError> {
        for (name, value) in &self.others {
            let neutral = match name.as_str() {
                "best_of" => value.as_u64() == Some(self.n.unwrap_or(1) as u64),
                "echo" => value == false,
                "frequency_penalty" | "presence_penalty" => value.as_f64() == Some(0.0),
                "logit_bias" => value.as_object().is_some_and(Map::is_empty),
                "suffix" => value == "",
                _ => false,
            };
            let known = [
                "best_of",
                "echo",
                "frequency_penalty",
                "presence_penalty",
                "logit_bias",
                "suffix",
                "logprobs",
            ];
            if neutral || (value.is_null() && known.contains(&name.as_str())) {
                continue;
            }
            return Err(CompletionError::of(name, format!("{name} is not supported; leave it out")));
        }
        Ok(())
    }
}
