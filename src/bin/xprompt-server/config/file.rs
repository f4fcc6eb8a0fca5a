//! The file of settings: one TOML table whose keys are the flags' names.

use std::path::Path;

use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Bytes of the file that are read.
const MAX_BYTES: u64 = 1 << 20;

/// A setting of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// The name of its argument.
    pub(super) id: String,
    /// Where it stands, as `FILE:LINE`.
    pub(super) place: String,
    /// Its value as a flag would have it.
    pub(super) text: String,
}

/// Reads the settings; adds what is wrong with them to `problems`.
pub(super) fn read(path: &Path, command: &Command, problems: &mut Vec<String>) -> Vec<Setting> {
    let name = path.display();
    let text = match std::fs::metadata(path) {
        Ok(found) if found.len() > MAX_BYTES => {
            problems.push(format!("{name}: has more than {MAX_BYTES} bytes; that is no file of settings"));
            return Vec::new();
        }
        _ => std::fs::read_to_string(path),
    };
    match text {
        Ok(text) => parse(&name.to_string(), &text, command, problems),
        Err(error) => {
            problems.push(format!("{name}: cannot be read: {error}; --config names the file of settings"));
            Vec::new()
        }
    }
}

fn parse(name: &str, text: &str, command: &Command, problems: &mut Vec<String>) -> Vec<Setting> {
    let place = |at: usize| format!("{name}:{}", text[..at].matches('\n').count() + 1);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        problems.push(format!("{}: {}", place(at), error.message()));
    }
    let mut settings = Vec::new();
    for (key, value) in table.into_inner() {
        let (place, key) = (place(key.span().start), key.into_inner());
        let Some(argument) = argument(command, &key) else {
            problems.push(format!("{place}: {}", unknown(command, &key)));
            continue;
        };
        match written(argument, &value) {
            Ok(Some(text)) => settings.push(Setting { id: key.into_owned(), place, text }),
            Ok(None) => {}
            Err(problem) => problems.push(format!("{place}: {key} {problem}")),
        }
    }
    settings
}

fn argument<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    super::settings(command).find(|argument| argument.get_id() == key && key != "config")
}

fn unknown(command: &Command, key: &str) -> String {
    let underscored = key.trim_start_matches('-').replace('-', "_");
    if underscored != key && argument(command, &underscored).is_some() {
        return format!("unknown key {key:?}; write {underscored}");
    }
    format!("unknown key {key:?}; --print-config lists the keys")
}

/// A value as a flag would have it; `None` if it says what leaving it out says.
fn written(argument: &Arg, value: &Spanned<DeValue<'_>>) -> Result<Option<String>, String> {
    let is_switch = matches!(argument.get_action(), ArgAction::SetTrue);
    match value.get_ref() {
        DeValue::Boolean(set) if is_switch => Ok(set.then(String::new)),
        _ if is_switch => Err("takes true or false".into()),
        DeValue::Array(items) if argument.get_value_delimiter().is_some() => {
            let items: Option<Vec<String>> = items.iter().map(|item| scalar(item.get_ref())).collect();
            items.map(|items| Some(items.join(","))).ok_or_else(|| "takes a list of texts".into())
        }
        value => scalar(value).map(Some).ok_or_else(|| "takes one text or number".into()),
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Arguments;
    use clap::CommandFactory as _;

    fn of(text: &str) -> (Vec<(String, String)>, Vec<String>) {
        let mut problems = Vec::new();
        let settings = parse("s.toml", text, &Arguments::command(), &mut problems);
        (settings.into_iter().map(|setting| (setting.id, setting.text)).collect(), problems)
    }

    #[test]
    fn keys_are_flags_and_values_are_what_flags_take() {
        let (settings, problems) =
            of("max_batch = 1_6\nlisten = \"[::1]:80\"\npreload = [\"a\", \"b\"]\nmodel = 'm'\n");
        assert_eq!(problems, Vec::<String>::new());
        let pairs: Vec<(&str, &str)> =
            settings.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
        let wanted = [("listen", "[::1]:80"), ("max_batch", "16"), ("model", "m"), ("preload", "a,b")];
        assert!(wanted.iter().all(|pair| pairs.contains(pair)) && pairs.len() == 4, "{pairs:?}");
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        let (settings, problems) = of(
            "max_batch = 16\nmax_bach = 1\nmax-queue = 2\nconfig = \"other\"\nmodel = [1]\nmax_batch = 1\nlog = = 1\n",
        );
        assert!(settings.iter().any(|(key, _)| key == "max_batch"), "{settings:?}");
        for part in [
            "s.toml:2: unknown key \"max_bach\"",
            "s.toml:3: unknown key \"max-queue\"; write max_queue",
            "s.toml:4: unknown key \"config\"",
            "s.toml:5: model takes one text or number",
            "s.toml:6: ",
            "s.toml:7: ",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(part)), "{part}: {problems:#?}");
        }
    }
}
