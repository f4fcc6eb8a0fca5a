use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use xprompt::server::Limits;

use crate::prompts::{Server, Setup, eventually, tweets};
use crate::server_metrics::scrape;

async fn answer(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_string(&mut answer)).await;
    drop(read.expect("the connection is closed"));
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_bounds_in_bytes_and_in_headers() {
    let server = Server::start(&[], Setup::default()).await;
    let with =
        |headers: &str| format!("GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    assert!(answer(&server, &with(&"a: b\r\n".repeat(98))).await.starts_with("HTTP/1.1 200"));
    assert!(answer(&server, &with(&"a: b\r\n".repeat(99))).await.starts_with("HTTP/1.1 431"));
    let long = answer(&server, &with(&format!("a: {}\r\n", "b".repeat(70 << 10)))).await;
    assert!(long.starts_with("HTTP/1.1 431"), "{long}");
}

/// Requests are piled up by a client that reads no answer, until nothing more can be sent either way.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_no_answer_is_cut_off() {
    let limits = Limits { read_time: Duration::from_millis(500), ..Limits::default() };
    let server = Server::start(&[("tweets", tweets())], Setup { limits, ..Setup::default() }).await;
    let mut deaf = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap();
    let requests = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let start = Instant::now();
    // written to without end, so that the server is never the one that waits for a request
    while deaf.write_all(requests.as_bytes()).await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(60), "it is still connected");
    }
    let connections = async || scrape(&server).await.1.contains(&"xprompt_http_connections 1".to_owned());
    while !connections().await {
        assert!(start.elapsed() < Duration::from_secs(60), "its place is not free");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_has_a_small_body() {
    let server = Server::start(&[("tweets", tweets())], Setup::default()).await;
    let url = format!("{}/tasks/tweets/traffic", server.url);
    let body = format!("{{\"shadow\": \"{}\"}}", "a".repeat(64 << 10));
    let status = server.client.request(Method::PUT, url).body(body).send().await.unwrap().status();
    assert_eq!(status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_computes_no_more_is_not_ready() {
    let trials = Duration::from_millis(20);
    let server = Server::start(&[("tweets", tweets())], Setup { trials, ..Setup::default() }).await;
    let has = async |line: &str| scrape(&server).await.1.iter().any(|other| other == line);
    let mut batches = String::new();
    // trial passes are batches
    while batches.is_empty() || has(&batches).await {
        let count = |line: &String| line.starts_with("xprompt_batch_tasks_count ");
        batches = scrape(&server).await.1.into_iter().find(count).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.get("/health/ready").await.0, 200);
    assert!(has("xprompt_model_computes 1").await);
    server.service.engine().stop();
    eventually("the trial pass fails", || !server.service.engine().is_running()).await;
    let start = Instant::now();
    while server.get("/health/ready").await.0 == 200 {
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    let (status, problem) = server.get("/health/ready").await;
    assert_eq!((status, problem["code"].as_str()), (503, Some("not_ready")));
    assert!(problem["detail"].as_str().unwrap().contains("the model does not compute"), "{problem}");
    assert!(has("xprompt_model_computes 0").await);
}
