use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::prompts::{Server, Setup, free_text, topics, tweets};
use crate::server_metrics::scrape;
use crate::support::root;

/// Labels that Prometheus adds to what it scrapes.
const ADDED: [&str; 2] = ["job", "instance"];

/// What a server exports: names as a query has them, and their labels.
type Exported = BTreeMap<String, BTreeSet<String>>;

/// What a server exports that all metrics have series on.
pub async fn lines_of_every_metric() -> Vec<String> {
    let prompts = [("tweets", tweets()), ("say", free_text())];
    let server = Server::start(&prompts, Setup::default()).await;
    // what has series only when it happens
    let second = topics().to_bytes().unwrap();
    let url = format!("{}/tasks/tweets?activate=false", server.url);
    let answer: Value = server.client.put(url).body(second).send().await.unwrap().json().await.unwrap();
    let shadow = json!({"shadow": answer["version"]});
    let url = format!("{}/tasks/tweets/traffic", server.url);
    assert_eq!(server.client.put(url).json(&shadow).send().await.unwrap().status(), 200);
    server.predict("say", json!({"input": "x"})).await;
    let compared = async || {
        server.predict("tweets", json!({"input": "x"})).await;
        scrape(&server).await.1.iter().any(|line| line.starts_with("xprompt_shadow_comparisons_total{"))
    };
    while !compared().await {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    scrape(&server).await.1
}

async fn exported() -> Exported {
    let mut exported = Exported::new();
    for line in lines_of_every_metric().await.iter().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels =
            labels.split("\",").filter_map(|pair| pair.split_once("=\"")).map(|(label, _)| label.to_owned());
        exported.entry(name.to_owned()).or_default().extend(labels);
    }
    exported
}

/// Names and labels in braces or groupings of a query, checked one by one.
fn check(query: &str, exported: &Exported) -> usize {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut metrics = Vec::new();
    for (at, _) in query.match_indices("xprompt_") {
        let rest = &query[at..];
        let name = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
        let labels = exported.get(name).unwrap_or_else(|| panic!("no metric {name}, in {query}"));
        metrics.push(labels);
        let Some(selector) = rest[name.len()..].strip_prefix('{') else { continue };
        let mut inside = selector;
        // values are in quotes and may have braces and commas
        while !inside.starts_with('}') {
            let end = inside.find(|c| !is_name(c)).unwrap();
            let label = &inside[..end];
            assert!(
                labels.contains(label) || ADDED.contains(&label),
                "{name} has no label {label}, in {query}"
            );
            let value = inside[end..].trim_start_matches(['=', '~', '!']).strip_prefix('"').unwrap();
            let closed = value.find('"').unwrap();
            inside = value[closed + 1..].trim_start_matches([',', ' ']);
        }
    }
    for (at, _) in query.match_indices(" by (") {
        let inside = &query[at + 5..];
        for label in inside[..inside.find(')').unwrap()].split(',').map(str::trim) {
            let has = metrics.iter().any(|labels| labels.contains(label));
            assert!(has || ADDED.contains(&label), "nothing has a label {label}, in {query}");
        }
    }
    assert!(!metrics.is_empty() && query.matches('(').count() == query.matches(')').count(), "{query}");
    metrics.len()
}

fn strings<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get(key).and_then(Value::as_str));
            members.values().for_each(|member| strings(member, key, found));
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, key, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_and_alerts_use_only_metrics_and_labels_that_are_exported() {
    let exported = exported().await;
    let dashboard = std::fs::read_to_string(root().join("docker/grafana/xprompt.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let mut queries = Vec::new();
    strings(&dashboard["panels"], "expr", &mut queries);
    strings(&dashboard["templating"], "query", &mut queries);
    queries.retain(|query| *query != "prometheus");
    let used: usize =
        queries.iter().map(|query| check(&query.replace("label_values(", "("), &exported)).sum();
    assert!(queries.len() > 40 && used >= queries.len(), "{} queries", queries.len());
    let ids: Vec<&Value> = dashboard["panels"].as_array().unwrap().iter().map(|panel| &panel["id"]).collect();
    assert_eq!(ids.len(), ids.iter().map(|id| id.as_u64()).collect::<BTreeSet<_>>().len());

    let rules = std::fs::read_to_string(root().join("docker/prometheus/alerts.yml")).unwrap();
    let rules: Value = serde_saphyr::from_str(&rules).unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    let guide = std::fs::read_to_string(root().join("docs/operation.md")).unwrap();
    for rule in rules {
        let keys: Vec<&String> = rule.as_object().unwrap().keys().collect();
        assert!(
            keys.iter().all(|key| ["alert", "expr", "for", "labels", "annotations"].contains(&key.as_str()))
        );
        check(rule["expr"].as_str().unwrap(), &exported);
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{rule}");
        let alert = rule["alert"].as_str().unwrap();
        assert!(
            rule["annotations"]["summary"].is_string() && rule["annotations"]["remedy"].is_string(),
            "{alert}"
        );
        assert!(guide.contains(&format!("`{alert}`")), "docs/operation.md says what to do about {alert}");
    }
    assert!(rules.len() > 10);
}

#[test]
fn the_other_files_beside_the_server_are_well_formed() {
    for file in
        ["compose.yaml", "prometheus/prometheus.yml", "grafana/datasource.yml", "grafana/dashboards.yml"]
    {
        let text = std::fs::read_to_string(root().join("docker").join(file)).unwrap();
        let document: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(document.is_object(), "{file}");
    }
    let compose = std::fs::read_to_string(root().join("docker/compose.yaml")).unwrap();
    let compose: Value = serde_saphyr::from_str(&compose).unwrap();
    for service in ["prometheus", "grafana"] {
        for volume in compose["services"][service]["volumes"].as_array().unwrap() {
            let path = volume.as_str().unwrap().split(':').next().unwrap();
            assert!(root().join("docker").join(path).exists(), "{path}");
        }
    }
}
