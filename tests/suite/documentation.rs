use reqwest::Method;

use crate::prompts::{Server, Setup, calibrated, story, topics, tweets};
use crate::support::root;

/// A request that a page shows, with the status that it says.
struct Shown<'a> {
    status: u16,
    method: &'a str,
    path: &'a str,
    body: String,
}

fn shown(page: &str) -> Vec<Shown<'_>> {
    let blocks = page.split("```http ").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|block| {
            let mut lines = block.lines();
            let status = lines.next().unwrap().trim().parse().unwrap();
            let (method, path) = lines.next().unwrap().split_once(' ').unwrap();
            Shown { status, method, path, body: lines.collect::<Vec<_>>().join("\n") }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_in_docs_api_get_what_the_page_says() {
    let prompts = [("tweets", tweets()), ("topics", topics()), ("mood", calibrated()), ("story", story())];
    let server = Server::start(&prompts, Setup::default()).await;
    let page = std::fs::read_to_string(root().join("docs/api.md")).unwrap();
    let requests = shown(&page);
    assert!(requests.len() >= 10, "{} requests", requests.len());
    for Shown { status, method, path, body } in requests {
        let url = format!("{}{path}", server.url);
        let request = server.client.request(Method::from_bytes(method.as_bytes()).unwrap(), url);
        let response =
            request.header("content-type", "application/json").body(body.clone()).send().await.unwrap();
        let got = response.status().as_u16();
        assert_eq!(got, status, "{method} {path} {body}: {}", response.text().await.unwrap());
    }
}
