use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;

use crate::prompts::{story, tweets};
use crate::server_process::{Process, command};

/// What a collector got: headers and spans.
type Got = Arc<Mutex<Vec<(HeaderMap, Vec<Span>)>>>;

/// A collector that keeps what it gets.
async fn collector() -> (String, Got) {
    async fn take(State(got): State<Got>, headers: HeaderMap, body: Bytes) {
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans).collect();
        got.lock().unwrap().push((headers, spans));
    }
    let got = Got::default();
    let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&got));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });
    (format!("http://{address}"), got)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    format!("{:?}", found.and_then(|attribute| attribute.value.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_the_stages_of_a_request_under_the_callers_span() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";
    let folder = tempfile::tempdir().unwrap();
    tweets().write(&folder.path().join("tweets.safetensors")).unwrap();
    let (endpoint, got) = collector().await;
    let mut command = command(folder.path());
    command.env("XPROMPT_OTLP_ENDPOINT", endpoint).env("XPROMPT_OTLP_HEADERS", "x-owner=tests,x-key=hunter2");
    command.env("OTEL_BSP_SCHEDULE_DELAY", "100").args([
        "--trace-percent",
        "0",
        "--log-level",
        "debug,hyper=off",
    ]);
    let mut process = Process::start(command);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let predict = async |sampled: &str| {
        let url = format!("http://{}/tasks/tweets/predict", process.address);
        let call = client.post(url).header("traceparent", format!("00-{TRACE}-{PARENT}-{sampled}"));
        let call = call.header("x-request-id", "from-the-client").body("{\"inputs\": [\"x\", \"y\"]}");
        assert_eq!(call.send().await.unwrap().status(), 200);
    };
    // its caller does not trace, so it is not traced
    predict("00").await;
    predict("01").await;
    let start = Instant::now();
    let spans = loop {
        let got = got.lock().unwrap().clone();
        let spans: Vec<Span> = got.iter().flat_map(|(_, spans)| spans.clone()).collect();
        if spans.iter().any(|span| span.name == "POST /tasks/{task}/predict") {
            let headers = &got[0].0;
            assert_eq!(
                (&headers["x-owner"], &headers["x-key"]),
                (&"tests".parse().unwrap(), &"hunter2".parse().unwrap())
            );
            break spans;
        }
        assert!(start.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["POST /tasks/{task}/predict", "queue", "queue", "run", "run", "tokenize"]);
    let request = spans.iter().find(|span| span.name.starts_with("POST")).unwrap();
    assert_eq!((hex(&request.trace_id), hex(&request.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
    assert!(attribute(request, "http.response.status_code").contains("200"));
    assert!(attribute(request, "xprompt.request_id").contains("from-the-client"));
    for stage in spans.iter().filter(|span| !span.name.starts_with("POST")) {
        assert_eq!((&stage.trace_id, &stage.parent_span_id), (&request.trace_id, &request.span_id));
        // clocks of threads may differ by little
        let slack = 5_000_000;
        assert!(stage.start_time_unix_nano + slack >= request.start_time_unix_nano, "{}", stage.name);
        assert!(stage.end_time_unix_nano <= request.end_time_unix_nano + slack, "{}", stage.name);
        assert!(stage.start_time_unix_nano <= stage.end_time_unix_nano, "{}", stage.name);
    }
    process.signal("-TERM");
    let mut logged = 0;
    loop {
        let line = process.line();
        assert!(!line.to_string().contains("hunter2"), "{line}");
        if line["message"] == "request" {
            assert_eq!(
                (&line["span"]["id"], &line["span"]["trace"]),
                (&"from-the-client".into(), &TRACE.into())
            );
            logged += 1;
        }
        if line["message"] == "stopped" {
            break;
        }
    }
    assert_eq!(logged, 2);
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_span_of_a_stream_ends_with_it_and_holds_its_stages() {
    let folder = tempfile::tempdir().unwrap();
    story().write(&folder.path().join("story.safetensors")).unwrap();
    let (endpoint, got) = collector().await;
    let mut command = command(folder.path());
    command.env("XPROMPT_OTLP_ENDPOINT", endpoint).env("OTEL_BSP_SCHEDULE_DELAY", "50");
    let mut process = Process::start(command);
    process.ignore_log();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (path, body, texts) in [
        ("/tasks/story/predict", json!({"input": "once", "max_new_tokens": 20, "stream": true}), 1),
        (
            "/v1/completions",
            json!({"model": "story", "prompt": ["a", "b"], "max_tokens": 20, "stream": true}),
            2,
        ),
        ("/v1/completions", json!({"model": "story", "prompt": "a", "max_tokens": 20}), 1),
    ] {
        got.lock().unwrap().clear();
        let call = client.post(format!("http://{}{path}", process.address)).json(&body);
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap();
        let start = Instant::now();
        let spans = loop {
            let spans: Vec<Span> = got.lock().unwrap().iter().flat_map(|(_, spans)| spans.clone()).collect();
            if spans.iter().any(|span| span.name.starts_with("POST")) {
                break spans;
            }
            assert!(start.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let request = spans.iter().find(|span| span.name.starts_with("POST")).unwrap();
        assert!(attribute(request, "http.response.status_code").contains("200"));
        for (stage, count) in [("tokenize", 1), ("queue", texts), ("run", texts)] {
            let stages: Vec<&Span> = spans.iter().filter(|span| span.name == stage).collect();
            assert_eq!(stages.len(), count, "{stage} of {path}");
            for span in stages {
                assert_eq!(span.parent_span_id, request.span_id, "{stage} of {path}");
                assert!(
                    span.end_time_unix_nano <= request.end_time_unix_nano + 5_000_000,
                    "{stage} of {path}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_no_request() {
    let folder = tempfile::tempdir().unwrap();
    tweets().write(&folder.path().join("tweets.safetensors")).unwrap();
    let mut command = command(folder.path());
    command.args(["--otlp-endpoint", "http://127.0.0.1:1"]).env("OTEL_BSP_SCHEDULE_DELAY", "50");
    let mut process = Process::start(command);
    process.ignore_log();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for _ in 0..50 {
        let url = format!("http://{}/tasks/tweets/predict", process.address);
        assert_eq!(client.post(url).body("{\"input\": \"x\"}").send().await.unwrap().status(), 200);
    }
    process.signal("-TERM");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
}
