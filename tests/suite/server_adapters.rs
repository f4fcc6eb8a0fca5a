use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};
use xprompt::exchange::{ADAPTER_CONFIG, ADAPTER_PICKLE, ADAPTER_WEIGHTS, SETTINGS, Settings};
use xprompt::prompt::{Limits, PromptFile};

use crate::exchange::{ADAPTERS, expected, probabilities, task};
use crate::lifecycle::{call, names, put, version, versions};
use crate::prompts::{Server, Setup, eventually};
use crate::support::fixtures;

fn folder(server: &Server, task: &str) -> PathBuf {
    server.folder.path().join(task)
}

fn settings(base_model: Option<&str>) -> String {
    let base_model = base_model.map(str::to_owned);
    Settings { task: task(&expected()), base_model }.to_toml().unwrap()
}

/// Copies an adapter as a user does, file by file.
fn copy(adapter: &str, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in [ADAPTER_CONFIG, ADAPTER_WEIGHTS] {
        std::fs::copy(fixtures().join("peft").join(adapter).join(file), to.join(file)).unwrap();
    }
}

async fn served(server: &Server, task: &str) -> String {
    eventually("the adapter is served", || server.version(task).is_some() && server.failure(task).is_none())
        .await;
    server.version(task).unwrap()
}

async fn refused(server: &Server, task: &str, words: &str) {
    let says = || server.failure(task).is_some_and(|reason| reason.contains(words));
    eventually(words, says).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_peft_saved_are_served_with_pefts_answers() {
    let server = Server::start(&[], Setup::default()).await;
    let expected = expected();
    for adapter in ADAPTERS {
        copy(adapter, &folder(&server, adapter));
        std::fs::write(folder(&server, adapter).join(SETTINGS), settings(None)).unwrap();
        let version = served(&server, adapter).await;
        for (i, text) in expected["texts"].as_array().unwrap().iter().enumerate() {
            let (status, answer) = server.predict(adapter, json!({"input": text})).await;
            assert_eq!((status, answer["version"].as_str()), (200, Some(version.as_str())), "{answer}");
            let want = probabilities(&expected[adapter]["logits"][i]);
            for (word, want) in expected["words"].as_array().unwrap().iter().zip(want) {
                let got = answer["predictions"][0]["scores"][word.as_str().unwrap()].as_f64().unwrap();
                assert!((got - want).abs() < 1e-4, "{adapter}, {text}: {got} and {want}");
            }
        }
        // what is kept of it is a prompt file
        let kept = server.folder.path().join(format!(".xprompt/versions/{adapter}/{version}.safetensors"));
        eventually("the version is kept", || kept.exists()).await;
        let (file, name) = PromptFile::read(&kept, &Limits::default()).unwrap();
        assert_eq!((file.manifest.history[0].name.as_str(), name), ("imported", version));
        assert!(file.manifest.producer.starts_with("PEFT 0."), "{}", file.manifest.producer);
    }
    // the same adapter is the same version, also for another start
    let before = ADAPTERS.map(|task| server.version(task));
    let server = server.restarted().await;
    assert_eq!(ADAPTERS.map(|task| server.version(task)), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_adapter_lacks_is_said_and_mended_in_its_place() {
    let server = Server::start(&[], Setup::default()).await;
    let at = folder(&server, "t");
    copy("nano", &at);
    refused(&server, "t", "folder t: task.toml is not there; an adapter does not say what").await;
    std::fs::write(at.join(SETTINGS), "[task]\nlabels = 3\n").unwrap();
    refused(&server, "t", "task.toml: line 2: ").await;
    std::fs::write(at.join(SETTINGS), settings(None)).unwrap();
    let version = served(&server, "t").await;

    // whatever happens to it, the last good one answers
    std::fs::remove_file(at.join(ADAPTER_WEIGHTS)).unwrap();
    refused(&server, "t", "adapter_model.safetensors is not there; copy it").await;
    std::fs::write(at.join(ADAPTER_PICKLE), b"PK\x03\x04").unwrap();
    refused(&server, "t", "adapter_model.bin is a pickle").await;
    copy("nano-multitask", &at);
    refused(&server, "t", "MULTITASK_PROMPT_TUNING, which cannot be served").await;
    copy("tiny", &at);
    refused(&server, "t", "width is 32, but t5-nano has 256").await;
    copy("nano", &at);
    let config = std::fs::read_to_string(at.join(ADAPTER_CONFIG)).unwrap();
    std::fs::write(at.join(ADAPTER_CONFIG), config.replace("models/t5-nano", "google/t5-mini")).unwrap();
    refused(&server, "t", "name is t5-mini, but t5-nano has another").await;
    assert_eq!(server.version("t"), Some(version.clone()));
    assert_eq!(server.predict("t", json!({"input": "x"})).await.0, 200);

    std::fs::write(at.join(SETTINGS), settings(Some("t5-nano"))).unwrap();
    let other = served(&server, "t").await;
    assert_ne!(other, version, "where an adapter comes from is a part of the file");
    // a folder that holds something else is nobody's task
    std::fs::create_dir(folder(&server, "notes")).unwrap();
    std::fs::write(folder(&server, "notes").join("a.safetensors"), "x").unwrap();
    std::fs::remove_file(at.join(ADAPTER_CONFIG)).unwrap();
    eventually("the adapter is gone", || server.version("t").is_none()).await;
    assert_eq!(server.get("/tasks").await.1["tasks"], Value::Array(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_takes_an_adapters_place_and_a_rollback_brings_it_back() {
    let server = Server::start(&[], Setup::default()).await;
    let at = folder(&server, "t");
    copy("nano", &at);
    std::fs::write(at.join(SETTINGS), settings(None)).unwrap();
    let first = served(&server, "t").await;
    let (two, v2) = version(300);
    assert_eq!(put(&server, "/tasks/t", &[("if-none-match", "*")], &two).await.status, 412);
    let got = put(&server, "/tasks/t", &[("if-match", &format!("\"{first}\""))], &two).await;
    assert_eq!((got.status, &got.body["previous"]), (200, &json!(first)), "{}", got.body);
    assert_eq!(std::fs::read(server.path("t")).unwrap(), two);
    // the file lies over the folder, also for a new start
    let server = server.restarted().await;
    assert_eq!(server.version("t"), Some(v2.clone()));
    let got = call(&server, Method::POST, "/tasks/t/rollback", &[], vec![]).await;
    assert_eq!((got.status, &got.body["active"]), (200, &json!(first)), "{}", got.body);
    assert_eq!(names(&versions(&server).await), [&first, &v2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_takes_the_adapter_along() {
    let server = Server::start(&[], Setup::default()).await;
    let at = folder(&server, "t");
    for (with_file, condition) in [(false, false), (false, true), (true, false), (true, true)] {
        copy("nano", &at);
        std::fs::write(at.join(SETTINGS), settings(None)).unwrap();
        std::fs::write(at.join("README.md"), "mine").unwrap();
        let mut active = served(&server, "t").await;
        if with_file {
            let (two, v2) = version(300);
            assert_eq!(put(&server, "/tasks/t", &[], &two).await.status, 200);
            active = v2;
        }
        let if_match = format!("\"{active}\"");
        let headers = [("if-match", if_match.as_str())];
        let headers = if condition { &headers[..] } else { &[] };
        let got = call(&server, Method::DELETE, "/tasks/t", headers, vec![]).await;
        assert_eq!(got.status, 204, "{}", got.body);
        assert!(!at.join(ADAPTER_CONFIG).exists() && !at.join(ADAPTER_WEIGHTS).exists());
        assert!(at.join("README.md").exists(), "what is not the adapter's stays");
        // it does not come back with a later look
        std::fs::write(folder(&server, "later.safetensors"), "x").unwrap();
        eventually("a look", || server.failure("later").is_some()).await;
        std::fs::remove_file(folder(&server, "later.safetensors")).unwrap();
        eventually("another look", || server.failure("later").is_none()).await;
        assert_eq!(server.version("t"), None);
    }
}
