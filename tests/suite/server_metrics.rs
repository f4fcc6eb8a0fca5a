use serde_json::json;

use crate::prompts::{Server, Setup, free_text, tweets};

/// The metrics that dashboards are built on.
const NAMES: &[&str] = &[
    "xprompt_batch_duration_seconds",
    "xprompt_batch_requests",
    "xprompt_batch_tasks",
    "xprompt_batch_tokens_total",
    "xprompt_build_info",
    "xprompt_dropped_total",
    "xprompt_failed_inputs_total",
    "xprompt_http_connections",
    "xprompt_http_request_duration_seconds",
    "xprompt_http_requests_in_flight",
    "xprompt_http_requests_total",
    "xprompt_limit",
    "xprompt_model_computes",
    "xprompt_predictions_total",
    "xprompt_prompt_bytes",
    "xprompt_prompt_evictions_total",
    "xprompt_prompt_fetch_duration_seconds",
    "xprompt_prompt_fetch_failures_total",
    "xprompt_prompt_load_duration_seconds",
    "xprompt_prompt_pinned_bytes",
    "xprompt_prompt_rejections_total",
    "xprompt_prompt_removals_total",
    "xprompt_prompt_scan_failures_total",
    "xprompt_prompts",
    "xprompt_prompts_resident",
    "xprompt_queue_depth",
    "xprompt_refused_requests_total",
    "xprompt_reloads_total",
    "xprompt_stage_duration_seconds",
    "xprompt_store_reachable",
    "xprompt_tls_handshake_failures_total",
    "xprompt_tokens_total",
];

/// The content type and lines of the metrics.
pub async fn scrape(server: &Server) -> (String, Vec<String>) {
    let response = server.client.get(format!("{}/metrics", server.url)).send().await.unwrap();
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    let text = response.text().await.unwrap();
    (content_type, text.lines().map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_parse_and_have_the_names_that_dashboards_rely_on() {
    let engine = xprompt::engine::Options { max_queue: 4, ..Default::default() };
    let server =
        Server::start(&[("tweets", tweets()), ("say", free_text())], Setup { engine, ..Setup::default() })
            .await;
    server.predict("tweets", json!({"inputs": ["one", 2]})).await;
    server.predict("say", json!({"input": "three"})).await;
    server.predict("tweets", json!({"inputs": vec!["many"; 100]})).await;
    server.get("/no/such/route").await;
    let (content_type, lines) = scrape(&server).await;
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    let mut names = Vec::new();
    for line in &lines {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.ends_with('.') && help.chars().next().unwrap().is_uppercase(), "{help}");
            names.push(name);
        } else if !line.starts_with("# TYPE ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(names.iter().any(|name| series.starts_with(name)), "{line}");
        }
    }
    assert_eq!(names, NAMES);
    let has = |line: &str| assert!(lines.iter().any(|other| other == line), "{line} in {lines:#?}");
    has("xprompt_http_requests_total{route=\"/tasks/{task}/predict\",status=\"200\"} 2");
    has("xprompt_http_requests_total{route=\"/tasks/{task}/predict\",status=\"429\"} 1");
    has("xprompt_http_requests_total{route=\"unmatched\",status=\"404\"} 1");
    has("xprompt_predictions_total{label=\"text\",task=\"say\"} 1");
    has("xprompt_failed_inputs_total 1");
    has("xprompt_prompts{state=\"ready\"} 2");
    has("xprompt_dropped_total{reason=\"overloaded\"} 1");
}
