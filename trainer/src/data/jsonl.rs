//! JSONL: a JSON object a line, empty lines aside.

use serde_json::{Map, Value};

use super::rows::File;
use super::{DataError, Row};

pub(super) fn rows(file: &File<'_>, text: &[u8]) -> Vec<Result<Row, DataError>> {
    let lines = text.split(|&byte| byte == b'\n').enumerate();
    let filled = lines.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace));
    filled.take(file.limit()).map(|(i, line)| row(file, i + 1, line)).collect()
}

fn row(file: &File<'_>, number: usize, line: &[u8]) -> Result<Row, DataError> {
    let place = file.line(number);
    let values = object(line).map_err(|reason| DataError::Malformed { place: place.clone(), reason })?;
    Ok(Row::new(place, values))
}

fn object(line: &[u8]) -> Result<Map<String, Value>, String> {
    let text = std::str::from_utf8(line)
        .map_err(|error| format!("byte {} is not UTF-8; save the file as UTF-8", error.valid_up_to() + 1))?;
    let value: Value = serde_json::from_str(text).map_err(|error| {
        // each line is parsed alone: the line that the parser counts would mislead
        let reason = error.to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default();
        format!("{reason} at column {}; each line is one JSON object", error.column())
    })?;
    match value {
        Value::Object(object) => Ok(object),
        Value::Array(_) => Err("this is a list; each line is one JSON object".into()),
        _ => Err("this is not an object; each line is one JSON object".into()),
    }
}
