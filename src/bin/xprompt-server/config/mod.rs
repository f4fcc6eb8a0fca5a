//! Settings from flags, environment variables and a file, in this order of precedence.
//!
//! [`Arguments`] is the only list of settings: a file's settings are read as flags that nobody gave. Whatever cannot
//! be read is noted and left out, so that all problems are told together.

mod file;
mod print;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use self::file::Setting;
use crate::arguments::Arguments;
use crate::keygen::Keygen;
use crate::manual::{Completions, Manual};

/// What the process is asked to do.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Serve.
    Serve(Box<Arguments>),
    /// Show the settings.
    Print(String),
    /// Make a key.
    Keygen(Keygen),
    /// Print a shell's completions.
    Completions(Completions),
    /// Write manual pages.
    Manual(Manual),
}

/// A command line that is read again and again, each time without what could not be read.
struct Reader {
    command: Command,
    /// The program's name and what was given to it.
    given: Vec<OsString>,
    /// What stands in the file and is given by nothing else.
    filed: BTreeMap<String, Setting>,
    problems: Vec<String>,
    unreadable: Vec<String>,
}

/// All that the process can be given.
pub(crate) fn command() -> Command {
    Arguments::command()
        .subcommand(Keygen::command())
        .subcommand(Completions::command())
        .subcommand(Manual::command())
        .disable_help_subcommand(true)
}

/// Reads what was given to the process.
///
/// # Errors
/// All problems there are.
pub(crate) fn read(given: impl IntoIterator<Item = OsString>) -> Result<Asked, Vec<String>> {
    let mut reader = Reader {
        command: command(),
        given: given.into_iter().collect(),
        filed: BTreeMap::new(),
        problems: Vec::new(),
        unreadable: Vec::new(),
    };
    let Some(mut matches) = reader.matches() else { return Err(reader.problems) };
    if let Some((name, asked)) = matches.subcommand() {
        let asked = match name {
            "completions" => Completions::from_arg_matches(asked).map(Asked::Completions),
            "manual" => Manual::from_arg_matches(asked).map(Asked::Manual),
            _ => Keygen::from_arg_matches(asked).map(Asked::Keygen),
        };
        return asked.map_err(|error| vec![first_line(&error)]);
    }
    if let Some(path) = matches.get_one::<std::path::PathBuf>("config") {
        let settings = file::read(path, &reader.command, &mut reader.problems);
        reader.take(settings);
        let Some(with_file) = reader.matches() else { return Err(reader.problems) };
        matches = with_file;
    }
    let arguments = Arguments::from_arg_matches(&matches).map_err(|error| vec![first_line(&error)])?;
    let unreadable: Vec<&str> = reader.unreadable.iter().map(String::as_str).collect();
    let mut problems = reader.problems;
    problems.extend(arguments.check(&unreadable));
    if !problems.is_empty() {
        return Err(problems);
    }
    if arguments.print_config {
        return Ok(Asked::Print(print::settings(&reader.command, &matches, &reader.filed)));
    }
    Ok(Asked::Serve(Box::new(arguments)))
}

/// The arguments that are settings.
fn settings(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|argument| argument.get_env().is_some())
}

/// A secret's value is shown nowhere, `--help` included.
fn is_secret(argument: &Arg) -> bool {
    argument.is_hide_env_values_set()
}

fn from_environment(argument: &Arg) -> Option<OsString> {
    std::env::var_os(argument.get_env()?)
}

// === impl Reader ===

impl Reader {
    /// What can be read; `None` if it is not known how to go on.
    fn matches(&mut self) -> Option<ArgMatches> {
        loop {
            let mut line = self.given.clone();
            // behind the program's name, before a subcommand
            line.splice(1..1, self.filed.values().map(|setting| flag(&self.command, setting)));
            match self.command.clone().try_get_matches_from(line) {
                Ok(matches) => return Some(matches),
                Err(error) => self.note(&error)?,
            }
        }
    }

