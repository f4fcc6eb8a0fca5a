use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use object_store::ObjectStoreExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use reqwest::Method;
use serde_json::{Value, json};
use xprompt::exchange::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, SETTINGS, Settings};
use xprompt::fingerprint;
use xprompt::store::{Condition, S3Storage, Storage, StorageError};

use crate::prompts::{Server, Setup, TWEETS, eventually, labels, prompt};
use crate::support::root;

const BUCKET: &str = "prompts";

/// A server process that speaks S3 and keeps its objects in memory.
struct Moto {
    child: Child,
    port: u16,
    client: reqwest::Client,
}

impl Moto {
    /// At a port, or at one that is free.
    fn start(port: Option<u16>) -> Self {
        let program = root().join(".cache/s3/bin/moto_server");
        let mut child = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", &port.unwrap_or(0).to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; `make s3` fetches it", program.display()));
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = log.by_ref().lines().map(Result::unwrap).find_map(|line| {
            let (_, address) = line.split_once("Running on http://127.0.0.1:")?;
            address.trim().parse().ok()
        });
        let port = address.expect("the S3 server does not start");
        // it would wait for somebody to read
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, port, client: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    fn url(&self, key: &str) -> String {
        format!("http://127.0.0.1:{}/{key}", self.port)
    }

    async fn make_bucket(&self) {
        assert!(self.client.put(self.url(BUCKET)).send().await.unwrap().status().is_success());
    }

    /// Puts an object as any other program does.
    async fn put(&self, key: &str, bytes: &[u8]) {
        self.objects().put(&key.into(), bytes.to_vec().into()).await.unwrap();
    }

    async fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.objects().get(&key.into()).await {
            Ok(got) => Some(got.bytes().await.unwrap().to_vec()),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn remove(&self, key: &str) {
        self.objects().delete(&key.into()).await.unwrap();
    }

    fn objects(&self) -> AmazonS3 {
        self.settings().with_bucket_name(BUCKET).with_allow_http(true).build().unwrap()
    }

    fn settings(&self) -> AmazonS3Builder {
        AmazonS3Builder::new()
            .with_endpoint(self.url("").trim_end_matches('/'))
            .with_region("us-east-1")
            .with_access_key_id("test")
            .with_secret_access_key("test")
    }

    fn storage(&self) -> Arc<dyn Storage> {
        let place = format!("s3://{BUCKET}/team/x");
        let runtime = tokio::runtime::Handle::current();
        Arc::new(S3Storage::new(&place, self.settings(), Duration::from_millis(700), runtime).unwrap())
    }

    async fn serve(&self, setup: Setup) -> Server {
        Server::start_with(tempfile::tempdir().unwrap(), self.storage(), setup).await
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn version(first: usize) -> (Vec<u8>, String) {
    let bytes = prompt(first, 10, "sentiment of the tweet: {text}", labels(TWEETS)).to_bytes().unwrap();
    let name = fingerprint::of_bytes(&bytes);
    (bytes, name)
}

async fn call(
    server: &Server,
    method: Method,
    path: &str,
    if_match: Option<&str>,
    body: &[u8],
) -> (u16, Value) {
    let mut request = server.client.request(method, format!("{}{path}", server.url)).body(body.to_vec());
    if let Some(version) = if_match {
        request = request.header("if-match", format!("\"{version}\""));
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

fn is_at(server: &Server, version: &str) -> bool {
    server.version("t").as_deref() == Some(version)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lifecycle_works_on_a_bucket_and_servers_agree_through_it() {
    let moto = Moto::start(None);
    moto.make_bucket().await;
    let ((one, v1), (two, v2), (three, v3)) = (version(100), version(300), version(500));
    let (here, there) = (moto.serve(Setup::default()).await, moto.serve(Setup::default()).await);
    assert_eq!(call(&here, Method::PUT, "/tasks/t", None, &one).await.0, 201);
    assert!(moto.get("team/x/t.safetensors").await.as_ref() == Some(&one), "the object is the file");
    eventually("the other server has it too", || is_at(&there, &v1)).await;
    assert_eq!(call(&there, Method::PUT, "/tasks/t", Some(&v1), &two).await.0, 200);
    // at once: a change goes by what is stored, not by what this server has seen
    assert_eq!(call(&here, Method::PUT, "/tasks/t", Some(&v1), &three).await.0, 412);
    assert_eq!(call(&here, Method::PUT, "/tasks/t?activate=false", Some(&v2), &three).await.0, 200);
    let body = json!({"versions": {&v3: 100}}).to_string();
    let (status, shown) = call(&here, Method::PUT, "/tasks/t/traffic", None, body.as_bytes()).await;
    assert_eq!((status, &shown["active"]), (200, &json!(v2)), "{shown}");
    let shared = || there.store.task("t").is_some_and(|entry| !entry.routes.traffic.is_empty());
    eventually("the other server shares the traffic too", shared).await;
    assert_eq!(there.predict("t", json!({"input": "x"})).await.1["version"], v3);
    for (body, active) in [(String::new(), &v1), (json!({"version": v3}).to_string(), &v3)] {
        let (status, answer) = call(&there, Method::POST, "/tasks/t/rollback", None, body.as_bytes()).await;
        assert_eq!((status, &answer["active"]), (200, &json!(active)), "{answer}");
    }

    // of two that saw the same version, one wins, whichever server they ask
    let mut seen = v3.clone();
    for round in 0..5 {
        let (a, b) = (version(600 + 40 * round), version(620 + 40 * round));
        let (first, second) = tokio::join!(
            call(&here, Method::PUT, "/tasks/t", Some(&seen), &a.0),
            call(&there, Method::PUT, "/tasks/t", Some(&seen), &b.0),
        );
        let statuses = [first.0, second.0];
        let won = statuses.iter().position(|&status| status == 200).expect("one wins");
        assert!([409, 412].contains(&statuses[1 - won]), "{first:?} {second:?}");
        let winner = [&a, &b][won];
        assert!(moto.get("team/x/t.safetensors").await.as_ref() == Some(&winner.0), "the winner is stored");
        eventually("both have the winner", || is_at(&here, &winner.1) && is_at(&there, &winner.1)).await;
        seen.clone_from(&winner.1);
    }

    // of a removal and an upload that saw the same version, one wins too
    for round in 0..5 {
        let upload = version(900 + 40 * round);
        let (removed, put) = tokio::join!(
            call(&here, Method::DELETE, "/tasks/t", Some(&seen), b""),
            call(&there, Method::PUT, "/tasks/t", Some(&seen), &upload.0),
        );
        match (removed.0, put.0) {
            (204, 409 | 412) => {
                eventually("it is gone", || here.version("t").is_none() && there.version("t").is_none())
                    .await;
                assert_eq!(call(&there, Method::PUT, "/tasks/t", None, &upload.0).await.0, 201);
            }
            (409 | 412, 200) => {}
            _ => panic!("{removed:?} {put:?}"),
        }
        assert!(moto.get("team/x/t.safetensors").await.as_ref() == Some(&upload.0), "the upload is stored");
        eventually("both have it", || is_at(&here, &upload.1) && is_at(&there, &upload.1)).await;
        seen.clone_from(&upload.1);
    }

    assert_eq!(call(&here, Method::DELETE, "/tasks/t", None, b"").await.0, 204);
    eventually("the task is gone", || there.version("t").is_none()).await;
    for key in ["t.safetensors".to_owned(), format!(".xprompt/versions/t/{seen}.safetensors")] {
        assert!(moto.get(&format!("team/x/{key}")).await.is_none(), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_peft_saved_is_served_from_a_bucket_as_from_a_disk() {
    let moto = Moto::start(None);
    moto.make_bucket().await;
    let (here, there) = (moto.serve(Setup::default()).await, moto.serve(Setup::default()).await);
    let expected = crate::exchange::expected();
    let settings = Settings { task: crate::exchange::task(&expected), base_model: None }.to_toml().unwrap();
    let at = |file: &str| format!("team/x/t/{file}");
    let fixture = |file: &str| std::fs::read(root().join("tests/fixtures/peft/nano").join(file)).unwrap();

    // object after object, as programs copy folders; what is not there yet is said
    moto.put(&at(ADAPTER_CONFIG), &fixture(ADAPTER_CONFIG)).await;
    let says = |words: &str| here.failure("t").is_some_and(|reason| reason.contains(words));
    eventually("the rows are missed", || says("adapter_model.safetensors is not there; copy it")).await;
    moto.put(&at(ADAPTER_WEIGHTS), &fixture(ADAPTER_WEIGHTS)).await;
    eventually("the settings are missed", || says("task.toml is not there")).await;
    moto.put(&at(SETTINGS), settings.as_bytes()).await;
    let both = || here.version("t").filter(|version| is_at(&there, version));
    eventually("both servers have it", || both().is_some() && here.failure("t").is_none()).await;
    let first = both().unwrap();
    for (i, text) in expected["texts"].as_array().unwrap().iter().enumerate() {
        let (status, answer) = here.predict("t", json!({"input": text})).await;
        assert_eq!(status, 200, "{answer}");
        let want = crate::exchange::probabilities(&expected["nano"]["logits"][i]);
        for (word, want) in expected["words"].as_array().unwrap().iter().zip(want) {
            let got = answer["predictions"][0]["scores"][word.as_str().unwrap()].as_f64().unwrap();
            assert!((got - want).abs() < 1e-4, "{text}: {got} and {want}");
        }
    }

    // another object in its place is another version
    let changed = settings.replace("max_input_tokens = ", "max_input_tokens = 1");
    assert_ne!(changed, settings);
    moto.put(&at(SETTINGS), changed.as_bytes()).await;
    eventually("the change is served", || both().is_some_and(|version| version != first)).await;
    let second = both().unwrap();

    // an upload lies over the folder on both servers, a rollback brings its version back
    let (two, v2) = version(300);
    assert_eq!(call(&there, Method::PUT, "/tasks/t", Some(&first), &two).await.0, 412);
    assert_eq!(call(&there, Method::PUT, "/tasks/t", Some(&second), &two).await.0, 200);
    eventually("the upload is served", || both() == Some(v2.clone())).await;
    let (status, answer) = call(&here, Method::POST, "/tasks/t/rollback", None, b"").await;
    assert_eq!((status, &answer["active"]), (200, &json!(second)), "{answer}");
    eventually("both are back", || both() == Some(second.clone())).await;

    // a removal with a condition leaves an object of no bytes, under which the folder must not show again
    moto.put(&at("README.md"), b"mine").await;
    assert_eq!(call(&there, Method::DELETE, "/tasks/t", Some(&second), b"").await.0, 204);
    eventually("it is gone", || here.version("t").is_none() && there.version("t").is_none()).await;
    for file in [ADAPTER_CONFIG, ADAPTER_WEIGHTS, SETTINGS] {
        assert!(moto.get(&at(file)).await.is_none(), "{file}");
    }
    assert!(moto.get(&at("README.md")).await.is_some(), "what is not the adapter's stays");
    // and a new copy of it is a task again
    for file in [ADAPTER_CONFIG, ADAPTER_WEIGHTS] {
        moto.put(&at(file), &fixture(file)).await;
    }
    moto.put(&at(SETTINGS), settings.as_bytes()).await;
    eventually("it is served again", || both() == Some(first.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_removed_only_where_its_condition_holds_and_then_counts_as_none() {
    let moto = Moto::start(None);
    moto.make_bucket().await;
    let storage = moto.storage();
    let outcome = tokio::task::spawn_blocking(move || {
        let first = storage.write("a.safetensors", b"1", &Condition::Absent).unwrap();
        let second = storage.write("a.safetensors", b"22", &Condition::Is(first.clone())).unwrap();
        for condition in [Condition::Is(first), Condition::Absent] {
            let refused = storage.remove("a.safetensors", &condition);
            assert!(matches!(refused, Err(StorageError::Changed { .. })), "{refused:?}");
        }
        assert_eq!(storage.read("a.safetensors", 9).unwrap().bytes, b"22");
        storage.remove("a.safetensors", &Condition::Is(second.clone())).unwrap();
        assert!(storage.read("a.safetensors", 9).unwrap_err().is_missing());
        assert_eq!(storage.list("", ".safetensors"), Ok(Vec::new()));
        let late = storage.write("a.safetensors", b"3", &Condition::Is(second));
        assert!(matches!(late, Err(StorageError::Changed { .. })), "{late:?}");
        let third = storage.write("a.safetensors", b"33", &Condition::Absent).unwrap();
        let again = storage.write("a.safetensors", b"4", &Condition::Absent);
        assert!(matches!(again, Err(StorageError::Changed { .. })), "{again:?}");
        assert_eq!(storage.read("a.safetensors", 9).unwrap().tag, third);
        storage.remove("a.safetensors", &Condition::Any).unwrap();
        storage.remove("a.safetensors", &Condition::Any).unwrap();
        storage.remove("a.safetensors", &Condition::Absent).unwrap();
    });
    outcome.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_stays_while_the_bucket_is_away_and_is_caught_up_with_after() {
    let mut moto = Moto::start(None);
    moto.make_bucket().await;
    let ((one, v1), (two, v2), (three, v3)) = (version(100), version(300), version(500));
    for task in ["t", "u", "v"] {
        moto.put(&format!("team/x/{task}.safetensors"), &one).await;
    }
    // room for two tasks of three
    let max_resident_bytes = 2 * 8 * crate::prompts::lab().base.d_model * size_of::<f32>();
    let server = moto.serve(Setup { max_resident_bytes, ..Setup::default() }).await;
    for task in ["v", "u", "t"] {
        assert_eq!(server.predict(task, json!({"input": "x"})).await.0, 200);
    }
    let kept = || server.store.task("t").is_some_and(|entry| entry.routes.versions.len() == 1);
    eventually("the history is stored", kept).await;
    let reachable = async |want: u8| {
        let line = format!("xprompt_store_reachable {want}");
        let start = Instant::now();
        while !crate::server_metrics::scrape(&server).await.1.contains(&line) {
            assert!(start.elapsed() < Duration::from_secs(60), "not after a minute: {line}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };

    // an object that is damaged on its way
    moto.put("team/x/t.safetensors", &two[..two.len() - 7]).await;
    eventually("the damaged object is rejected", || server.failure("t").is_some()).await;
    assert!(is_at(&server, &v1));
    moto.put("team/x/t.safetensors", &two).await;
    eventually("the whole one is served", || is_at(&server, &v2) && server.failure("t").is_none()).await;

    // a bucket that takes calls and answers none
    moto.signal("-STOP");
    reachable(0).await;
    for _ in 0..20 {
        let (status, answer) = server.predict("t", json!({"input": "x"})).await;
        assert_eq!((status, &answer["version"]), (200, &json!(v2)), "what is in memory answers");
    }
    let (status, answer) = server.predict("v", json!({"input": "x"})).await;
    assert_eq!((status, &answer["code"]), (503, &json!("store_unavailable")), "what is not says so");
    let (status, answer) = call(&server, Method::PUT, "/tasks/t", None, &three).await;
    assert_eq!((status, &answer["code"]), (503, &json!("store_unavailable")), "{answer}");
    assert_eq!(server.get("/health/ready").await.0, 200);
    moto.signal("-CONT");
    reachable(1).await;
    assert!(is_at(&server, &v2));
    assert_eq!(server.predict("v", json!({"input": "x"})).await.0, 200);
    assert_eq!(call(&server, Method::PUT, "/tasks/t", Some(&v2), &three).await.0, 200);

    // a bucket that is lost with all it had
    moto.signal("-KILL");
    moto.child.wait().unwrap();
    reachable(0).await;
    assert_eq!(server.predict("t", json!({"input": "x"})).await.1["version"], v3);
    let port = moto.port;
    drop(moto);
    let moto = Moto::start(Some(port));
    reachable(0).await;
    assert!(is_at(&server, &v3), "a bucket that is not there takes nothing away");
    moto.make_bucket().await;
    moto.put("team/x/t.safetensors", &one).await;
    reachable(1).await;
    eventually("the new bucket is caught up with", || is_at(&server, &v1)).await;
    assert_eq!(server.predict("t", json!({"input": "x"})).await.0, 200);
    moto.remove("team/x/t.safetensors").await;
    eventually("what is removed goes", || server.version("t").is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_takes_a_bucket_by_its_address_and_the_usual_variables() {
    let moto = Moto::start(None);
    moto.make_bucket().await;
    let (one, v1) = version(100);
    moto.put("deep/er/t.safetensors", &one).await;
    let mut command = crate::server_process::command(format!("s3://{BUCKET}/deep/er/").as_ref());
    command.env("AWS_ENDPOINT_URL", moto.url("")).env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    let mut process = crate::server_process::Process::start(command);
    process.ignore_log();
    let task = format!("http://{}/tasks/t", process.address);
    let shown = moto.client.get(&task).send().await.unwrap();
    assert_eq!(shown.headers()["etag"], format!("\"{v1}\""));
    let put = moto.client.put(&task).body(version(300).0).send().await.unwrap();
    assert_eq!(put.status(), 200);
    assert!(moto.get("deep/er/t.safetensors").await == Some(version(300).0));
}

#[tokio::test]
async fn an_address_that_is_no_bucket_says_so() {
    for (place, words) in [("s3://", "s3://BUCKET"), ("s3:///x", "s3://BUCKET")] {
        let runtime = tokio::runtime::Handle::current();
        let settings = AmazonS3Builder::new().with_region("us-east-1");
        let error = S3Storage::new(place, settings, Duration::from_secs(1), runtime).unwrap_err().to_string();
        assert!(error.contains(words), "{place}: {error}");
    }
}
