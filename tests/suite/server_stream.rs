use std::time::Duration;

use serde_json::{Value, json};
use xprompt::server::Limits;

use crate::prompts::{Server, Setup, eventually, story, tweets};

/// Server-sent events, by their names.
fn events(text: &str) -> Vec<(String, Value)> {
    text.split("\n\n")
        .filter(|event| !event.trim().is_empty())
        .map(|event| {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
            (field("event:").to_owned(), serde_json::from_str(field("data:")).unwrap())
        })
        .collect()
}

async fn open(server: &Server, body: Value) -> reqwest::Response {
    let url = format!("{}/tasks/story/predict", server.url);
    server.client.post(url).json(&body).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pieces_of_a_stream_are_the_text_and_its_last_event_is_the_whole_answer() {
    let server = Server::start(&[("story", story())], Setup::default()).await;
    for options in [json!({}), json!({"temperature": 1, "seed": 3}), json!({"num_beams": 3})] {
        let mut body = json!({"input": "once upon a time", "max_new_tokens": 12});
        body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let (_, whole) = server.predict("story", body.clone()).await;
        body["stream"] = true.into();
        let response = open(&server, body).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut events = events(&response.text().await.unwrap());
        let (name, answer) = events.pop().unwrap();
        assert_eq!((name.as_str(), &answer), ("answer", &whole));
        let pieces: String = events.iter().map(|(_, data)| data["text"].as_str().unwrap()).collect();
        assert_eq!(pieces, whole["predictions"][0]["text"].as_str().unwrap());
        assert!(events.iter().all(|(name, _)| name == "piece"));
        if options != json!({"num_beams": 3}) {
            assert!(events.len() > 3, "{events:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_piece_comes_before_the_text_is_finished() {
    let server = Server::start(&[("story", story())], Setup::default()).await;
    let drawn = json!({"input": "once", "stream": true, "temperature": 2, "seed": 1});
    let mut response = open(&server, drawn).await;
    let first = response.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: piece"), "{first:?}");
    assert_eq!(server.service.in_flight(), 1, "the call is in flight while it is streamed");
    let mut rest = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        rest.push(chunk);
    }
    assert!(rest.len() > 1, "the rest came in several parts");
    eventually("its place is free", || server.service.in_flight() == 0).await;
    let (_, lines) = crate::server_metrics::scrape(&server).await;
    let whole = "xprompt_http_requests_total{route=\"/tasks/{task}/predict\",status=\"200\"} 1";
    assert!(lines.contains(&whole.to_owned()), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_a_stream_ends_its_work() {
    let server = Server::start(&[("story", story())], Setup::default()).await;
    let drawn = json!({"input": "once", "stream": true, "temperature": 2, "seed": 1});
    let mut response = open(&server, drawn).await;
    response.chunk().await.unwrap().unwrap();
    drop(response);
    eventually("its place is free", || server.service.in_flight() == 0).await;
    let (_, lines) = loop {
        let scraped = crate::server_metrics::scrape(&server).await;
        if scraped.1.iter().any(|line| line == "xprompt_dropped_total{reason=\"client_left\"} 1") {
            break scraped;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let left = "xprompt_http_requests_total{route=\"/tasks/{task}/predict\",status=\"499\"} 1";
    assert!(lines.contains(&left.to_owned()), "{lines:#?}");
    let output = lines.iter().find(|line| line.starts_with("xprompt_tokens_total{kind=\"output\"}"));
    assert!(output.is_none_or(|line| line.ends_with(" 0")), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fails_before_its_first_piece_has_the_status_of_the_error() {
    let limits = Limits { request_time: Duration::ZERO, ..Limits::default() };
    let prompts = [("story", story()), ("tweets", tweets())];
    let server = Server::start(&prompts, Setup { limits, ..Setup::default() }).await;
    let response = open(&server, json!({"input": "once", "stream": true})).await;
    assert_eq!(response.status(), 504);
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["code"], "deadline");
}
