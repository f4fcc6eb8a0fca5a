use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use xprompt::engine;
use xprompt::server::Limits;

use crate::prompts::{Server, Setup, eventually, free_text, tweets};

/// Method, path pattern and status.
type Outcome = (String, String, u16);

const PREDICT: &str = "/tasks/{task}/predict";
const COMPLETE: &str = "/v1/completions";
const INFER: &str = "/v2/models/{model}/infer";
const INFER_VERSION: &str = "/v2/models/{model}/versions/{version}/infer";
const ANSWERS: [&str; 4] = [PREDICT, COMPLETE, INFER, INFER_VERSION];

/// The outcomes that the description names.
pub fn documented(description: &Value) -> BTreeSet<Outcome> {
    let mut outcomes = BTreeSet::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            // what changes prompts has its statuses in the tests of the lifecycle
            if operation["tags"][0] == "Prompts" {
                continue;
            }
            for status in operation["responses"].as_object().unwrap().keys() {
                outcomes.insert((method.to_uppercase(), path.clone(), status.parse().unwrap()));
            }
        }
    }
    outcomes
}

/// Sends requests and collects their outcomes.
struct Prober(BTreeSet<Outcome>, Client);

impl Prober {
    async fn send(&mut self, server: &Server, method: &str, pattern: &str, path: &str, body: Option<String>) {
        let url = format!("{}{path}", server.url);
        let mut request = self.1.request(Method::from_bytes(method.as_bytes()).unwrap(), url);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        self.note(method, pattern, request).await;
    }

    async fn note(&mut self, method: &str, pattern: &str, request: RequestBuilder) {
        let status = request.send().await.unwrap().status().as_u16();
        self.0.insert((method.into(), pattern.into(), status));
    }

    /// Asks every route that answers texts.
    async fn answer_all(&mut self, server: &Server, task: &str, text: &str) {
        for pattern in ANSWERS {
            let path = path(server, pattern, task);
            self.send(server, "POST", pattern, &path, Some(call(pattern, task, text).to_string())).await;
        }
    }

    async fn get(&mut self, server: &Server, pattern: &str, path: &str) {
        self.send(server, "GET", pattern, path, None).await;
    }

    /// Asks every route that tells about a task.
    async fn describe_all(&mut self, server: &Server, task: &str) {
        for pattern in [
            "/tasks/{task}",
            "/v2/models/{model}",
            "/v2/models/{model}/ready",
            "/v2/models/{model}/versions/{version}",
            "/v2/models/{model}/versions/{version}/ready",
        ] {
            self.get(server, pattern, &path(server, pattern, task)).await;
        }
    }
}

fn path(server: &Server, pattern: &str, task: &str) -> String {
    let version = server.version(task).unwrap_or_else(|| "0".into());
    pattern.replace("{task}", task).replace("{model}", task).replace("{version}", &version)
}

fn call(pattern: &str, task: &str, text: &str) -> Value {
    match pattern {
        PREDICT => json!({"input": text}),
        COMPLETE => json!({"model": task, "prompt": text}),
        _ => json!({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_status_is_reached_and_every_reached_one_is_documented() {
    // a connection for each request: idle ones are closed soon where the time to read is short
    let client = Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let mut probe = Prober(BTreeSet::new(), client);
    let limits = Limits { body_bytes: 4000, read_time: Duration::from_millis(500), ..Limits::default() };
    let mut server = Server::start(&[("say", free_text())], Setup { limits, ..Setup::default() }).await;
    std::fs::write(server.path("broken"), "no prompt").unwrap();
    eventually("the bad file is noticed", || server.failure("broken").is_some()).await;
    let (_, description) = server.get("/openapi.json").await;

    for pattern in
        ["/tasks", "/v2", "/v2/health/live", "/v2/health/ready", "/health/live", "/health/ready", "/metrics"]
    {
        probe.get(&server, pattern, pattern).await;
    }
    probe.get(&server, "/tasks", "/tasks?limit=0").await;
    for task in ["say", "nothing", "broken", "%ff"] {
        probe.describe_all(&server, task).await;
    }
    for (task, text) in
        [("say", "hello".to_owned()), ("nothing", "x".into()), ("broken", "x".into()), ("%ff", "x".into())]
    {
        probe.answer_all(&server, task, &text).await;
    }
    probe.answer_all(&server, "say", &"word ".repeat(200)).await;
    probe.answer_all(&server, "say", &"word ".repeat(1000)).await;
    for pattern in ANSWERS {
        let path = path(&server, pattern, "say");
        probe.send(&server, "POST", pattern, &path, Some("{".into())).await;
        let request = probe.1.post(format!("{}{path}", server.url)).header("content-type", "image/png");
        if pattern == PREDICT || pattern == COMPLETE {
            probe.note("POST", pattern, request).await;
        }
        probe.0.insert(("POST".into(), pattern.into(), slow_body(&server, &path).await));
    }
    let other = json!({"input": "x", "version": "0"}).to_string();
    probe.send(&server, "POST", PREDICT, "/tasks/say/predict", Some(other)).await;
    for rest in ["", "/ready"] {
        let pattern = format!("/v2/models/{{model}}/versions/{{version}}{rest}");
        probe.get(&server, &pattern, &format!("/v2/models/say/versions/0{rest}")).await;
    }
    let body = call(INFER_VERSION, "say", "x").to_string();
    probe.send(&server, "POST", INFER_VERSION, "/v2/models/say/versions/0/infer", Some(body)).await;
    server.service.engine().stop();
    probe.get(&server, "/health/live", "/health/live").await;
    probe.get(&server, "/v2/health/live", "/v2/health/live").await;
    server.begin_stop();

    let late = Limits { request_time: Duration::ZERO, ..Limits::default() };
    let server = Server::start(&[("say", free_text())], Setup { limits: late, ..Setup::default() }).await;
    probe.answer_all(&server, "say", "x").await;
    let full = engine::Options { max_queue: 0, ..engine::Options::default() };
    let server = Server::start(&[("say", free_text())], Setup { engine: full, ..Setup::default() }).await;
    probe.answer_all(&server, "say", "x").await;
    let server = Server::start(&[("say", tweets())], Setup { watch: false, ..Setup::default() }).await;
    probe.answer_all(&server, "say", "x").await;
    probe.describe_all(&server, "say").await;
    for pattern in ["/health/ready", "/v2/health/ready"] {
        probe.get(&server, pattern, pattern).await;
    }

    let documented = documented(&description);
    let unreached: Vec<_> = documented.difference(&probe.0).collect();
    let undocumented: Vec<_> = probe.0.difference(&documented).collect();
    assert!(
        unreached.is_empty() && undocumented.is_empty(),
        "unreached {unreached:#?}, undocumented {undocumented:#?}"
    );
}

/// The status of a call whose body does not come.
async fn slow_body(server: &Server, path: &str) -> u16 {
    let mut slow = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
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
