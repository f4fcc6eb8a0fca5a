use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::prompts::{TWEETS, lab, labels, of_rows, tweets};
use crate::support::root;

pub fn command(prompts: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xprompt-server"));
    command.current_dir(root()).arg("--prompts").arg(prompts).args([
        "--listen",
        "127.0.0.1:0",
        "--log",
        "json",
    ]);
    command
}

/// A running process, killed if a test ends early.
pub struct Process {
    pub child: Child,
    log: Option<BufReader<ChildStderr>>,
    pub address: String,
    /// That of the admin listener, if there is one.
    pub admin: Option<String>,
    /// How many threads compute.
    pub threads: u64,
}

impl Process {
    /// Starts the server and waits until it has gone through its prompts.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut process = Self { child, log: Some(log), address: String::new(), admin: None, threads: 0 };
        let has_admin = command.get_args().any(|argument| argument == "--admin-listen");
        let (mut address, mut loaded) = (None, false);
        // the prompts may be there before the second listener is
        while address.is_none() || !loaded || has_admin && process.admin.is_none() {
            let line = process.line();
            match line["message"].as_str().unwrap_or_default() {
                "listening" if line["admin"] == true && address.is_some() => {
                    process.admin = line["address"].as_str().map(str::to_owned);
                }
                "the model computes" => process.threads = line["threads"].as_u64().unwrap(),
                "listening" => address = line["address"].as_str().map(str::to_owned),
                "the prompts folder was gone through" => loaded = true,
                _ => {}
            }
        }
        process.address = address.unwrap();
        process
    }

    pub fn line(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.log.as_mut().unwrap().read_line(&mut line).unwrap() > 0, "the server ended");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    pub fn wait_for(&mut self, message: &str) -> Value {
        loop {
            let line = self.line();
            if line["message"] == message {
                return line;
            }
        }
    }

    /// Reads the log away, so that the server never waits for a reader.
    pub fn ignore_log(&mut self) {
        let mut log = self.log.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    }

    fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    pub fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A call that was let in and whose body is awaited.
fn call_without_body(process: &Process) -> TcpStream {
    let mut call = TcpStream::connect(&process.address).unwrap();
    let head = "POST /tasks/tweets/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 14\r\nexpect: 100-continue\r\n\r\n";
    call.write_all(head.as_bytes()).unwrap();
    // the server asks for the body when the call is let in
    let mut asked = [0; 25];
    call.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    call
}

#[test]
fn sigterm_lets_the_call_in_flight_finish_and_exits_with_0() {
    let folder = tempfile::tempdir().unwrap();
    tweets().write(&folder.path().join("tweets.safetensors")).unwrap();
    let mut process = Process::start(command(folder.path()));
    let mut call = call_without_body(&process);
    process.signal("-TERM");
    assert_eq!(process.wait_for("draining")["in_flight"], 1);
    call.write_all(b"{\"input\": \"x\"}").unwrap();
    let mut answer = String::new();
    call.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("predictions"), "{answer}");
    process.wait_for("stopped");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_prompt_that_cannot_be_checked_by_examples_is_told_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(command(folder.path()));
    let name = "tweet-sentiment.safetensors";
    std::fs::copy(root().join("prompts").join(name), folder.path().join(name)).unwrap();
    assert!(process.wait_for("prompt loaded")["golden_examples"].as_u64() > Some(0));
    tweets().write(&folder.path().join("tweets.safetensors")).unwrap();
    // the next line of any kind: nothing was told of the first
    let loaded = process.line();
    assert_eq!((&loaded["message"], &loaded["task"]), (&json!("prompt loaded"), &json!("tweets")));
    assert_eq!(loaded["golden_examples"], 0);
    let told = process.line();
    assert!(told["message"].as_str().unwrap().starts_with("no golden examples"), "{told}");
    assert_eq!((&told["level"], &told["task"]), (&json!("INFO"), &json!("tweets")));
}

