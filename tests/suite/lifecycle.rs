use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use xprompt::store::Choice;

use crate::prompts::{Server, Setup, TWEETS, golden, labels, prompt, story, tweets};

/// What a call got.
pub struct Got {
    pub status: u16,
    pub etag: Option<String>,
    pub body: Value,
}

/// A prompt like [`tweets`] that answers otherwise: its rows begin elsewhere.
pub fn version(first: usize) -> (Vec<u8>, String) {
    let file = prompt(first, 10, "sentiment of the tweet: {text}", labels(TWEETS));
    let bytes = file.to_bytes().unwrap();
    let name = xprompt::fingerprint::of_bytes(&bytes);
    (bytes, name)
}

pub async fn call(
    server: &Server,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Got {
    let mut request = server.client.request(method, format!("{}{path}", server.url)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let etag = response.headers().get("etag").map(|etag| etag.to_str().unwrap().to_owned());
    let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    Got { status, etag, body }
}

pub async fn put(server: &Server, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Got {
    call(server, Method::PUT, path, headers, body.to_vec()).await
}

pub async fn versions(server: &Server) -> Value {
    server.get("/tasks/t/versions").await.1
}

pub fn names(shown: &Value) -> Vec<&str> {
    shown["versions"].as_array().unwrap().iter().map(|one| one["version"].as_str().unwrap()).collect()
}

async fn answered_by(server: &Server, headers: &[(&str, &str)], body: Value) -> Got {
    call(server, Method::POST, "/tasks/t/predict", headers, body.to_string().into_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_uploaded_replaced_rolled_back_and_removed() {
    let server = Server::start(&[], Setup::default()).await;
    let ((one, v1), (two, v2)) = (version(100), version(300));
    let got = put(&server, "/tasks/t", &[], &one).await;
    assert_eq!((got.status, got.etag), (201, Some(format!("\"{v1}\""))));
    assert_eq!(got.body, json!({"task": "t", "version": v1, "active": v1, "previous": null}));
    assert_eq!(answered_by(&server, &[], json!({"input": "x"})).await.body["version"], v1, "at once");
    assert_eq!(put(&server, "/tasks/t", &[], &one).await.status, 200, "the same again changes nothing");

    let got = put(&server, "/tasks/t", &[], &two).await;
    assert_eq!((got.status, &got.body["previous"]), (200, &json!(v1)));
    assert_eq!(answered_by(&server, &[], json!({"input": "x"})).await.body["version"], v2);
    let shown = versions(&server).await;
    assert_eq!((names(&shown), &shown["active"]), (vec![v2.as_str(), &v1], &json!(v2)));
    assert_eq!(shown["versions"][0]["traffic_percent"], 100);

    let got = call(&server, Method::POST, "/tasks/t/rollback", &[], vec![]).await;
    assert_eq!((got.status, &got.body["version"]), (200, &json!(v1)));
    assert_eq!(
        std::fs::read(server.path("t")).unwrap(),
        one,
        "the active version is what the task's file holds"
    );
    let to_two = json!({"version": v2}).to_string().into_bytes();
    let got = call(&server, Method::POST, "/tasks/t/rollback", &[], to_two).await;
    assert_eq!((got.status, &got.body["active"], &got.body["previous"]), (200, &json!(v2), &json!(v1)));
    let unknown = json!({"version": "0000000000000000"}).to_string().into_bytes();
    let got = call(&server, Method::POST, "/tasks/t/rollback", &[], unknown).await;
    assert_eq!((got.status, &got.body["code"]), (404, &json!("unknown_version")));

    assert_eq!(call(&server, Method::DELETE, "/tasks/t", &[], vec![]).await.status, 204);
    assert_eq!(answered_by(&server, &[], json!({"input": "x"})).await.status, 404);
    for (method, path) in [
        (Method::DELETE, "/tasks/t"),
        (Method::POST, "/tasks/t/rollback"),
        (Method::GET, "/tasks/t/versions"),
        (Method::PUT, "/tasks/t/pin"),
    ] {
        let got = call(&server, method.clone(), path, &[], vec![]).await;
        assert_eq!((got.status, &got.body["code"]), (404, &json!("unknown_task")), "{method} {path}");
    }
    let left = walk(server.folder.path()).into_iter().filter(|path| !path.ends_with("lock")).count();
    assert_eq!(left, 0, "nothing of a removed task is left: {:?}", walk(server.folder.path()));
}

/// All files below a folder.
pub fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_happens_only_if_its_precondition_holds() {
    let server = Server::start(&[], Setup::default()).await;
    let ((one, v1), (two, v2), (three, _)) = (version(100), version(300), version(500));
    let tag = |version: &str| format!("\"{version}\"");
    let (if_match, if_none) = ("if-match", "if-none-match");
    let got = put(&server, "/tasks/t", &[(if_match, "*")], &one).await;
    assert_eq!((got.status, &got.body["code"]), (412, &json!("precondition_failed")));
    assert_eq!(put(&server, "/tasks/t", &[(if_none, "*")], &one).await.status, 201);
    assert_eq!(put(&server, "/tasks/t", &[(if_none, "*")], &two).await.status, 412);
    assert_eq!(put(&server, "/tasks/t", &[(if_match, &tag(&v2))], &two).await.status, 412);
    assert_eq!(put(&server, "/tasks/t", &[(if_match, &tag(&v1))], &two).await.status, 200);
    let got = call(&server, Method::DELETE, "/tasks/t", &[(if_match, &tag(&v1))], vec![]).await;
    assert_eq!(got.status, 412);
    assert!(got.body["detail"].as_str().unwrap().contains(&v2), "{}", got.body);
    assert_eq!(put(&server, "/tasks/t", &[(if_match, "v1")], &three).await.status, 400);

    // of many that saw the same version, one wins
    let server = Arc::new(server);
    let racers = (0..8).map(|i| {
        let (server, seen) = (Arc::clone(&server), tag(&v2));
        tokio::spawn(async move {
            put(&server, "/tasks/t", &[(if_match, &seen)], &version(600 + 20 * i).0).await.status
        })
    });
    let mut statuses = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        statuses.push(racer.await.unwrap());
    }
    let won = statuses.iter().filter(|&&status| status == 200).count();
    assert_eq!(won, 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 412, 429].contains(status)), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_upload_changes_nothing_and_says_why() {
    let server = Server::start(&[("t", tweets())], Setup::default()).await;
    let active = server.version("t").unwrap();
    let good = version(300).0;
    let mut off = prompt(300, 10, "sentiment of the tweet: {text}", labels(TWEETS));
    off.manifest.golden = vec![golden("x", &[0.9, 0.05, 0.05])];
    let mut alien = tweets();
    alien.manifest.base_model.fingerprint = "0000000000000000".into();
    for (body, words) in [
        (b"no prompt".to_vec(), "safetensors"),
        (good[..good.len() / 2].to_vec(), "safetensors"),
        (off.to_bytes().unwrap(), "golden example 0"),
        (alien.to_bytes().unwrap(), "made for base model"),
    ] {
        for path in ["/tasks/t", "/tasks/t?activate=false", "/tasks/new"] {
            if path == "/tasks/new" && words == "safetensors" {
                continue;
            }
            let got = put(&server, path, &[], &body).await;
            assert_eq!((got.status, &got.body["code"]), (422, &json!("bad_prompt")), "{path}");
            assert!(got.body["detail"].as_str().unwrap().contains(words), "{}", got.body);
        }
    }
    let got = put(&server, "/tasks/t", &[], &vec![0; (16 << 20) + 1]).await;
    assert_eq!((got.status, &got.body["code"]), (413, &json!("body_too_large")));
    assert_eq!(put(&server, "/tasks/-no", &[], &good).await.body["code"], "bad_request");
    assert_eq!(put(&server, "/tasks/t?now", &[], &good).await.body["code"], "bad_request");
    assert_eq!(put(&server, "/tasks/gone?activate=false", &[], &good).await.body["code"], "unknown_task");
    assert_eq!((server.version("t"), server.failure("t")), (Some(active), None));
    assert_eq!(server.get("/tasks").await.1["tasks"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_are_bounded_and_a_request_keeps_the_one_it_has() {
    let server = Server::start(&[], Setup { keep_versions: 2, ..Setup::default() }).await;
    let all: Vec<(Vec<u8>, String)> = (0..6).map(|i| version(100 + 20 * i)).collect();
    put(&server, "/tasks/t", &[], &all[0].0).await;
    let leased = server.store.lease("t", Choice::default()).await.unwrap();
    let weak = Arc::downgrade(&leased);
    for (bytes, _) in &all[1..] {
        assert_eq!(put(&server, "/tasks/t", &[], bytes).await.status, 200);
    }
    let expected: Vec<&str> = [5, 4, 3].iter().map(|&i: &usize| all[i].1.as_str()).collect();
    assert_eq!(names(&versions(&server).await), expected);
    let kept = walk(&server.folder.path().join(".xprompt/versions")).len();
    assert_eq!(kept, 3, "files of versions that are not kept go");
    assert_eq!(leased.version(), all[0].1, "a request in flight keeps what it began with");
    assert!(weak.upgrade().is_some());
    drop(leased);
    assert!(weak.upgrade().is_none(), "and with the last request its memory is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_in_memory_within_a_number_of_bytes_the_ones_used_last_and_pinned_ones() {
    const TASKS: usize = 30;
    let names: Vec<String> = (0..TASKS).map(|i| format!("t{i}")).collect();
    let prompts: Vec<(&str, _)> = names.iter().map(|name| (name.as_str(), tweets())).collect();
    let rows = 8 * crate::prompts::lab().base.d_model * size_of::<f32>();
    let setup = Setup { max_resident_bytes: 5 * rows + 1, ..Setup::default() };
    let mut server = Server::start(&prompts, setup).await;
    assert_eq!((server.store.resident().count, server.store.resident().bytes), (5, 5 * rows));
    assert_eq!(put(&server, "/tasks/t0/pin", &[], b"").await.status, 204);
    for round in 0..2 {
        for name in &names {
            assert_eq!(server.predict(name, json!({"input": "x"})).await.0, 200);
            assert!(server.store.resident().bytes <= 5 * rows);
        }
        assert_eq!(server.store.resident().pinned_bytes, rows);
        let in_memory = |name: &str| {
            let served = server.store.task(name).unwrap().served.unwrap();
            server.store.is_resident(&served)
        };
        let there: Vec<&String> = names.iter().filter(|name| in_memory(name)).collect();
        assert_eq!(there, ["t0", "t26", "t27", "t28", "t29"], "the pinned one and the last");
        if round == 0 {
            let (_, metrics) = crate::server_metrics::scrape(&server).await;
            let has =
                |line: &str| assert!(metrics.iter().any(|other| other == line), "{line} in {metrics:#?}");
            has("xprompt_prompts_resident 5");
            has(&format!("xprompt_prompt_bytes {}", 5 * rows));
            // 25 while loading, one for the pinned, 28 or 29 on use
            let evicted =
                metrics.iter().find_map(|line| line.strip_prefix("xprompt_prompt_evictions_total "));
            assert!(evicted.unwrap().parse::<usize>().unwrap() >= 50, "{evicted:?}");
            server = server.restarted().await;
            assert_eq!(server.store.resident().pinned_bytes, rows, "a pin survives a new start");
        }
    }
    assert_eq!(call(&server, Method::DELETE, "/tasks/t0/pin", &[], vec![]).await.status, 204);
    assert_eq!(server.store.resident().pinned_bytes, 0);

    // many requests for rows that are not in memory read them once
    let fetched = async || {
        let (_, metrics) = crate::server_metrics::scrape(&server).await;
        let line =
            metrics.iter().find_map(|line| line.strip_prefix("xprompt_prompt_fetch_duration_seconds_count "));
        line.unwrap().parse::<usize>().unwrap()
    };
    let before = fetched().await;
    let leases: Vec<_> = (0..50)
        .map(|_| Arc::clone(&server.store))
        .map(|store| tokio::spawn(async move { store.lease("t7", Choice::default()).await.unwrap() }))
        .collect();
    let mut leased = Vec::new();
    for lease in leases {
        leased.push(lease.await.unwrap());
    }
    assert!(leased.iter().all(|one| Arc::ptr_eq(one, &leased[0])));
    assert_eq!(fetched().await, before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_is_shared_by_weight_and_survives_a_new_start() {
    let server = Server::start(&[("t", tweets())], Setup::default()).await;
    let (v1, (two, v2)) = (server.version("t").unwrap(), version(300));
    let got = put(&server, "/tasks/t?activate=false", &[], &two).await;
    assert_eq!((got.status, &got.body["active"], &got.body["version"]), (200, &json!(v1), &json!(v2)));
    let pinned = json!({"input": "x", "version": v2});
    assert_eq!(answered_by(&server, &[], pinned.clone()).await.body["code"], "version_conflict");
    let share = async |server: &Server, body: Value| {
        put(server, "/tasks/t/traffic", &[], body.to_string().as_bytes()).await
    };
    for (body, code) in [
        (json!({"versions": {"00": 1}}), "unknown_version"),
        (json!({"versions": {&v1: 1}}), "bad_request"),
        (json!({"versions": {&v2: 101}}), "bad_request"),
        (json!({"shadow": v1}), "bad_request"),
        (json!({"versions": {&v2: -1}}), "bad_request"),
    ] {
        assert_eq!(share(&server, body.clone()).await.body["code"], code, "{body}");
    }
    let got = share(&server, json!({"versions": {&v2: 0}})).await;
    assert_eq!(got.status, 200, "{}", got.body);
    assert_eq!(
        answered_by(&server, &[], pinned).await.body["version"],
        v2,
        "a share of 0 is for who asks for it"
    );

    let got = share(&server, json!({"versions": {&v2: 30}})).await;
    assert_eq!(got.body["versions"][0]["traffic_percent"], 70);
    let by_key = async |server: &Server, key: usize| {
        let got =
            answered_by(server, &[("x-route-key", &format!("user {key}"))], json!({"input": "x"})).await;
        assert_eq!(got.status, 200, "{}", got.body);
        got.body["version"] == *v2
    };
    let mut first = Vec::new();
    for key in 0..200 {
        first.push(by_key(&server, key).await);
    }
    let share_of_two = first.iter().filter(|&&two| two).count();
    assert!((35..=85).contains(&share_of_two), "{share_of_two} of 200 at 30 percent");
    let mut random = 0;
    for _ in 0..200 {
        random += usize::from(answered_by(&server, &[], json!({"input": "x"})).await.body["version"] == *v2);
    }
    assert!((25..=100).contains(&random), "{random} of 200 at 30 percent");

    let server = server.restarted().await;
    share(&server, json!({"versions": {&v2: 60}})).await;
    for (key, had_two) in first.iter().enumerate().filter(|(_, had_two)| **had_two) {
        assert_eq!(by_key(&server, key).await, *had_two, "a share that grows keeps whom it has");
    }
    // the canary is promoted
    let to_two = json!({"version": v2}).to_string().into_bytes();
    assert_eq!(call(&server, Method::POST, "/tasks/t/rollback", &[], to_two).await.status, 200);
    let shown = versions(&server).await;
    assert_eq!((&shown["active"], &shown["versions"][0]["traffic_percent"]), (&json!(v2), &json!(100)));
    assert!(by_key(&server.restarted().await, 0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_is_compared_and_never_answers() {
    let server = Server::start(&[("t", tweets())], Setup::default()).await;
    let v1 = server.version("t").unwrap();
    // the same prompt with other words around it: another version, mostly the same answers
    let twin = {
        let mut twin = tweets();
        twin.manifest.seed = 8;
        twin.to_bytes().unwrap()
    };
    let turned = [("negative", "positive"), ("neutral", "neutral"), ("positive", "negative")];
    let turned = prompt(100, 10, "sentiment of the tweet: {text}", labels(&turned)).to_bytes().unwrap();
    for (file, agrees) in [(twin, true), (turned, false)] {
        let shadow = xprompt::fingerprint::of_bytes(&file);
        assert_eq!(put(&server, "/tasks/t?activate=false", &[], &file).await.status, 200);
        let body = json!({"shadow": shadow}).to_string();
        assert_eq!(put(&server, "/tasks/t/traffic", &[], body.as_bytes()).await.status, 200);
        let before = versions(&server).await["comparisons"].clone();
        let inputs = json!({"inputs": ["what a lovely morning", "worst service ever", 7]});
        let got = answered_by(&server, &[], inputs).await;
        assert_eq!((got.status, &got.body["version"]), (200, &json!(v1)));
        let count = |shown: &Value, outcome: &str| shown[outcome].as_u64().unwrap();
        loop {
            let now = versions(&server).await["comparisons"].clone();
            let more = |outcome: &str| count(&now, outcome) - count(&before, outcome);
            assert_eq!(more("failed") + more("skipped"), 0, "{now}");
            if more("agreed") + more("differed") == 2 {
                // an input that is no text is not compared
                assert_eq!(more("agreed"), if agrees { 2 } else { 0 }, "{now}");
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    let (_, metrics) = crate::server_metrics::scrape(&server).await;
    let agreed = "xprompt_shadow_comparisons_total{outcome=\"agreed\",task=\"t\"} 2";
    assert!(metrics.contains(&agreed.to_owned()), "{metrics:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_compared_however_they_are_asked_for() {
    let server = Server::start(&[("t", story())], Setup::default()).await;
    let mut twin = story();
    twin.manifest.seed = 8;
    // it allows less than the version that answers
    twin.manifest.task.output = xprompt::prompt::OutputSpec::Text { max_new_tokens: 100 };
    let other = prompt(40, 9, "{text}", xprompt::prompt::OutputSpec::Text { max_new_tokens: 200 });
    let mut counts = (0, 0);
    for (file, agrees) in [(twin, true), (other, false)] {
        let file = file.to_bytes().unwrap();
        let shadow = xprompt::fingerprint::of_bytes(&file);
        assert_eq!(put(&server, "/tasks/t?activate=false", &[], &file).await.status, 200);
        let body = json!({"shadow": shadow}).to_string();
        assert_eq!(put(&server, "/tasks/t/traffic", &[], body.as_bytes()).await.status, 200);
        let input = "once upon a time there was";
        for (path, body, texts) in [
            ("/tasks/t/predict", json!({"input": input, "max_new_tokens": 9, "stream": true}), 1),
            ("/v1/completions", json!({"model": "t", "prompt": [input, "x"], "max_tokens": 9}), 2),
            (
                "/v1/completions",
                json!({"model": "t", "prompt": input, "max_tokens": 9, "stream": true, "stop": " "}),
                1,
            ),
            (
                "/v1/completions",
                json!({"model": "t", "prompt": input, "max_tokens": 9, "n": 3, "temperature": 1.0}),
                3,
            ),
        ] {
            let answer =
                server.client.post(format!("{}{path}", server.url)).json(&body).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.text().await.unwrap();
            let start = std::time::Instant::now();
            let now = loop {
                let shown = versions(&server).await["comparisons"].clone();
                let count = |outcome: &str| shown[outcome].as_u64().unwrap();
                assert_eq!(count("failed") + count("skipped"), 0, "{body}: {shown}");
                if count("agreed") + count("differed") == counts.0 + counts.1 + texts {
                    break (count("agreed"), count("differed"));
                }
                assert!(start.elapsed() < std::time::Duration::from_secs(60), "{body}: {shown}");
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            };
            if agrees {
                assert_eq!(now.0 - counts.0, texts, "{body}");
            }
            counts = now;
        }
    }
    assert!(counts.1 > 3, "another prompt says something else: {counts:?}");
}
