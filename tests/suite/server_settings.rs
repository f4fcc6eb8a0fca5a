use std::path::Path;
use std::process::{Command, Output};

use crate::support::root;

/// The program with these settings, which it prints.
fn printing(folder: &Path, file: &str) -> Command {
    std::fs::write(folder.join("server.toml"), file).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xprompt-server"));
    command.current_dir(root()).arg("--config").arg(folder.join("server.toml")).arg("--print-config");
    command
}

fn printed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Everything that a process says that refuses its settings.
fn refused(command: &mut Command) -> Vec<String> {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!(status.code(), Some(2), "{}", String::from_utf8_lossy(&stderr));
    assert!(stdout.is_empty());
    let text = String::from_utf8(stderr).unwrap();
    let problem =
        |line: &str| line.strip_prefix("xprompt-server: ").unwrap_or_else(|| panic!("{text}")).to_owned();
    text.lines().map(problem).collect()
}

#[test]
fn a_flag_comes_before_a_variable_and_a_variable_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file =
        "max_batch = 3\nmax_queue = 300\nmax_requests = 30\nno_auth = true\npreload = [\"a\", \"b\"]\n";
    let mut command = printing(folder.path(), file);
    command.env("XPROMPT_MAX_BATCH", "2").env("XPROMPT_MAX_QUEUE", "200").args(["--max-batch", "1"]);
    let text = printed(&mut command);
    let place = folder.path().join("server.toml");
    for line in [
        "max_batch = 1  # --max-batch".to_owned(),
        "max_queue = 200  # XPROMPT_MAX_QUEUE".to_owned(),
        format!("max_requests = 30  # {}:3", place.display()),
        format!("no_auth = true  # {}:4", place.display()),
        format!("preload = [\"a\", \"b\"]  # {}:5", place.display()),
        "max_inputs = 128  # default".to_owned(),
        "# threads is not set".to_owned(),
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\nin\n{text}");
    }
}

#[test]
fn printed_settings_are_a_file_that_sets_them() {
    let folder = tempfile::tempdir().unwrap();
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect()
    };
    let first = printed(
        printing(folder.path(), "model = 'a \"b\" \\ c'\npreload = [\"x\"]\n").env("XPROMPT_THREADS", "3"),
    );
    let second = printed(&mut printing(folder.path(), &first));
    assert_eq!(values(&first), values(&second));
    assert!(second.contains("threads = 3"), "{second}");
}

#[test]
fn all_problems_are_told_at_once_each_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = "max_bach = 1\nmax_queue = \"many\"\nmax-prompts = 5\nrequest_timeout = 30\n";
    let mut command = printing(folder.path(), file);
    command
        .env("XPROMPT_THREADS", "x")
        .env("XPROMPT_OTLP_HEADERS", "api-key=hunter2")
        .args([
            "--max-batch",
            "0",
            "--max-requests=-",
            "--tls-cert",
            "c.pem",
            "--keys",
            "k",
            "--no-auth",
            "--log",
            "xml",
        ])
        .args(["--no-such-flag", "7"]);
    let problems = refused(&mut command);
    let place = folder.path().join("server.toml").display().to_string();
    for part in [
        "--max-batch 0: is 0, it has to be 1 or more".to_owned(),
        "--max-requests -: is no whole number".to_owned(),
        "--log xml: is none of text, json".to_owned(),
        "unexpected argument '--no-such-flag' found".to_owned(),
        "XPROMPT_THREADS=x: is no whole number".to_owned(),
        format!("{place}:1: unknown key \"max_bach\""),
        format!("{place}:2: max_queue = many: is no whole number"),
        format!("{place}:3: unknown key \"max-prompts\"; write max_prompts"),
        format!("{place}:4: request_timeout = 30: a time needs a unit"),
        "--tls-cert and --tls-key belong together".to_owned(),
        "--keys asks for keys and --no-auth for none".to_owned(),
    ] {
        assert!(problems.iter().any(|problem| problem.starts_with(&part)), "{part}\nin\n{problems:#?}");
    }
    assert_eq!(problems.len(), 11, "{problems:#?}");
    assert!(!problems.concat().contains("hunter2"));
    let one = refused(printing(folder.path(), "").args(["--max-queue", "5"]));
    assert_eq!(one.len(), 1);
    assert!(one[0].contains("--max-inputs 128") && one[0].contains("--max-queue 5"), "{one:?}");
    let missing =
        refused(printing(folder.path(), "").env("XPROMPT_CONFIG", "x").args(["--config", "no/file.toml"]));
    assert!(missing.iter().any(|problem| problem.contains("cannot be used multiple times")), "{missing:?}");
    let missing =
        refused(Command::new(env!("CARGO_BIN_EXE_xprompt-server")).env("XPROMPT_CONFIG", "no/file.toml"));
    assert!(missing[0].starts_with("no/file.toml: cannot be read") && missing.len() == 1, "{missing:?}");
}

#[test]
fn secrets_are_shown_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = "otlp_headers = \"api-key=hunter2\"\n";
    let text = printed(&mut printing(folder.path(), file));
    assert!(text.contains("otlp_headers = \"(set)\"") && !text.contains("hunter2"), "{text}");
    let mut help = Command::new(env!("CARGO_BIN_EXE_xprompt-server"));
    let text = printed(help.env("XPROMPT_OTLP_HEADERS", "api-key=hunter2").arg("--help"));
    assert!(text.contains("XPROMPT_OTLP_HEADERS") && !text.contains("hunter2"), "{text}");
    let problems = refused(&mut printing(folder.path(), "otlp_headers = [\"hunter2\"]\n"));
    assert!(!problems.concat().contains("hunter2"), "{problems:?}");
}

#[test]
fn shells_and_manual_pages_know_every_setting() {
    let program = || Command::new(env!("CARGO_BIN_EXE_xprompt-server"));
    let help = printed(program().arg("--help"));
    let words = help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2);
    let flags: Vec<&str> = words.map(|word| word.trim_end_matches([',', '.', ':', ';', ')', '`'])).collect();
    assert!(flags.len() > 40, "{flags:?}");
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(printed(program().arg("manual").arg(folder.path())), "");
    let page = std::fs::read_to_string(folder.path().join("xprompt-server.1")).unwrap();
    assert!(folder.path().join("xprompt-server-keygen.1").is_file());
    let completed = printed(program().args(["completions", "bash"]));
    for flag in flags {
        assert!(completed.contains(flag), "bash is not told {flag}");
        assert!(page.contains(&flag.replace('-', "\\-")), "the manual page has no {flag}");
    }
    let problems = refused(program().args(["completions", "tcsh"]));
    assert!(problems[0].contains("tcsh"), "{problems:?}");
}
