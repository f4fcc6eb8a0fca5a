//! A command line as a page of the documentation.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};

use crate::reference_page::cell;

/// The page of a program: its arguments, and those of its commands.
pub(crate) fn page(mut command: Command) -> String {
    command = command.disable_help_subcommand(true);
    command.build();
    let mut text = String::new();
    describe(&command, 1, &mut text);
    text
}

fn describe(command: &Command, level: usize, text: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let _ = writeln!(text, "{} {name}\n", "#".repeat(level));
    let about = command.get_long_about().or(command.get_about());
    let _ = writeln!(text, "{}\n", about.map(ToString::to_string).unwrap_or_default());
    let usage = command.clone().render_usage().to_string();
    let _ = writeln!(text, "```text\n{}\n```\n", usage.trim_start_matches("Usage: ").trim());
    let mut headings: Vec<Option<&str>> = Vec::new();
    for argument in arguments(command) {
        if !headings.contains(&argument.get_help_heading()) {
            headings.push(argument.get_help_heading());
        }
    }
    for heading in headings {
        let of_heading: Vec<&Arg> =
            arguments(command).filter(|one| one.get_help_heading() == heading).collect();
        if let Some(heading) = heading {
            let _ = writeln!(text, "**{heading}**\n");
        }
        let has_variables = of_heading.iter().any(|argument| argument.get_env().is_some());
        text.push_str(if has_variables {
            "| argument | variable | default | meaning |\n| --- | --- | --- | --- |\n"
        } else {
            "| argument | default | meaning |\n| --- | --- | --- |\n"
        });
        for argument in of_heading {
            let _ = write!(text, "| `{}` ", shown(argument));
            if has_variables {
                let variable = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
                let _ = write!(text, "| {} ", variable.unwrap_or_default());
            }
            let _ = writeln!(text, "| {} | {} |", default(argument), cell(&meaning(argument)));
        }
        text.push('\n');
    }
    if let Some(examples) = command.get_after_help() {
        let _ = writeln!(text, "```text\n{examples}\n```\n");
    }
    for command in command.get_subcommands() {
        describe(command, 2, text);
    }
}

fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    let asks = |argument: &&Arg| {
        matches!(
            argument.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        )
    };
    command.get_arguments().filter(move |argument| !asks(argument) && !argument.is_hide_set())
}

fn shown(argument: &Arg) -> String {
    let values = argument
        .get_value_names()
        .unwrap_or_default()
        .iter()
        .map(|name| name.as_str())
        .collect::<Vec<_>>()
        .join(" ");
    match argument.get_long() {
        None => values,
        Some(long) if argument.get_action().takes_values() => format!("--{long} {values}"),
        Some(long) => format!("--{long}"),
    }
}

fn default(argument: &Arg) -> String {
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let values: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if values.is_empty() { String::new() } else { format!("`{}`", values.join(",")) }
}

fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if values.is_empty() || !argument.get_action().takes_values() {
        help
    } else {
        format!("{}: {}", help.trim_end_matches('.'), values.join(", "))
    }
}