#[test]
fn draining_ends_at_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    tweets().write(&folder.path().join("tweets.safetensors")).unwrap();
    let mut command = command(folder.path());
    command.env("XPROMPT_DRAIN_TIMEOUT", "200ms");
    let mut process = Process::start(command);
    // its body never comes
    let call = call_without_body(&process);
    process.signal("-INT");
    let left = process.wait_for("the limit for draining passed; the calls that are left are cut off");
    assert_eq!(left["left"], 1);
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    drop(call);
}

pub fn fails(command: &mut Command) -> String {
    ends_with(command, 1)
}

/// The last line of a process that fails with this status.
pub fn ends_with(command: &mut Command, code: i32) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{text}");
    let last = text.lines().last().unwrap().to_owned();
    assert!(last.starts_with("xprompt-server: ") && !text.contains("panicked"), "{text}");
    last
}

#[test]
fn a_server_that_cannot_start_says_why_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let line = fails(&mut command(&folder.path().join("nowhere")));
    assert!(line.contains("nowhere") && line.contains("--prompts"), "{line}");
    let line = fails(command(folder.path()).args(["--model", "no/model"]));
    assert!(line.contains("no/model/config.json"), "{line}");
    let line = fails(command(folder.path()).env("XPROMPT_ONNXRUNTIME", "no/library.so"));
    assert!(line.contains("no/library.so") && line.contains("make setup"), "{line}");
    let line = fails(command(folder.path()).args(["--device", "cuda:0,cuda:99"]));
    assert!(line.contains("device cuda:") && line.contains("cannot be used"), "{line}");
    assert!(line.contains("onnxruntime-gpu") || line.contains("nvidia-smi"), "a remedy: {line}");
    let line = fails(command(folder.path()).args(["--device", "cpu"]).env("XPROMPT_PRECISION", "f16"));
    assert!(line.contains("--precision f16") && line.contains("--device cuda"), "{line}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = fails(
        Command::new(env!("CARGO_BIN_EXE_xprompt-server"))
            .arg("--prompts")
            .arg(folder.path())
            .args(["--listen", &address]),
    );
    assert!(line.contains(&address) && line.contains("--listen"), "{line}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_prompts_cost_what_their_rows_cost() {
    const PROMPTS: usize = 2000;
    let folder = tempfile::tempdir().unwrap();
    tweets().write(&folder.path().join("first.safetensors")).unwrap();
    let mut process = Process::start(command(folder.path()));
    process.ignore_log();
    let url = format!("http://{}", process.address);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let predict = async |task: &str| {
        let call = client.post(format!("{url}/tasks/{task}/predict")).body("{\"input\": \"still here\"}");
        call.send().await.unwrap().status()
    };
    assert_eq!(predict("first").await, 200);

    let prompts = random_prompts(PROMPTS);
    let before = process.resident_bytes();
    let start = Instant::now();
    for (i, bytes) in prompts.iter().enumerate() {
        let made = folder.path().join(".made");
        std::fs::write(&made, bytes).unwrap();
        std::fs::rename(&made, folder.path().join(format!("task-{i}.safetensors"))).unwrap();
    }
    let served = async || -> usize {
        let text = client.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("xprompt_prompts{state=\"ready\"} "));
        line.unwrap().parse().unwrap()
    };
    while served().await <= PROMPTS {
        assert!(start.elapsed() < Duration::from_secs(120));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = start.elapsed();
    let each = process.resident_bytes().saturating_sub(before) / PROMPTS;
    // 20 tokens, every fifth pruned
    let rows = 16 * lab().base.d_model * size_of::<f32>();
    println!("{PROMPTS} prompts in {took:.1?}: {each} resident bytes each, of which {rows} are rows");
    assert!(each < rows + 32 * 1024, "{each} bytes each, {rows} of them rows");
    for task in ["task-0", "task-1999"] {
        assert_eq!(predict(task).await, 200);
    }
}

/// Prompt files of 20 random rows, each different.
fn random_prompts(count: usize) -> Vec<Vec<u8>> {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut file = || {
        let rows = (0..20 * lab().base.d_model).map(|_| random()).collect();
        of_rows(rows, "sentiment of the tweet: {text}", labels(TWEETS))
    };
    (0..count).map(|_| file().to_bytes().unwrap()).collect()
}
