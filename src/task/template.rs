//! The text that the model reads: a template with an input's fields in braces.

use serde_json::Value;

/// Why a template or an input does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
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

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
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
    /// If a brace is unmatched, a field has no name, or there is no field.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let brace = |at| TemplateError::Brace { template: template.into(), at };
        let mut parts = Vec::new();
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
                    parts.push(Part::Field(name.into()));
                    chars.by_ref().find(|&(_, c)| c == '}');
                }
                '}' => return Err(brace(at)),
                _ => text.push(c),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        let mut fields: Vec<String> = Vec::new();
        for part in &parts {
            if let Part::Field(name) = part
                && !fields.contains(name)
            {
                fields.push(name.clone());
            }
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

    /// The text for an input: a string if the template has one field, else an object with exactly its fields.
    ///
    /// # Errors
    /// If a field is missing, unknown or not text.
    pub fn render(&self, input: &Value) -> Result<String, TemplateError> {
        match input {
            Value::String(_) if self.fields.len() > 1 => Err(TemplateError::NeedsFields(self.needs())),
            Value::String(text) => Ok(self.fill(|_| text.clone())),
            Value::Object(object) => {
                if let Some(field) = object.keys().find(|key| !self.fields.contains(key)) {
                    return Err(TemplateError::Unknown { field: field.clone(), needs: self.needs() });
                }
                self.render_row(object)
            }
            other => Err(TemplateError::NotInput(kind(other))),
        }
    }

    /// As [`render`](Self::render) for a row of data, which may hold more than the template's fields.
    ///
    /// # Errors
    /// If a field is missing or not text.
    pub fn render_row(&self, row: &serde_json::Map<String, Value>) -> Result<String, TemplateError> {
        let mut texts = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let value = row
                .get(field)
                .ok_or_else(|| TemplateError::Missing { field: field.clone(), needs: self.needs() })?;
            texts.push(match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                other => return Err(TemplateError::NotText { field: field.clone(), kind: kind(other) }),
            });
        }
        Ok(self.fill(|field| {
            let at = self.fields.iter().position(|name| name == field);
            texts[at.expect("invariant: fields lists every field of the parts")].clone()
        }))
    }

    fn fill(&self, value: impl Fn(&str) -> String) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Field(field) => value(field),
            })
            .collect()
    }

    fn needs(&self) -> String {
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
        assert_eq!(template.render(&input).unwrap(), "{x} premise: It {rains}. hypothesis: 7.");
        assert_eq!(Template::parse("{text}").unwrap().render(&json!("hi")).unwrap(), "hi");
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
            let error = template.render(&input).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
