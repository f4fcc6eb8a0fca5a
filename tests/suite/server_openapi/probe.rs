//! Requests, and which operations gave which statuses.

use std::collections::BTreeSet;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Method, path pattern and status.
pub type Outcome = (String, String, u16);

/// A request to an operation, and the status that it has to get.
pub struct Row {
    method: Method,
    pattern: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    status: u16,
}

/// Sends requests and collects their outcomes.
pub struct Probe {
    pub seen: BTreeSet<Outcome>,
    client: Client,
}

/// A request by the method and the pattern of its operation, about the task `say` and its version 0.
pub fn row(operation: (Method, &'static str), status: u16) -> Row {
    let (method, pattern) = operation;
    let path = pattern.replace("{version}", "0");
    let row = Row { method, pattern, path, headers: Vec::new(), body: None, status };
    row.of("say")
}

impl Row {
    /// About another task.
    pub fn of(mut self, task: &str) -> Self {
        self.path = self.pattern.replace("{task}", task).replace("{model}", task).replace("{version}", "0");
        self
    }

    /// About a version.
    pub fn at(mut self, task: &str, version: &str) -> Self {
        self = self.of(task);
        self.path = self.path.replace("/versions/0", &format!("/versions/{version}"));
        self
    }

    pub fn query(mut self, query: &str) -> Self {
        self.path += query;
        self
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").bytes(body.to_string().into_bytes())
    }

    pub fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// If it is a call for answers: for the answer to this text.
    pub fn text(self, text: &str) -> Self {
        let body = match self.pattern {
            "/tasks/{task}/predict" => json!({"input": text}),
            "/v1/completions" => json!({"model": "say", "prompt": text}),
            _ => json!({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}),
        };
        self.json(&body)
    }
}

impl Probe {
    pub fn new() -> Self {
        // a connection for each request: idle ones are closed soon where the time to read is short
        let client = Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        Self { seen: BTreeSet::new(), client }
    }

    /// Sends requests one after the other; each has to get its status.
    pub async fn all(&mut self, url: &str, rows: Vec<Row>) {
        for row in rows {
            let mut request = self.client.request(row.method.clone(), format!("{url}{}", row.path));
            for (name, value) in &row.headers {
                request = request.header(*name, value);
            }
            let request = row.body.into_iter().fold(request, |request, body| request.body(body));
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            let place = format!("{} {} {:?}", row.method, row.path, row.headers);
            assert_eq!(status, row.status, "{place}: {}", answer.text().await.unwrap());
            self.saw(&row.method, row.pattern, status);
        }
    }

    /// Begins a request about a version of the task and does not send its body.
    pub async fn slow(&mut self, url: &str, (method, pattern): (Method, &'static str), version: &str) {
        let path = row((method.clone(), pattern), 408).at("say", version).path;
        let mut slow = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"
        );
        slow.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        slow.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408"), "{method} {path}: {answer}");
        self.saw(&method, pattern, 408);
    }

    fn saw(&mut self, method: &Method, pattern: &str, status: u16) {
        self.seen.insert((method.to_string(), pattern.to_owned(), status));
    }
}

/// The outcomes that a server's description of itself names.
pub fn documented(description: &Value) -> BTreeSet<Outcome> {
    let mut outcomes = BTreeSet::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            for status in operation["responses"].as_object().unwrap().keys() {
                outcomes.insert((method.to_uppercase(), path.clone(), status.parse().unwrap()));
            }
        }
    }
    outcomes
}
