mod probe;
mod trouble;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use xprompt::engine;
use xprompt::prompt::PromptFile;
use xprompt::server::Limits;

use self::probe::{Outcome, Probe, documented, row};
use self::trouble::Troubled;
use crate::lifecycle::version;
use crate::prompts::{Server, Setup, eventually, free_text, tweets};
use crate::server_access::with_key;

type Operation = (Method, &'static str);

const LIST: Operation = (Method::GET, "/tasks");
const PREDICT: Operation = (Method::POST, "/tasks/{task}/predict");
const COMPLETE: Operation = (Method::POST, "/v1/completions");
const INFER: Operation = (Method::POST, "/v2/models/{model}/infer");
const INFER_VERSION: Operation = (Method::POST, "/v2/models/{model}/versions/{version}/infer");
/// What answers texts.
const ANSWERS: [Operation; 4] = [PREDICT, COMPLETE, INFER, INFER_VERSION];

const SHOW: Operation = (Method::GET, "/tasks/{task}");
const VERSIONS: Operation = (Method::GET, "/tasks/{task}/versions");
const MODEL: Operation = (Method::GET, "/v2/models/{model}");
const MODEL_READY: Operation = (Method::GET, "/v2/models/{model}/ready");
const VERSION: Operation = (Method::GET, "/v2/models/{model}/versions/{version}");
const VERSION_READY: Operation = (Method::GET, "/v2/models/{model}/versions/{version}/ready");
/// What tells of a task as of a model.
const MODELS: [Operation; 4] = [MODEL, MODEL_READY, VERSION, VERSION_READY];

const LIVE: Operation = (Method::GET, "/health/live");
const READY: Operation = (Method::GET, "/health/ready");
const V2: Operation = (Method::GET, "/v2");
const V2_LIVE: Operation = (Method::GET, "/v2/health/live");
const V2_READY: Operation = (Method::GET, "/v2/health/ready");
const METRICS: Operation = (Method::GET, "/metrics");

const UPLOAD: Operation = (Method::PUT, "/tasks/{task}");
const REMOVE: Operation = (Method::DELETE, "/tasks/{task}");
const ROLLBACK: Operation = (Method::POST, "/tasks/{task}/rollback");
const TRAFFIC: Operation = (Method::PUT, "/tasks/{task}/traffic");
const PIN: Operation = (Method::PUT, "/tasks/{task}/pin");
const UNPIN: Operation = (Method::DELETE, "/tasks/{task}/pin");
/// What changes a task that is there.
const CHANGES: [Operation; 5] = [ROLLBACK, TRAFFIC, PIN, UNPIN, REMOVE];

/// A name that is no text.
const NO_TEXT: &str = "%ff";

/// Each part reaches its statuses on a server of its own; what the descriptions name is what was reached.
#[tokio::test(flavor = "multi_thread")]
async fn every_documented_status_is_reached_and_every_reached_one_is_documented() {
    let mut probe = Probe::new();
    let mut described = what_calls_get(&mut probe).await;
    what_changes_get(&mut probe).await;
    late(&mut probe).await;
    full(&mut probe).await;
    before_the_prompts_are_there(&mut probe).await;
    raced(&mut probe).await;
    without_an_engine(&mut probe).await;
    described.extend(with_keys(&mut probe).await);
    let unreached: Vec<_> = described.difference(&probe.seen).collect();
    let undocumented: Vec<_> = probe.seen.difference(&described).collect();
    assert!(
        unreached.is_empty() && undocumented.is_empty(),
        "unreached {unreached:#?}, undocumented {undocumented:#?}"
    );
}

async fn server(prompt: PromptFile, setup: Setup) -> Server {
    Server::start(&[("say", prompt)], setup).await
}

/// A body with which an operation is well asked for.
fn body(operation: &Operation) -> Vec<u8> {
    if *operation == UPLOAD { version(100).0 } else { b"{}".to_vec() }
}

async fn what_calls_get(probe: &mut Probe) -> BTreeSet<Outcome> {
    let limits = Limits { body_bytes: 4000, read_time: Duration::from_millis(500), ..Limits::default() };
    let server = server(free_text(), Setup { limits, ..Setup::default() }).await;
    std::fs::write(server.path("broken"), "no prompt").unwrap();
    eventually("the bad file is noticed", || server.failure("broken").is_some()).await;
    let known = server.version("say").unwrap();
    let mut rows = vec![row(LIST, 400).query("?limit=0"), row(SHOW, 200).of("broken")];
    rows.extend([LIST, V2, V2_LIVE, V2_READY, LIVE, READY, METRICS].map(|get| row(get, 200)));
    for get in [SHOW, VERSIONS] {
        rows.extend([row(get.clone(), 200), row(get.clone(), 404).of("nothing"), row(get, 400).of(NO_TEXT)]);
    }
    for get in MODELS {
        rows.push(row(get.clone(), 200).at("say", &known));
        let others = [("nothing", 404), ("broken", 422), (NO_TEXT, 400)];
        rows.extend(others.map(|(task, status)| row(get.clone(), status).of(task)));
    }
    rows.extend([VERSION, VERSION_READY].map(|get| row(get, 409)));
    for post in ANSWERS {
        let asked = |status| row(post.clone(), status).at("say", &known);
        rows.push(asked(200).text("hello"));
        rows.push(asked(422).text(&"word ".repeat(200)));
        rows.push(asked(413).text(&"word ".repeat(1000)));
        rows.push(asked(400).bytes("{"));
        if post == COMPLETE {
            rows.push(asked(404).json(&json!({"model": "nothing", "prompt": "x"})));
        } else {
            let others = [("nothing", 404), ("broken", 422), (NO_TEXT, 400)];
            rows.extend(others.map(|(task, status)| row(post.clone(), status).of(task).text("x")));
        }
    }
    rows.extend(
        [PREDICT, COMPLETE].map(|post| row(post, 415).header("content-type", "image/png").bytes("x")),
    );
    rows.push(row(PREDICT, 409).json(&json!({"input": "x", "version": "0"})));
    rows.push(row(INFER_VERSION, 409).text("x"));
    probe.all(&server.url, rows).await;
    for call in ANSWERS.into_iter().chain([UPLOAD, ROLLBACK, TRAFFIC]) {
        probe.slow(&server.url, call, &known).await;
    }
    documented(&server.get("/openapi.json").await.1)
}

async fn what_changes_get(probe: &mut Probe) {
    let server = server(tweets(), Setup { max_prompts: 2, ..Setup::default() }).await;
    let first = server.version("say").unwrap();
    let (one, two) = (version(300).0, version(500).0);
    probe
        .all(
            &server.url,
            vec![
                row(UPLOAD, 201).of("t").bytes(one.clone()),
                row(UPLOAD, 200).bytes(one.clone()),
                row(UPLOAD, 200).bytes(two.clone()),
                row(UPLOAD, 400).of(NO_TEXT).bytes(one.clone()),
                row(UPLOAD, 404).of("nothing").query("?activate=false").bytes(one.clone()),
                row(UPLOAD, 412).header("if-match", "\"0\"").bytes(one.clone()),
                row(UPLOAD, 413).bytes(vec![0; (16 << 20) + 1]),
                row(UPLOAD, 422).bytes("no prompt"),
                row(UPLOAD, 507).of("third").bytes(one),
            ],
        )
        .await;
    // a version that is kept and whose file is for another model
    let alien = keep_alien(&server);
    let mut rows = vec![
        row(ROLLBACK, 200).json(&json!({"version": first})),
        row(TRAFFIC, 200).json(&json!({})),
        row(ROLLBACK, 422).json(&json!({"version": alien})),
        row(TRAFFIC, 422).json(&json!({"versions": {&alien: 5}})),
        row(PIN, 204),
        row(UNPIN, 204),
    ];
    for change in CHANGES {
        rows.push(row(change.clone(), 400).of(NO_TEXT).bytes(body(&change)));
        rows.push(row(change.clone(), 404).of("nothing").bytes(body(&change)));
        rows.push(row(change.clone(), 412).header("if-match", "\"0\"").bytes(body(&change)));
    }
    rows.extend([ROLLBACK, TRAFFIC].map(|change| row(change, 413).bytes(vec![b' '; 65 << 10])));
    rows.push(row(REMOVE, 204).of("t"));
    probe.all(&server.url, rows).await;
}

/// Puts a version for another model among the kept ones of `say`; its name.
fn keep_alien(server: &Server) -> String {
    let mut alien = tweets();
    alien.manifest.base_model.fingerprint = "0000000000000000".into();
    let bytes = alien.to_bytes().unwrap();
    let version = xprompt::fingerprint::of_bytes(&bytes);
    let folder = server.folder.path().join(".xprompt");
    std::fs::write(folder.join(format!("versions/say/{version}.safetensors")), &bytes).unwrap();
    let path = folder.join("state/say.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let kept = json!({"version": version, "bytes": bytes.len(), "since": 0, "candidate": true});
    state["versions"].as_array_mut().unwrap().push(kept);
    std::fs::write(&path, state.to_string()).unwrap();
    version
}

/// Where no call has time, and then a store that answers nothing, so that changes pile up.
async fn late(probe: &mut Probe) {
    let limits = Limits { request_time: Duration::ZERO, ..Limits::default() };
    let folder = tempfile::tempdir().unwrap();
    free_text().write(&folder.path().join("say.safetensors")).unwrap();
    let storage = Arc::new(Troubled::new(folder.path()));
    let setup = Setup { limits, ..Setup::default() };
    let server = Server::start_with(folder, Arc::clone(&storage) as _, setup).await;
    let known = server.version("say").unwrap();
    probe.all(&server.url, ANSWERS.map(|post| row(post, 504).at("say", &known).text("x")).into()).await;
    storage.is_stuck.store(true, Ordering::SeqCst);
    let changes: Vec<Operation> = CHANGES.into_iter().chain([UPLOAD]).collect();
    let asked = |change: &Operation, status| row(change.clone(), status).bytes(body(change));
    probe.all(&server.url, changes.iter().map(|change| asked(change, 504)).collect()).await;
    let more = || server.client.put(format!("{}/tasks/say/pin", server.url)).send();
    while more().await.unwrap().status() == 504 {}
    probe.all(&server.url, changes.iter().map(|change| asked(change, 429)).collect()).await;
    storage.is_stuck.store(false, Ordering::SeqCst);
}

async fn full(probe: &mut Probe) {
    let engine = engine::Options { max_queue: 0, ..engine::Options::default() };
    let server = server(free_text(), Setup { engine, ..Setup::default() }).await;
    let known = server.version("say").unwrap();
    probe.all(&server.url, ANSWERS.map(|post| row(post, 429).at("say", &known).text("x")).into()).await;
}

async fn before_the_prompts_are_there(probe: &mut Probe) {
    let server = server(tweets(), Setup { watch: false, ..Setup::default() }).await;
    let mut rows: Vec<_> = ANSWERS.map(|post| row(post, 503).text("x")).into();
    rows.extend(MODELS.into_iter().chain([SHOW, VERSIONS, READY, V2_READY]).map(|get| row(get, 503)));
    let changes = CHANGES.into_iter().chain([UPLOAD]);
    rows.extend(changes.map(|change| row(change.clone(), 503).bytes(body(&change))));
    probe.all(&server.url, rows).await;
}

/// Somebody else always changes the task between the look at it and the change.
async fn raced(probe: &mut Probe) {
    let folder = tempfile::tempdir().unwrap();
    tweets().write(&folder.path().join("say.safetensors")).unwrap();
    let storage = Arc::new(Troubled::new(folder.path()));
    let server = Server::start_with(folder, Arc::clone(&storage) as _, Setup::default()).await;
    let first = server.version("say").unwrap();
    probe.all(&server.url, vec![row(UPLOAD, 200).bytes(version(300).0)]).await;
    storage.is_raced.store(true, Ordering::SeqCst);
    probe
        .all(
            &server.url,
            vec![
                row(UPLOAD, 409).bytes(version(500).0),
                row(ROLLBACK, 409).json(&json!({"version": first})),
                row(TRAFFIC, 409).json(&json!({"versions": {first: 5}})),
                row(PIN, 409),
                row(UNPIN, 409),
                row(REMOVE, 409).header("if-match", "*"),
            ],
        )
        .await;
    assert!(server.version("say").is_some());
}

async fn without_an_engine(probe: &mut Probe) {
    let server = server(tweets(), Setup::default()).await;
    server.service.engine().stop();
    probe.all(&server.url, vec![row(LIVE, 500), row(V2_LIVE, 500)]).await;
}

/// A server with keys describes what it answers without one and with one that is for something else.
async fn with_keys(probe: &mut Probe) -> BTreeSet<Outcome> {
    let folder = tempfile::tempdir().unwrap();
    free_text().write(&folder.path().join("say.safetensors")).unwrap();
    let (process, other) = with_key(folder.path(), &["other", "--predict", "other"]);
    let url = format!("http://{}", process.address);
    let description =
        reqwest::Client::builder().no_proxy().build().unwrap().get(format!("{url}/openapi.json"));
    let description: Value = description.send().await.unwrap().json().await.unwrap();
    let bearer = format!("Bearer {other}");
    let any = [LIST, V2];
    let own = ANSWERS.into_iter().chain(MODELS).chain([SHOW, VERSIONS, METRICS]);
    for operation in own.chain(CHANGES).chain([UPLOAD]) {
        let asked = |status| {
            let is_answer = ANSWERS.contains(&operation);
            let row = row(operation.clone(), status);
            if is_answer { row.text("x") } else { row.bytes(body(&operation)) }
        };
        probe.all(&url, vec![asked(401), asked(403).header("authorization", &bearer)]).await;
    }
    for operation in any {
        probe.all(&url, vec![row(operation.clone(), 401)]).await;
        probe.all(&url, vec![row(operation, 200).header("authorization", &bearer)]).await;
    }
    documented(&description)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_viewer_needs_nothing_from_elsewhere() {
    let server = Server::start(&[], Setup::default()).await;
    let text = async |path: &str| {
        let response = server.client.get(format!("{}{path}", server.url)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        (response.headers()["content-type"].to_str().unwrap().to_owned(), response.text().await.unwrap())
    };
    let (kind, page) = text("/docs").await;
    assert!(kind.starts_with("text/html"), "{kind}");
    let references: Vec<&str> = page
        .split("src=\"")
        .skip(1)
        .chain(page.split("href=\"").skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(references.len() >= 4, "{page}");
    for reference in references {
        assert!(!reference.contains("//"), "{reference}");
        let file = format!("/docs/{}", reference.trim_start_matches("./"));
        let response = server.client.get(format!("{}{file}", server.url)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{file}");
    }
    let (_, settings) = text("/docs/swagger-initializer.js").await;
    assert!(
        settings.contains("\"/openapi.json\"") && settings.contains("\"validatorUrl\": \"none\""),
        "{settings}"
    );
}