    /// Takes the settings of the file that neither a flag nor a variable gives.
    fn take(&mut self, settings: Vec<Setting>) {
        for setting in settings {
            let argument = self.argument(&setting.id);
            if self.position(&setting.id).is_none() && argument.and_then(from_environment).is_none() {
                self.filed.insert(setting.id.clone(), setting);
            }
        }
    }

    /// Notes an error and leaves out what it is about.
    fn note(&mut self, error: &clap::Error) -> Option<()> {
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            error.exit();
        }
        let is_value = matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue);
        let about = context(error, ContextKind::InvalidArg).unwrap_or_default();
        let flag = about.split([' ', '=']).next().unwrap_or_default().to_owned();
        let known = self
            .command
            .get_arguments()
            .find(|argument| argument.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long)));
        match known.map(|argument| argument.get_id().to_string()) {
            Some(id) if is_value => self.leave_out(&id, error),
            _ => {
                self.problems.push(first_line(error));
                let is_unknown = error.kind() == ErrorKind::UnknownArgument;
                let at = self.given.iter().position(|part| *part == *about || *part == *flag)?;
                is_unknown.then(|| self.remove(at, true))
            }
        }
    }

    fn leave_out(&mut self, id: &str, error: &clap::Error) -> Option<()> {
        let argument = self.argument(id)?.clone();
        let (long, secret) = (argument.get_long()?.to_owned(), is_secret(&argument));
        let shown = |separator: &str| match context(error, ContextKind::InvalidValue) {
            Some(value) if !secret => format!("{separator}{value}"),
            _ => String::new(),
        };
        let place = if let Some(at) = self.position(id) {
            let place = format!("--{long}{}", shown(" "));
            self.remove(at, !matches!(argument.get_action(), ArgAction::SetTrue));
            place
        } else if let Some(setting) = self.filed.remove(id) {
            format!("{}: {id}{}", setting.place, shown(" = "))
        } else {
            let name = argument.get_env()?.to_string_lossy().into_owned();
            self.command = self.command.clone().mut_arg(id, |argument| argument.env(None::<&'static str>));
            format!("{name}{}", shown("="))
        };
        self.problems.push(format!("{place}: {}", reason(error, secret)));
        self.unreadable.push(id.to_owned());
        Some(())
    }

    fn argument(&self, id: &str) -> Option<&Arg> {
        self.command.get_arguments().find(|argument| argument.get_id() == id)
    }

    /// Where the flag is given.
    fn position(&self, id: &str) -> Option<usize> {
        let flag = format!("--{}", self.argument(id)?.get_long()?);
        let is_it = |part: &OsString| {
            part.to_str()
                .and_then(|part| part.strip_prefix(&flag))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        self.given.iter().position(is_it)
    }

    /// Removes a flag with its value.
    fn remove(&mut self, at: usize, takes_value: bool) {
        let flag = self.given.remove(at);
        let has_value = flag.to_string_lossy().contains('=');
        let next_is_value = self.given.get(at).is_some_and(|next| !next.to_string_lossy().starts_with('-'));
        if takes_value && !has_value && next_is_value {
            self.given.remove(at);
        }
    }
}

fn flag(command: &Command, setting: &Setting) -> OsString {
    let argument = command.get_arguments().find(|argument| argument.get_id() == setting.id.as_str());
    let long = argument.and_then(Arg::get_long).unwrap_or(&setting.id);
    let is_switch = argument.is_some_and(|argument| matches!(argument.get_action(), ArgAction::SetTrue));
    if is_switch { format!("--{long}").into() } else { format!("--{long}={}", setting.text).into() }
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

/// Why a value is not taken.
fn reason(error: &clap::Error, secret: bool) -> String {
    if secret {
        return "cannot be read".into();
    }
    match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(source), _) => source.to_string(),
        (None, Some(ContextValue::Strings(values))) => format!("is none of {}", values.join(", ")),
        _ => "is no value".into(),
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
