use std::path::PathBuf;
use std::sync::OnceLock;

use tokio::process::Command;
use xprompt::prompt::OutputSpec;

use crate::prompts::{Server, Setup, prompt, story, topics};
use crate::server_access::with_key;
use crate::support::root;

/// The Python of the virtual environment with the public clients, made on first use.
pub fn python() -> &'static PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let made =
            std::process::Command::new("python3").arg(root().join("scripts/clients.py")).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        PathBuf::from(String::from_utf8(made.stdout).unwrap().trim())
    })
}

async fn start() -> Server {
    let pair = prompt(700, 3, "{question} {text}", OutputSpec::Text { max_new_tokens: 8 });
    Server::start(&[("story", story()), ("topics", topics()), ("pair", pair)], Setup::default()).await
}

/// Runs a script of `tests/clients`; it has to end well and to say that its parts are ok.
async fn run(script: &str, arguments: &[&str], parts: usize) {
    let script = root().join("tests/clients").join(script);
    let mut command = Command::new(python());
    command.arg(script).args(arguments).env("NO_PROXY", "*").env_remove("PYTHONPATH").kill_on_drop(true);
    let output = command.output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert_eq!(out.matches(": ok").count(), parts, "{out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn openais_client_completes_streams_stops_and_understands_errors() {
    let server = start().await;
    run("completions.py", &[&server.url, &server.version("story").unwrap()], 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tritons_client_reads_metadata_and_infers_in_json_and_binary() {
    let server = start().await;
    run("inference_protocol.py", &[&server.url, &server.version("topics").unwrap()], 4).await;
}

/// Tries requests that schemathesis makes from a server's description of itself.
async fn schemathesis(url: &str, task: &str, arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let config = format!("[parameters]\ntask = {task:?}\nmodel = {task:?}\n");
    std::fs::write(folder.path().join("schemathesis.toml"), config).unwrap();
    let mut command = Command::new(python().with_file_name("schemathesis"));
    command.current_dir(folder.path()).env("NO_PROXY", "*").kill_on_drop(true);
    command.args(["run", &format!("{url}/openapi.json"), "--phases", "examples,coverage,fuzzing"]);
    // which options go together is said in words: requests that fit the schema may still be refused
    command.args(["--exclude-checks", "positive_data_acceptance", "--max-examples", "30"]);
    command.args(["--generation-deterministic", "--continue-on-failure", "--request-timeout", "60"]);
    let output = command.args(arguments).output().await.unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.contains(" generated, ") && out.contains("Tested: "), "{out}");
}

/// What changes prompts would take away the tasks that the others are tried on.
const WITHOUT_CHANGES: [&str; 2] = ["--exclude-tag", "Prompts"];
const CHANGES: [&str; 2] = ["--include-tag", "Prompts"];

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_answer_that_the_description_does_not_allow() {
    let server = start().await;
    for task in ["story", "topics"] {
        schemathesis(&server.url, task, &WITHOUT_CHANGES).await;
    }
    schemathesis(&server.url, "topics", &CHANGES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_way_around_the_keys() {
    let folder = tempfile::tempdir().unwrap();
    topics().write(&folder.path().join("topics.safetensors")).unwrap();
    let (process, key) = with_key(folder.path(), &["all", "--admin", "--predict", "*"]);
    let (url, header) = (format!("http://{}", process.address), format!("Authorization: Bearer {key}"));
    for what in [WITHOUT_CHANGES, CHANGES] {
        schemathesis(&url, "topics", &[what[0], what[1], "--header", &header]).await;
    }
}
