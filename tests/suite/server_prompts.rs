use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use xprompt::prompt::{Golden, PromptFile};

use crate::prompts::{Server, Setup, TWEETS, eventually, free_text, golden, labels, prompt, tweets};

/// The prompt of [`tweets`] with the words of its labels turned around: every answer differs clearly.
fn turned() -> PromptFile {
    let turned = [("negative", "positive"), ("neutral", "neutral"), ("positive", "negative")];
    prompt(100, 10, "sentiment of the tweet: {text}", labels(&turned))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_served_replaced_and_removed_as_its_file_is() {
    let server = Server::start(&[], Setup::default()).await;
    assert_eq!(server.predict("tweets", json!({"input": "x"})).await.0, 404);

    let first = server.write("tweets", &tweets());
    eventually("the new file is served", || server.version("tweets").as_ref() == Some(&first)).await;
    let (_, answer) = server.predict("tweets", json!({"input": "x", "version": first})).await;
    assert_eq!(answer["version"], *first);

    let second = server.write("tweets", &turned());
    assert_ne!(first, second);
    eventually("the replaced file is served", || server.version("tweets").as_ref() == Some(&second)).await;
    let (status, answer) = server.predict("tweets", json!({"input": "x", "version": first})).await;
    assert_eq!(status, 409);
    assert!(answer["detail"].as_str().unwrap().contains(&second), "{answer}");

    std::fs::remove_file(server.path("tweets")).unwrap();
    eventually("the removed file is not", || server.version("tweets").is_none()).await;
    assert_eq!(server.predict("tweets", json!({"input": "x"})).await.0, 404);
    assert_eq!(server.get("/tasks").await.1["tasks"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_changes_nothing_and_its_reason_is_told() {
    let server = Server::start(&[("tweets", tweets())], Setup::default()).await;
    let version = server.version("tweets").unwrap();
    let good = std::fs::read(server.path("tweets")).unwrap();
    // what a plain copy looks like halfway; moved there, so that the server does not see a still shorter part before
    let half = server.folder.path().join(".half");
    std::fs::write(&half, &good[..good.len() / 2]).unwrap();
    std::fs::rename(&half, server.path("tweets")).unwrap();
    eventually("the torn file is rejected", || server.failure("tweets").is_some()).await;
    let (status, answer) = server.predict("tweets", json!({"input": "x"})).await;
    assert_eq!((status, answer["version"].as_str()), (200, Some(version.as_str())));
    let (_, task) = server.get("/tasks/tweets").await;
    assert_eq!((task["state"].as_str(), task["version"].as_str()), (Some("ready"), Some(version.as_str())));
    let error = &task["load_error"];
    assert!(error["reason"].as_str().unwrap().contains("not a whole safetensors file"), "{error}");
    assert!(error["at"].as_str().unwrap().ends_with('Z'), "{error}");
    let (_, metrics) = crate::server_metrics::scrape(&server).await;
    assert!(metrics.contains(&"xprompt_prompt_rejections_total 1".to_owned()), "{metrics:#?}");

    std::fs::write(server.path("tweets"), &good).unwrap();
    eventually("the whole file is taken again", || server.failure("tweets").is_none()).await;
    assert_eq!(server.version("tweets").unwrap(), version);
    assert_eq!(server.get("/tasks/tweets").await.1.get("load_error"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_only_file_is_bad_is_listed_as_failed() {
    let mut other_model = tweets();
    other_model.manifest.base_model.fingerprint = "0000000000000000".into();
    let server = Server::start(&[("tweets", tweets()), ("alien", other_model)], Setup::default()).await;
    std::fs::write(server.folder.path().join("no name.safetensors"), "x").unwrap();
    eventually("the odd name is noticed", || server.store.catalog().refused().len() == 1).await;
    let (_, listed) = server.get("/tasks").await;
    assert_eq!(listed["tasks"][0]["task"], "alien");
    assert_eq!(listed["tasks"][0]["state"], "failed");
    assert!(listed["tasks"][0]["load_error"]["reason"].as_str().unwrap().contains("t5-nano"), "{listed}");
    assert_eq!(listed["refused_files"][0]["file"], "no name.safetensors");
    let tweets = &listed["tasks"][1];
    assert_eq!(tweets["state"], "ready");
    assert_eq!(tweets["labels"][2], json!({"name": "positive", "words": "positive"}));
    assert_eq!(tweets["fields"], json!(["text"]));
    assert_eq!(tweets["prompt"]["tokens"], json!({"kept": 8, "of": 10}));
    assert_eq!(tweets["metrics"]["dev"]["accuracy"], 0.75);
    let (_, shown) = server.get("/tasks/tweets").await;
    assert_eq!(shown["history"][0]["name"], "rewound");
    assert_eq!(shown["base_model"]["name"], "t5-nano");
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_examples_are_replayed_before_a_version_is_served() {
    let server = Server::start(&[("tweets", tweets()), ("say", free_text())], Setup::default()).await;
    let text = "what a lovely morning";
    let (_, answer) = server.predict("tweets", json!({"input": text})).await;
    let scores: Vec<f32> = TWEETS
        .iter()
        .map(|(name, _)| answer["predictions"][0]["scores"][name].as_f64().unwrap() as f32)
        .collect();
    let (_, answer) = server.predict("say", json!({"input": text})).await;
    let said = answer["predictions"][0]["text"].as_str().unwrap();
    let says = |said: &str| Golden { input: text.into(), scores: vec![], text: Some(said.into()) };

    let mut good = tweets();
    good.manifest.golden = vec![golden(text, &scores); 3];
    let good = server.write("good", &good);
    let mut good_text = free_text();
    good_text.manifest.golden = vec![says(said)];
    let good_text = server.write("good-text", &good_text);
    let mut off = tweets();
    let wrong = [scores[0] + 0.002, scores[1] - 0.002, scores[2]];
    off.manifest.golden = vec![golden(text, &scores), golden(text, &wrong)];
    server.write("off", &off);
    let mut unfit = tweets();
    unfit.manifest.golden = vec![golden(json!({"tweet": text}), &scores)];
    server.write("unfit", &unfit);
    let mut off_text = free_text();
    off_text.manifest.golden = vec![says("something else")];
    server.write("off-text", &off_text);

    eventually("good is served", || server.version("good").as_ref() == Some(&good)).await;
    eventually("good-text is served", || server.version("good-text").as_ref() == Some(&good_text)).await;
    for (task, words) in [
        ("off", "golden example 1: label \"negative\" gets"),
        ("unfit", "golden example 0: the input has a field \"tweet\""),
        ("off-text", "was \"something else\" in training"),
    ] {
        eventually(task, || server.failure(task).is_some()).await;
        let reason = server.failure(task).unwrap();
        assert!(reason.contains(words), "{reason}");
        assert_eq!(server.version(task), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_folder_leaves_what_is_served() {
    let server = Server::start(&[("tweets", tweets())], Setup::default()).await;
    let away = server.folder.path().with_extension("away");
    std::fs::rename(server.folder.path(), &away).unwrap();
    let failed = async || {
        let (_, metrics) = crate::server_metrics::scrape(&server).await;
        !metrics.contains(&"xprompt_prompt_scan_failures_total 0".to_owned())
    };
    let noticed = async { while !failed().await {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), noticed).await.expect("the loss is noticed");
    assert_eq!(server.predict("tweets", json!({"input": "x"})).await.0, 200);
    std::fs::rename(&away, server.folder.path()).unwrap();
    let version = server.write("tweets", &turned());
    eventually("the folder is watched again", || server.version("tweets").as_ref() == Some(&version)).await;
}

/// Every answer has to be the one of the version that it names: the two versions' answers are known, and differ.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_swaps_under_load_fail_no_request_and_mix_no_answer() {
    const SWAPS: usize = 1000;
    const INPUTS: [&str; 2] = ["what a lovely morning", "worst service ever, never again"];
    let poll = std::time::Duration::from_millis(1);
    let server = Arc::new(Server::start(&[("tweets", tweets())], Setup { poll, ..Setup::default() }).await);
    let files = [tweets(), turned()];
    let mut known: Vec<(String, Value)> = Vec::new();
    for file in &files {
        let version = server.write("tweets", file);
        eventually("the version is served", || server.version("tweets").as_ref() == Some(&version)).await;
        known.push((version, server.predict("tweets", json!({"inputs": INPUTS})).await.1));
    }
    let score =
        |answer: &Value, i: usize, label: &str| answer["predictions"][i]["scores"][label].as_f64().unwrap();
    for i in 0..INPUTS.len() {
        let apart = score(&known[0].1, i, "positive") - score(&known[1].1, i, "positive");
        assert!(apart.abs() > 0.01, "the versions can be told apart by their answers: {apart}");
    }

    let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let known = Arc::new(known);
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (server, known) = (Arc::clone(&server), Arc::clone(&known));
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            tokio::spawn(async move {
                let mut of_version = [0, 0];
                while !stop.load(Ordering::Relaxed) {
                    let (status, answer) = server.predict("tweets", json!({"inputs": INPUTS})).await;
                    assert_eq!(status, 200, "{answer}");
                    let which = known.iter().position(|(version, _)| answer["version"] == **version);
                    let which = which.expect("a version that was served");
                    for i in 0..INPUTS.len() {
                        for (label, _) in TWEETS {
                            let apart = score(&answer, i, label) - score(&known[which].1, i, label);
                            assert!(apart.abs() < 1e-4, "an answer of another version: {answer}");
                        }
                    }
                    of_version[which] += 1;
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                of_version
            })
        })
        .collect();

    let start = Instant::now();
    // files as a user's `mv` puts them in place; made before, so that only the swap is timed
    let bytes: Vec<Vec<u8>> = files.iter().map(|file| file.to_bytes().unwrap()).collect();
    for swap in 0..SWAPS {
        let (version, made) = (&known[swap % 2].0, server.folder.path().join(".made"));
        std::fs::write(&made, &bytes[swap % 2]).unwrap();
        std::fs::rename(&made, server.path("tweets")).unwrap();
        eventually("the swap", || server.version("tweets").as_ref() == Some(version)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut of_version = [0, 0];
    for client in clients {
        let counts = client.await.unwrap();
        of_version = [of_version[0] + counts[0], of_version[1] + counts[1]];
    }
    let answers = answers.load(Ordering::Relaxed);
    println!("{SWAPS} swaps in {:.1?}, {answers} answers, {of_version:?} by version", start.elapsed());
    assert!(of_version.iter().all(|&count| count > 0), "{of_version:?}");
}
