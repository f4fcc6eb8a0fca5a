//! An inference answer of the protocol: JSON, with tensors in it or behind it.

use std::collections::HashMap;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::call::Wanted;
use super::error::InferError;
use crate::engine::{Answers, TaskCard};
use crate::server::inference::{Answered, Prediction};
use crate::server::{Code, Problem};

/// Where the JSON of a body ends and tensors begin.
pub(super) const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// The outputs of tasks with labels.
pub(super) const OF_LABELS: &[&str] = &["label", "score", "scores", "truncated"];
/// The outputs of tasks that answer with free text.
pub(super) const OF_TEXT: &[&str] = &["text", "finish_reason", "truncated"];

/// An inference answer.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::server) struct InferAnswer {
    /// Of the request, if it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// The task.
    model_name: String,
    /// The version that answered.
    model_version: String,
    /// Tokens that the call took, and the seed of drawn texts.
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
    outputs: Vec<OutputTensor>,
}

/// A tensor of the answer.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::server) struct OutputTensor {
    name: String,
    /// `BYTES`, `FP32` or `BOOL`.
    datatype: &'static str,
    shape: Vec<usize>,
    /// `binary_data_size`, for a tensor behind the JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    parameters: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Value>>)]
    data: Option<Value>,
}

/// A tensor's elements.
enum Elements {
    Texts(Vec<String>),
    Floats(Vec<f32>),
    Truths(Vec<bool>),
}

/// Writes an answer.
pub(super) fn write(
    answered: Answered,
    id: Option<String>,
    wanted: &[Wanted],
    task: &TaskCard,
) -> Result<Response, InferError> {
    let mut binary = Vec::new();
    let mut outputs = Vec::with_capacity(wanted.len());
    for Wanted { name, binary: behind } in wanted {
        let elements = Elements::of(name, &answered.predictions, task);
        let mut shape = vec![answered.predictions.len()];
        if let ("scores", Answers::Labels { names, .. }) = (name.as_str(), task.answers()) {
            shape.push(names.len());
        }
        let (parameters, data) = if *behind {
            let before = binary.len();
            elements.write(&mut binary);
            (Some(json!({"binary_data_size": binary.len() - before})), None)
        } else {
            (None, Some(elements.json()))
        };
        outputs.push(OutputTensor {
            name: name.clone(),
            datatype: elements.datatype(),
            shape,
            parameters,
            data,
        });
    }
    let mut parameters = Map::new();
    parameters.insert("input_tokens".into(), answered.usage.input_tokens.into());
    parameters.insert("prompt_tokens".into(), answered.usage.prompt_tokens.into());
    parameters.insert("output_tokens".into(), answered.usage.output_tokens.into());
    parameters.extend(answered.seed.map(|seed| ("seed".to_owned(), seed.into())));
    let Answered { task: model_name, version: model_version, .. } = answered;
    let answer = InferAnswer { id, model_name, model_version, parameters, outputs };
    let mut body =
        serde_json::to_vec(&answer).map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    if !wanted.iter().any(|wanted| wanted.binary) {
        return Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response());
    }
    let head = [
        (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (JSON_LENGTH, HeaderValue::from(body.len())),
    ];
    body.extend(binary);
    Ok((head, body).into_response())
}

// === impl Elements ===

impl Elements {
    fn of(output: &str, predictions: &[Prediction], task: &TaskCard) -> Self {
        match output {
            "score" => Self::Floats(predictions.iter().map(Prediction::score).collect()),
            "scores" => {
                let Answers::Labels { names, .. } = task.answers() else { return Self::Floats(Vec::new()) };
                let in_order = |prediction: &Prediction| -> Vec<f32> {
                    let by_label: HashMap<&str, f32> = prediction.scores().collect();
                    names.iter().map(|name| by_label.get(name.as_str()).copied().unwrap_or(0.0)).collect()
                };
                Self::Floats(predictions.iter().flat_map(in_order).collect())
            }
            "truncated" => Self::Truths(predictions.iter().map(Prediction::is_truncated).collect()),
            _ => Self::Texts(predictions.iter().map(|prediction| prediction.text_of(output)).collect()),
        }
    }

    fn datatype(&self) -> &'static str {
        match self {
            Self::Texts(_) => "BYTES",
            Self::Floats(_) => "FP32",
            Self::Truths(_) => "BOOL",
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Texts(texts) => json!(texts),
            Self::Floats(floats) => json!(floats),
            Self::Truths(truths) => json!(truths),
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Texts(texts) => {
                for text in texts {
                    bytes.extend((text.len() as u32).to_le_bytes());
                    bytes.extend(text.as_bytes());
                }
            }
            Self::Floats(floats) => bytes.extend(floats.iter().flat_map(|x| x.to_le_bytes())),
            Self::Truths(truths) => bytes.extend(truths.iter().map(|&truth| u8::from(truth))),
        }
    }
}

// === impl Prediction ===

impl Prediction {
    fn score(&self) -> f32 {
        match self {
            Self::Label { score, .. } => *score,
            Self::Text { .. } | Self::Failed { .. } => 0.0,
        }
    }

    fn scores(&self) -> impl Iterator<Item = (&str, f32)> {
        let scores = match self {
            Self::Label { scores, .. } => scores.iter(),
            Self::Text { .. } | Self::Failed { .. } => [].iter(),
        };
        scores.map(|(label, p)| (label.as_str(), *p))
    }

    fn is_truncated(&self) -> bool {
        match self {
            Self::Label { truncated, .. } | Self::Text { truncated, .. } => *truncated,
            Self::Failed { .. } => false,
        }
    }

    /// The text of an output; no label is the empty text.
    fn text_of(&self, output: &str) -> String {
        match self {
            Self::Label { label, .. } => label.clone().unwrap_or_default(),
            Self::Text { finish_reason, .. } if output == "finish_reason" => finish_reason.name().to_owned(),
            Self::Text { text, .. } => text.clone(),
            Self::Failed { .. } => String::new(),
        }
    }
}
