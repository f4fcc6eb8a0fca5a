//! What a predict call asks for.

use std::borrow::Cow;

use axum::http::HeaderValue;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::engine::{Answers, ReadyTask};
use crate::server::{Code, Problem};

/// How the body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Inputs and options.
    Json,
    /// One input.
    Text,
}

/// A checked call.
#[derive(Debug)]
pub(in crate::server) struct Call {
    pub(in crate::server) inputs: Vec<Value>,
    /// Whether `inputs` was asked for: then a bad input is an error in its own place.
    pub(super) many: bool,
    pub(super) top_k: Option<usize>,
    pub(in crate::server) truncate: bool,
    version: Option<String>,
    /// Size of the body.
    pub(super) bytes: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonCall {
    // an input that is null is an input, and a bad one
    #[serde(default, deserialize_with = "present")]
    input: Option<Value>,
    inputs: Option<Vec<Value>>,
    top_k: Option<usize>,
    version: Option<String>,
    #[serde(default)]
    truncate: bool,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

// === impl Format ===

impl Format {
    /// By the content type; a body without one is read as JSON.
    pub(super) fn of(content_type: Option<&HeaderValue>) -> Result<Self, Problem> {
        let Some(value) = content_type else { return Ok(Self::Json) };
        let text = String::from_utf8_lossy(value.as_bytes());
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let charset =
            parts.find_map(|part| part.to_ascii_lowercase().strip_prefix("charset=").map(str::to_owned));
        let is_utf8 =
            charset.is_none_or(|name| matches!(name.trim_matches('"'), "utf-8" | "utf8" | "us-ascii"));
        match kind.as_str() {
            _ if !is_utf8 => {}
            "application/json" => return Ok(Self::Json),
            "text/plain" => return Ok(Self::Text),
            _ => {}
        }
        let detail = format!(
            "Content-Type is {text}; send application/json with {{\"input\": …}}, or text/plain with one input, in UTF-8"
        );
        Err(Problem::new(Code::UnsupportedMediaType, detail))
    }
}

// === impl Call ===

impl Call {
    /// Reads a body.
    pub(super) fn parse(format: Format, body: Vec<u8>, max_inputs: usize) -> Result<Self, Problem> {
        let bad = |detail: Cow<'static, str>| Problem::new(Code::BadRequest, detail);
        let bytes = body.len();
        if format == Format::Text {
            let text = String::from_utf8(body).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                bad(format!("the text is not UTF-8 from byte {at} on").into())
            })?;
            let inputs = vec![Value::String(text)];
            return Ok(Self { inputs, many: false, top_k: None, truncate: false, version: None, bytes });
        }
        let call: JsonCall = serde_json::from_slice(&body).map_err(|error| {
            let code = if error.is_data() { Code::BadRequest } else { Code::MalformedJson };
            Problem::new(code, error.to_string())
        })?;
        let many = call.inputs.is_some();
        let inputs = match (call.input, call.inputs) {
            (Some(input), None) => vec![input],
            (None, Some(inputs)) => inputs,
            (Some(_), Some(_)) => return Err(bad("send input or inputs, not both".into())),
            (None, None) => return Err(bad("send input (one) or inputs (a list)".into())),
        };
        if inputs.is_empty() {
            return Err(bad("inputs is empty; send at least one".into()));
        }
        if inputs.len() > max_inputs {
            let detail = format!(
                "the call has {} inputs, allowed are {max_inputs}; split it, or raise --max-inputs",
                inputs.len()
            );
            return Err(Problem::new(Code::TooManyInputs, detail));
        }
        if call.top_k == Some(0) {
            return Err(bad("top_k is 0; ask for at least 1 label".into()));
        }
        let JsonCall { top_k, truncate, version, .. } = JsonCall { input: None, inputs: None, ..call };
        Ok(Self { inputs, many, top_k, truncate, version, bytes })
    }

    /// The version that has to answer.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Checks the options against the task that will answer.
    pub(super) fn check(&self, name: &str, task: &ReadyTask) -> Result<(), Problem> {
        if self.top_k.is_some() && matches!(task.answers(), Answers::Text { .. }) {
            let detail = format!("top_k is for tasks with labels; task {name:?} answers with free text");
            return Err(Problem::new(Code::BadRequest, detail));
        }
        Ok(())
    }
}
