//! The text that the model reads: a template with an input's fields in braces.

use serde_json::{Map, Value};

/// Why a template or an input does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Longer than anybody means.
    #[error("the template has {0} bytes, allowed are {MAX_BYTES}; shorten it")]
    TooLong(usize),
    /// A brace is not closed, or closes nothing.
    #[error("template {template:?}: unmatched brace at byte {at}; write {{{{ or }}}} for a brace itself")]
    Brace {
        /// The template.
        template: String,
        /// Where.
        at: usize,
    },
    /// A field without a name.
    #[error("template {0:?}: {{}} names no field; write for example {{text}}")]
    Unnamed(String),
    /// No field at all: every input would give the same text.
    #[error("template {0:?} has no field; write for example {{text}}")]
    NoField(String),
    /// The input lacks a field.
    #[error("the input has no field {field:?}; the template needs {needs}")]
    Missing {
        /// The field.
        field: String,
        /// All fields of the template.
        needs: String,
    },
    /// The input has a field that the template does not know.
    #[error("the input has a field {field:?} that the template does not use; it takes {needs}")]
    Unknown {
        /// The field.
        field: String,
        /// All fields of the template.
        needs: String,
    },
    /// A field to be kept whole that the template does not use.
    #[error("keep names a field {field:?} that the template does not use; it takes {needs}")]
    Keep {
        /// The field.
        field: String,
        /// All fields of the template.
        needs: String,
    },
    /// A field is not text.
    #[error("field {field:?} is {kind}, not text, a number or a truth value")]
    NotText {
        /// The field.
        field: String,
        /// What it is.
        kind: &'static str,
    },
    /// A plain text for a template of several fields.
    #[error("the input is one text, but the template has several fields; send an object with {0}")]
    NeedsFields(String),
    /// Neither a text nor an object.
    #[error("the input is {0}; send a text, or an object with the template's fields")]
    NotInput(&'static str),
}

/// Bytes of a template: it is in every input, and its fields are looked up one by one.
const MAX_BYTES: usize = 1 << 16;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// By its number in the template.
    Field(usize),
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    fields: Vec<String>,
}

// === impl Template ===

impl Template {
    /// Parses a template such as `question: {question} passage: {passage}`. `{{` and `}}` stand for braces.
    ///
    /// # Errors
    /// If it is too long, a brace is unmatched, a field has no name, or there is no field.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        if template.len() > MAX_BYTES {
            return Err(TemplateError::TooLong(template.len()));
        }
        let brace = |at| TemplateError::Brace { template: template.into(), at };
        let mut parts = Vec::new();
        let mut fields: Vec<String> = Vec::new();
        let mut text = String::new();
        let mut chars = template.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '{' | '}' if chars.peek().is_some_and(|&(_, next)| next == c) => {
                    chars.next();
                    text.push(c);
                }
                '{' => {
                    let rest = &template[at + 1..];
                    let end = rest.find(['{', '}']).filter(|&end| rest.as_bytes()[end] == b'}');
                    let name = rest[..end.ok_or_else(|| brace(at))?].trim();
                    if name.is_empty() {
                        return Err(TemplateError::Unnamed(template.into()));
                    }
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text)));
                    }
                    let known = fields.iter().position(|field| field == name);
                    parts.push(Part::Field(known.unwrap_or(fields.len())));
                    if known.is_none() {
                        fields.push(name.into());
                    }
                    chars.by_ref().find(|&(_, c)| c == '}');
                }
                '}' => return Err(brace(at)),
                _ => text.push(c),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        if fields.is_empty() {
            return Err(TemplateError::NoField(template.into()));
        }
        Ok(Self { parts, fields })
    }

    /// The names of the fields, in order of first use.
    #[must_use]
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// The fields' texts of an input: a string if the template has one field, else an object with exactly its
    /// fields.
    ///
    /// # Errors
    /// If a field is missing, unknown or not text.
    pub fn values(&self, input: &Value) -> Result<Vec<String>, TemplateError> {
        match input {
            Value::String(_) if self.fields.len() > 1 => Err(TemplateError::NeedsFields(self.needs())),
            Value::String(text) => Ok(vec![text.clone()]),
            Value::Object(object) => {
                if let Some(field) = object.keys().find(|key| !self.fields.contains(key)) {
                    return Err(TemplateError::Unknown { field: field.clone(), needs: self.needs() });
                }
                self.row_values(object)
            }
            other => Err(TemplateError::NotInput(kind(other))),
        }
    }

    /// As [`values`](Self::values) of a row of data, which may hold more than the template's fields.
    ///
    /// # Errors
    /// If a field is missing or not text.
    pub fn row_values(&self, row: &Map<String, Value>) -> Result<Vec<String>, TemplateError> {
        self.fields.iter().map(|field| self.row_value(row, field)).collect()
    }

    /// The text of one field of a row.
    ///
    /// # Errors
    /// If the field is missing or not text.
    pub fn row_value(&self, row: &Map<String, Value>, field: &str) -> Result<String, TemplateError> {
        match row.get(field) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
            Some(other) => Err(TemplateError::NotText { field: field.into(), kind: kind(other) }),
            None => Err(TemplateError::Missing { field: field.into(), needs: self.needs() }),
        }
    }

    /// The text with the fields filled in, whose values stand in the order of [`fields`](Self::fields).
    ///
    /// # Panics
    /// If there are fewer values than fields.
    #[must_use]
    pub fn fill(&self, values: &[String]) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(field) => values[*field].clone(),
        };
        self.parts.iter().map(part).collect()
    }

    /// How often each field occurs in the template.
    #[must_use]
    pub(super) fn occurrences(&self) -> Vec<usize> {
        let of = |field| self.parts.iter().filter(|&part| *part == Part::Field(field)).count();
        (0..self.fields.len()).map(of).collect()
    }

    pub(super) fn needs(&self) -> String {
        self.fields.join(", ")
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_filled_and_doubled_braces_kept() {
        let template = Template::parse("{{x}} premise: {premise} hypothesis: { hypothesis }.").unwrap();
        assert_eq!(template.fields(), ["premise", "hypothesis"]);
        let input = json!({"premise": "It {rains}.", "hypothesis": 7});
        let render = |template: &Template, input: &Value| template.fill(&template.values(input).unwrap());
        assert_eq!(render(&template, &input), "{x} premise: It {rains}. hypothesis: 7.");
        assert_eq!(render(&Template::parse("{text} {text}").unwrap(), &json!("hi")), "hi hi");
    }

    #[test]
    fn a_template_has_a_longest_length() {
        let of = |bytes: usize| format!("{}{{text}}", "x".repeat(bytes - 6));
        assert!(Template::parse(&of(MAX_BYTES)).is_ok());
        assert_eq!(Template::parse(&of(MAX_BYTES + 1)), Err(TemplateError::TooLong(MAX_BYTES + 1)));
    }

    #[test]
    fn mistakes_name_the_place() {
        for (template, words) in [
            ("a {b", "byte 2"),
            ("a} b", "byte 1"),
            ("{a{b}}", "byte 0"),
            ("{}", "names no field"),
            ("plain", "no field"),
        ] {
            let error = Template::parse(template).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let template = Template::parse("{a} {b}").unwrap();
        for (input, words) in [
            (json!("x"), "object with a, b"),
            (json!({"a": "x"}), "no field \"b\""),
            (json!({"a": "x", "b": "y", "c": "z"}), "\"c\""),
            (json!({"a": "x", "b": ["y"]}), "\"b\" is a list"),
            (json!(null), "the input is null"),
        ] {
            let error = template.values(&input).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
