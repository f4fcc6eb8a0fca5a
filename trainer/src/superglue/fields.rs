//! Reading an original row; what is wrong is said with the way to the field.

use serde_json::{Map, Value};

/// An object of a row, and the way to it.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    way: String,
    values: &'a Map<String, Value>,
}

// === impl Fields ===

impl<'a> Fields<'a> {
    pub(super) fn of_row(values: &'a Map<String, Value>) -> Self {
        Self { way: String::new(), values }
    }

    /// What is wrong with a field.
    pub(super) fn wrong(&self, name: &str, what: &str) -> String {
        format!("field \"{}{name}\" {what}", self.way)
    }

    /// A field's value, if it is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    fn need(&self, name: &str) -> Result<&'a Value, String> {
        self.get(name).ok_or_else(|| self.wrong(name, "is missing"))
    }

    fn typed<T>(&self, name: &str, what: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<T, String> {
        let value = self.need(name)?;
        read(value).ok_or_else(|| self.wrong(name, &format!("is {value}; it has to be {what}")))
    }

    pub(super) fn text(&self, name: &str) -> Result<&'a str, String> {
        self.typed(name, "a text", Value::as_str)
    }

    pub(super) fn number(&self, name: &str) -> Result<usize, String> {
        self.typed(name, "a whole number", |value| usize::try_from(value.as_u64()?).ok())
    }

    /// True, false, 0 or 1; none if the field is missing.
    pub(super) fn truth(&self, name: &str) -> Result<Option<bool>, String> {
        let read = |value: &Value| match (value.as_bool(), value.as_u64()) {
            (Some(truth), _) => Some(truth),
            (_, Some(number @ (0 | 1))) => Some(number == 1),
            _ => None,
        };
        match self.get(name) {
            Some(_) => self.typed(name, "true, false, 0 or 1", read).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn object(&self, name: &str) -> Result<Self, String> {
        let values = self.typed(name, "an object", Value::as_object)?;
        Ok(Fields { way: format!("{}{name}.", self.way), values })
    }

    pub(super) fn objects(&self, name: &str) -> Result<Vec<Self>, String> {
        let list = self.typed(name, "a list of objects", Value::as_array)?;
        let item = |(i, value): (usize, &'a Value)| {
            let way = format!("{}{name}[{i}]", self.way);
            match value.as_object() {
                Some(values) => Ok(Fields { way: way + ".", values }),
                None => Err(format!("field \"{way}\" is {value}; it has to be an object")),
            }
        };
        list.iter().enumerate().map(item).collect()
    }
}
