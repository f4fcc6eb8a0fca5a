//! An inference request of the protocol: JSON, with texts in it or behind it.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::error::InferError;
use crate::engine::TaskCard;
use crate::server::inference::{Options, too_many};
use crate::server::{Code, Problem};

/// An inference request.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::server) struct InferCall {
    /// Comes back with the answer.
    pub(super) id: Option<String>,
    /// The options of `predict` by their names, and `binary_data_output`.
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
    /// A tensor of type BYTES for each field of the task's template, all of the same length.
    inputs: Vec<InputTensor>,
    /// The tensors that are wanted; all where none is named.
    outputs: Option<Vec<OutputWanted>>,
}

/// Texts of a field.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::server) struct InputTensor {
    /// The field.
    name: String,
    /// The number of texts; further dimensions are 1.
    shape: Vec<usize>,
    /// `BYTES`.
    #[schema(example = "BYTES")]
    datatype: String,
    /// `binary_data_size`: bytes of the tensor behind the JSON, instead of `data`.
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
    /// The texts, also nested as `shape` says.
    #[schema(value_type = Option<Vec<String>>)]
    data: Option<Value>,
}

/// A tensor that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::server) struct OutputWanted {
    name: String,
    /// `binary_data`: whether the tensor comes behind the JSON.
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
}

/// An output to write, and whether behind the JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) binary: bool,
}

/// A checked request.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: Option<String>,
    pub(super) options: Options,
    /// Objects with the fields of the template.
    pub(super) inputs: Vec<Value>,
    pub(super) wanted: Vec<Wanted>,
}

// === impl Call ===

impl Call {
    /// Reads a body whose first `header` bytes are JSON (all of it where no length is given).
    pub(super) fn parse(
        body: &[u8],
        header: Option<usize>,
        task: &TaskCard,
        outputs: &[&str],
        max_inputs: usize,
    ) -> Result<Self, InferError> {
        let header = header.unwrap_or(body.len());
        let Some((json, mut binary)) = body.split_at_checked(header) else {
            let detail =
                format!("Inference-Header-Content-Length is {header}, the body has {} bytes", body.len());
            return Err(InferError::bad(detail));
        };
        let value: Value = serde_json::from_slice(json)
            .map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))?;
        let mut call: InferCall =
            serde_path_to_error::deserialize(value).map_err(|error| InferError::bad(error.to_string()))?;
        let binary_output = take_bool(&mut call.parameters, "binary_data_output")?.unwrap_or(false);
        let wanted = wanted(call.outputs, outputs, binary_output)?;
        let options = Options::read(call.parameters)?;
        if options.top_k.is_some() {
            return Err(InferError::bad("top_k has no meaning here: scores is a tensor of all labels"));
        }
        let mut columns = Vec::with_capacity(call.inputs.len());
        for tensor in call.inputs {
            columns.push(tensor.texts(&mut binary, max_inputs)?);
        }
        if !binary.is_empty() {
            return Err(InferError::bad(format!(
                "{} bytes behind the JSON belong to no input",
                binary.len()
            )));
        }
        Ok(Self { id: call.id, options, inputs: rows(columns, task)?, wanted })
    }
}

/// The inputs of a request, as objects with the fields of the template.
fn rows(columns: Vec<(String, Vec<String>)>, task: &TaskCard) -> Result<Vec<Value>, InferError> {
    let fields = task.template().fields();
    let count = columns.first().map_or(0, |(_, texts)| texts.len());
    let mut rows = vec![Map::new(); count];
    for (field, texts) in columns {
        if !fields.contains(&field) {
            return Err(InferError::bad(format!(
                "there is no input {field:?}; the inputs are {}",
                fields.join(", ")
            )));
        }
        if texts.len() != count {
            return Err(InferError::bad(format!(
                "input {field:?} has {} texts, the first has {count}",
                texts.len()
            )));
        }
        for (row, text) in rows.iter_mut().zip(texts) {
            if row.insert(field.clone(), Value::String(text)).is_some() {
                return Err(InferError::bad(format!("input {field:?} is given twice")));
            }
        }
    }
    let missing = fields.iter().find(|&field| rows.first().is_none_or(|row| !row.contains_key(field)));
    match missing {
        Some(field) => Err(InferError::bad(format!("input {field:?} is missing or has no texts"))),
        None => Ok(rows.into_iter().map(Value::Object).collect()),
    }
}

