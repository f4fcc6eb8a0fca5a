//! Settings as a file that would set them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::file::Setting;
use super::{is_secret, settings as settings_of};

/// Every setting with its value and where that comes from.
pub(super) fn settings(command: &Command, matches: &ArgMatches, filed: &BTreeMap<String, Setting>) -> String {
    let mut text = String::new();
    let mut heading = None;
    for argument in settings_of(command).filter(|argument| argument.get_id() != "config") {
        if argument.get_help_heading() != heading {
            heading = argument.get_help_heading();
            let _ = writeln!(text, "\n# {}", heading.unwrap_or_default());
        }
        let id = argument.get_id().as_str();
        let from = match matches.value_source(id) {
            None => {
                let _ = writeln!(text, "# {id} is not set");
                continue;
            }
            Some(ValueSource::CommandLine) => match filed.get(id) {
                Some(setting) => setting.place.clone(),
                None => format!("--{}", argument.get_long().unwrap_or(id)),
            },
            Some(ValueSource::EnvVariable) => {
                argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
            Some(_) => "default".into(),
        };
        let _ = writeln!(text, "{id} = {}  # {from}", value(argument, matches));
    }
    text.trim_start().to_owned()
}

fn value(argument: &Arg, matches: &ArgMatches) -> String {
    if is_secret(argument) {
        return "\"(set)\"".into();
    }
    let values: Vec<String> = matches
        .get_raw(argument.get_id().as_str())
        .into_iter()
        .flatten()
        .map(|value| written(&value.to_string_lossy()))
        .collect();
    match values.as_slice() {
        [value] if argument.get_value_delimiter().is_none() => value.clone(),
        values => format!("[{}]", values.join(", ")),
    }
}

fn written(value: &str) -> String {
    let is_plain = value == "true" || value == "false" || value.parse::<u64>().is_ok();
    if is_plain { value.to_owned() } else { serde_json::Value::from(value).to_string() }
}
