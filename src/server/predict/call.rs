//! What a predict call asks for.

use std::borrow::Cow;
use std::collections::HashMap;

use axum::http::HeaderValue;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::server::inference::{Called, Options, too_many};
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
pub(super) struct Call {
    pub(super) inputs: Vec<Value>,
    /// Whether `inputs` was asked for: then a bad input is an error in its own place.
    pub(super) many: bool,
    pub(super) version: Option<String>,
    pub(super) stream: bool,
    pub(super) options: Options,
    /// Size of the body.
    pub(super) bytes: usize,
}

/// A call as JSON: one input or several, and how to answer.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes what Call is read from")]
pub(super) struct PredictCall {
    /// One input: a text, or an object with the fields of the task's template. Either this or `inputs`.
    input: Option<Input>,
    /// Several inputs; a bad one is an error in its own place. Either this or `input`.
    #[schema(min_items = 1)]
    inputs: Option<Vec<Input>>,
    /// The version that has to answer; another one that is active is an error.
    version: Option<String>,
    /// Send the text of one input piece by piece, as server-sent events.
    stream: Option<bool>,
    #[schema(inline)]
    #[serde(flatten)]
    options: Options,
}

/// A text, or an object with the fields of the task's template.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what an input is read from")]
pub(super) enum Input {
    /// For templates with one field.
    Text(String),
    /// By field.
    Fields(HashMap<String, FieldValue>),
}

/// The text of a field; numbers and truth values are written out.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what a field is read from")]
pub(super) enum FieldValue {
    Text(String),
    Number(f64),
    Truth(bool),
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
            let options = Options::default();
            return Ok(Self { inputs, many: false, version: None, stream: false, options, bytes });
        }
        let mut members: Map<String, Value> = serde_json::from_slice(&body).map_err(|error| {
            let code = if error.is_data() { Code::BadRequest } else { Code::MalformedJson };
            Problem::new(code, error.to_string())
        })?;
        // an input that is null is an input, and a bad one
        let (input, inputs) = (members.remove("input"), take::<Vec<Value>>(&mut members, "inputs")?);
        let many = inputs.is_some();
        let inputs = match (input, inputs) {
            (Some(input), None) => vec![input],
            (None, Some(inputs)) => inputs,
            (Some(_), Some(_)) => return Err(bad("send input or inputs, not both".into())),
            (None, None) => return Err(bad("send input (one) or inputs (a list)".into())),
        };
        if inputs.is_empty() {
            return Err(bad("inputs is empty; send at least one".into()));
        }
        if inputs.len() > max_inputs {
            return Err(too_many(inputs.len(), max_inputs));
        }
        let version = take(&mut members, "version")?;
        let stream = take(&mut members, "stream")?.unwrap_or(false);
        if stream && many {
            return Err(bad("stream is for one input; send input instead of inputs".into()));
        }
        let options = Options::read(members)?;
        Ok(Self { inputs, many, version, stream, options, bytes })
    }

    /// What a shadow is asked too.
    pub(super) fn called(&self) -> Called {
        let Self { options, inputs, bytes, .. } = self;
        let (options, inputs) = (options.clone(), inputs.clone());
        Called { options, inputs, bytes: *bytes, samples: 1, stop: Vec::new() }
    }
}

/// Takes a member out; null counts as not there.
fn take<T: DeserializeOwned>(members: &mut Map<String, Value>, name: &str) -> Result<Option<T>, Problem> {
    let Some(value) = members.remove(name) else { return Ok(None) };
    serde_json::from_value(value).map_err(|error| Problem::new(Code::BadRequest, format!("{name}: {error}")))
}
