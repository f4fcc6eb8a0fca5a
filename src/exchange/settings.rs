//! What another program's prompt does not say: how texts are put, and what is answered.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ExchangeError, SETTINGS};
use crate::prompt::{Label, OutputSpec, TaskSpec};

/// Longest text in tokens where nothing is said, as in the trainer's task files.
const MAX_INPUT_TOKENS: usize = 512;

/// What another program's prompt does not say.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What makes a text into an answer.
    pub task: TaskSpec,
    /// The name of the loaded model that the prompt belongs to, whatever its own file calls it.
    pub base_model: Option<String>,
}

/// The file. A task file of the trainer is one too: its other sections are passed over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    base_model: Option<String>,
    task: Task,
    #[serde(rename = "data")]
    _data: Option<IgnoredAny>,
    #[serde(rename = "tuning")]
    _tuning: Option<IgnoredAny>,
    #[serde(rename = "pruning")]
    _pruning: Option<IgnoredAny>,
    #[serde(rename = "rewinding")]
    _rewinding: Option<IgnoredAny>,
    #[serde(rename = "selection")]
    _selection: Option<IgnoredAny>,
    #[serde(rename = "controls")]
    _controls: Option<IgnoredAny>,
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    base_model: Option<&'a str>,
    task: &'a Task,
}

/// `[task]`, with the names and the defaults of the trainer's task file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Task {
    #[serde(default = "default_template")]
    template: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_new_tokens: Option<usize>,
    #[serde(default = "default_max_input_tokens")]
    max_input_tokens: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keep: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    content_free: Vec<Value>,
    #[serde(rename = "metrics", skip_serializing)]
    _metrics: Option<IgnoredAny>,
    #[serde(rename = "class_weights", skip_serializing)]
    _class_weights: Option<IgnoredAny>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    labels: Vec<Label>,
}

fn default_template() -> String {
    "{text}".into()
}

fn default_max_input_tokens() -> usize {
    MAX_INPUT_TOKENS
}

// === impl Settings ===

impl Settings {
    /// Settings of a text with one field `text`, without labels yet.
    #[must_use]
    pub fn new(template: Option<String>, output: OutputSpec, max_input_tokens: Option<usize>) -> Self {
        let task = TaskSpec {
            template: template.unwrap_or_else(default_template),
            output,
            max_input_tokens: max_input_tokens.unwrap_or(MAX_INPUT_TOKENS),
            keep: Vec::new(),
            content_free: Vec::new(),
        };
        Self { task, base_model: None }
    }

    /// Reads the contents of a `task.toml`.
    ///
    /// # Errors
    /// If it is no TOML, holds a key that is not known, or names neither labels nor a longest answer.
    pub fn parse(bytes: &[u8]) -> Result<Self, ExchangeError> {
        let malformed = |reason: String| ExchangeError::Malformed { file: SETTINGS.to_owned(), reason };
        let text = std::str::from_utf8(bytes).map_err(|error| {
            malformed(format!("no UTF-8 from byte {} on; save it as UTF-8", error.valid_up_to()))
        })?;
        let read: Read = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            malformed(format!("line {line}: {}", error.message()))
        })?;
        let Task { template, max_new_tokens, max_input_tokens, keep, content_free, labels, .. } = read.task;
        let output = match (labels.is_empty(), max_new_tokens) {
            (false, None) => OutputSpec::Labels { labels },
            (true, Some(max_new_tokens)) => OutputSpec::Text { max_new_tokens },
            (true, None) => {
                let remedy = "name at least two labels with their words, or max_new_tokens for free text";
                return Err(malformed(format!("[task] has no labels; {remedy}")));
            }
            (false, Some(_)) => {
                return Err(malformed("[task] has labels and max_new_tokens; leave one of them out".into()));
            }
        };
        let task = TaskSpec { template, output, max_input_tokens, keep, content_free };
        Ok(Self { task, base_model: read.base_model })
    }

    /// The contents of a `task.toml` that says the same.
    ///
    /// # Errors
    /// If an input without content holds what TOML has no value for.
    pub fn to_toml(&self) -> Result<String, ExchangeError> {
        let TaskSpec { template, output, max_input_tokens, keep, content_free } = self.task.clone();
        let (labels, max_new_tokens) = match output {
            OutputSpec::Labels { labels } => (labels, None),
            OutputSpec::Text { max_new_tokens } => (Vec::new(), Some(max_new_tokens)),
        };
        let task = Task {
            template,
            max_new_tokens,
            max_input_tokens,
            keep,
            content_free,
            _metrics: None,
            _class_weights: None,
            labels,
        };
        toml::to_string(&Written { base_model: self.base_model.as_deref(), task: &task }).map_err(|error| {
            ExchangeError::Malformed { file: SETTINGS.to_owned(), reason: error.to_string() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        Settings::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_task_file_of_the_trainer_is_read_for_its_task() {
        let text = "[data]\ntrain = 'a.jsonl'\n[task]\ntemplate = 'x {a}'\nmetrics = ['accuracy']\nlabels = [{ name = 'p', words = \
                    'yes' }, { name = 'n', words = 'no' }]\n[tuning]\nprompt_tokens = 9\n";
        let settings = Settings::parse(text.as_bytes()).unwrap();
        assert_eq!((settings.task.template.as_str(), settings.task.max_input_tokens), ("x {a}", 512));
        let OutputSpec::Labels { labels } = settings.task.output else { panic!("labels") };
        assert_eq!((labels[0].name.as_str(), labels[1].words.as_str()), ("p", "no"));
    }

    #[test]
    fn mistakes_name_the_line_or_the_setting() {
        for (text, words) in [
            ("", "task.toml: line 1: missing field `task`"),
            ("[task]\ntemplate = 'a'\ntempo = 3\n", "task.toml: line 3: unknown field `tempo`"),
            ("[task]\n", "[task] has no labels; name at least two"),
            (
                "[task]\nmax_new_tokens = 3\nlabels = [{ name = 'p', words = 'yes' }]\n",
                "leave one of them out",
            ),
            ("[task]\nmax_new_tokens = -3\n", "task.toml: line 2: "),
        ] {
            let error = error(text);
            assert!(error.contains(words), "{error}");
        }
        assert!(Settings::parse(b"[task]\ntemplate = '\xff'").unwrap_err().to_string().contains("UTF-8"));
    }

    proptest! {
        #[test]
        fn settings_are_written_as_they_are_read(
            template in "\\PC{0,20}",
            words in prop::collection::vec("\\PC{1,8}", 2..5),
            tokens in 1usize..900,
            text in any::<bool>(),
            free in prop::collection::vec("[a-z\"\\\\\n\t\u{7f}é]{0,6}", 0..3),
        ) {
            let labels = words.into_iter().enumerate().map(|(i, words)| Label { name: i.to_string(), words }).collect();
            let output =
                if text { OutputSpec::Text { max_new_tokens: tokens } } else { OutputSpec::Labels { labels } };
            let mut settings = Settings::new(Some(template), output, Some(tokens));
            settings.task.content_free = free.into_iter().map(Value::from).collect();
            settings.base_model = text.then(|| "t5".into());
            prop_assert_eq!(Settings::parse(settings.to_toml().unwrap().as_bytes()).unwrap(), settings);
        }
    }
}