fn wanted(
    asked: Option<Vec<OutputWanted>>,
    outputs: &[&str],
    binary: bool,
) -> Result<Vec<Wanted>, InferError> {
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
        return Ok(outputs.iter().map(|&name| Wanted { name: name.into(), binary }).collect());
    };
    let mut wanted = Vec::with_capacity(asked.len());
    for OutputWanted { name, mut parameters } in asked {
        if !outputs.contains(&name.as_str()) {
            let detail = format!("there is no output {name:?}; the outputs are {}", outputs.join(", "));
            return Err(InferError::bad(detail));
        }
        let binary = take_bool(&mut parameters, "binary_data")?.unwrap_or(binary);
        if let Some(parameter) = parameters.keys().next() {
            let detail = format!("output {name:?} has a parameter {parameter:?} that is not supported");
            return Err(InferError::bad(detail));
        }
        wanted.push(Wanted { name, binary });
    }
    Ok(wanted)
}

fn take_bool(parameters: &mut Map<String, Value>, name: &str) -> Result<Option<bool>, InferError> {
    match parameters.remove(name) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(value)),
        Some(other) => Err(InferError::bad(format!("{name} is {other}; it is true or false"))),
    }
}

// === impl InputTensor ===

impl InputTensor {
    /// The texts, from the JSON or from the beginning of `binary`, which moves on.
    fn texts(mut self, binary: &mut &[u8], max_inputs: usize) -> Result<(String, Vec<String>), InferError> {
        let name = std::mem::take(&mut self.name);
        if self.datatype != "BYTES" {
            return Err(InferError::bad(format!("input {name:?} is {}; texts are BYTES", self.datatype)));
        }
        let count = self.shape.iter().try_fold(1_usize, |count, &size| count.checked_mul(size));
        let Some(count) = count.filter(|&count| self.shape.contains(&count) && !self.shape.is_empty()) else {
            let detail =
                format!("input {name:?} has shape {:?}; send [n], other dimensions being 1", self.shape);
            return Err(InferError::bad(detail));
        };
        if count > max_inputs {
            return Err(too_many(count, max_inputs).into());
        }
        let size = self.parameters.remove("binary_data_size");
        if let Some(parameter) = self.parameters.keys().next() {
            let detail = format!("input {name:?} has a parameter {parameter:?} that is not supported");
            return Err(InferError::bad(detail));
        }
        let texts = match (self.data, size) {
            (Some(data), None) => {
                let mut texts = Vec::with_capacity(count);
                flatten(&name, data, &mut texts)?;
                texts
            }
            (None, Some(size)) => {
                let size = size.as_u64().and_then(|size| usize::try_from(size).ok());
                let Some((mine, rest)) = size.and_then(|size| binary.split_at_checked(size)) else {
                    let detail =
                        format!("input {name:?}: binary_data_size is more than what follows the JSON");
                    return Err(InferError::bad(detail));
                };
                *binary = rest;
                elements(&name, mine)?
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(InferError::bad(format!("input {name:?} needs either data or binary_data_size")));
            }
        };
        if texts.len() != count {
            let detail = format!("input {name:?} has {} texts, its shape says {count}", texts.len());
            return Err(InferError::bad(detail));
        }
        Ok((name, texts))
    }
}

fn flatten(name: &str, data: Value, texts: &mut Vec<String>) -> Result<(), InferError> {
    match data {
        Value::String(text) => texts.push(text),
        Value::Array(items) => {
            for item in items {
                flatten(name, item, texts)?;
            }
        }
        _ => return Err(InferError::bad(format!("input {name:?} has an element that is no text"))),
    }
    Ok(())
}

/// The elements of a BYTES tensor, each behind its length in four bytes, little-endian.
fn elements(name: &str, mut bytes: &[u8]) -> Result<Vec<String>, InferError> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let Some((text, rest)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else { break };
        let text = std::str::from_utf8(text).map_err(|_| {
            InferError::bad(format!("element {} of input {name:?} is not UTF-8", texts.len()))
        })?;
        texts.push(text.to_owned());
        bytes = rest;
    }
    if bytes.is_empty() {
        return Ok(texts);
    }
    Err(InferError::bad(format!("input {name:?} breaks off in element {}", texts.len())))
}
