use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::prompts::{free_text, topics, tweets};
use crate::server_process::{Process, command, ends_with, fails};
use crate::support::root;

/// A new key and its line, as `keygen` gives them.
pub fn keygen(arguments: &[&str]) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xprompt-server"));
    let Output { status, stdout, stderr } = command.arg("keygen").args(arguments).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{said}");
    let key = said.lines().next().unwrap().to_owned();
    assert!(key.starts_with("xp_") && key.len() == 67, "{said}");
    (key, String::from_utf8(stdout).unwrap())
}

/// A server on a folder of prompts, and a key that it knows.
pub fn with_key(folder: &Path, arguments: &[&str]) -> (Process, String) {
    let (key, line) = keygen(arguments);
    let keys = folder.join("keys.toml");
    std::fs::write(&keys, line).unwrap();
    let mut command = command(folder);
    command.arg("--keys").arg(keys);
    let mut process = Process::start(command);
    process.ignore_log();
    (process, key)
}

async fn call(address: &str, method: &Method, path: &str, key: Option<&str>) -> Response {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request =
        client.request(method.clone(), format!("http://{address}{path}")).body("{\"input\": \"x\"}");
    let request = match key {
        Some(key) => request.header("authorization", format!("Bearer {key}")),
        None => request,
    };
    request.send().await.unwrap()
}

async fn status(address: &str, method: &Method, path: &str, key: Option<&str>) -> u16 {
    call(address, method, path, key).await.status().as_u16()
}

fn prompts(folder: &Path) {
    tweets().write(&folder.join("tweets.safetensors")).unwrap();
    topics().write(&folder.join("topics.safetensors")).unwrap();
    free_text().write(&folder.join("say.safetensors")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_do_what_its_line_says_and_the_file_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    prompts(folder.path());
    let file = tempfile::NamedTempFile::new().unwrap();
    let (web, web_line) = keygen(&["web", "--predict", "tw*"]);
    let (ops, ops_line) = keygen(&["ops", "--admin"]);
    let (prometheus, metrics_line) = keygen(&["prometheus", "--metrics"]);
    std::fs::write(file.path(), format!("{web_line}{ops_line}{metrics_line}")).unwrap();
    let mut command = command(folder.path());
    command.arg("--keys").arg(file.path()).args(["--log-level", "debug"]);
    let mut process = Process::start(command);
    let at = process.address.clone();

    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    let table = [
        (&get, "/health/ready", None, 200),
        (&get, "/", None, 200),
        (&get, "/page/page.js", None, 200),
        (&get, "/openapi.json", None, 200),
        (&get, "/docs/", None, 200),
        (&get, "/tasks", None, 401),
        (&get, "/tasks", Some("xp_00"), 401),
        (&get, "/tasks", Some(&*web), 200),
        (&post, "/tasks/tweets/predict", None, 401),
        (&post, "/tasks/tweets/predict", Some(&*web), 200),
        (&post, "/tasks/topics/predict", Some(&*web), 403),
        (&post, "/tasks/tweets/predict", Some(&*ops), 403),
        (&get, "/tasks/tweets/versions", Some(&*web), 200),
        (&get, "/metrics", None, 401),
        (&get, "/metrics", Some(&*web), 403),
        (&get, "/metrics", Some(&*ops), 200),
        (&get, "/metrics", Some(&*prometheus), 200),
        (&delete, "/tasks/topics", Some(&*web), 403),
        (&delete, "/tasks/topics", Some(&*prometheus), 403),
        (&delete, "/tasks/topics", Some(&*ops), 204),
        (&get, "/no/such/route", None, 404),
    ];
    for (method, path, key, wanted) in table {
        assert_eq!(status(&at, method, path, key).await, wanted, "{method} {path} {key:?}");
    }
    // routes of other protocols, one of which names the task in its body
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let inputs = json!([{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["x"]}]);
    for (path, body, key, wanted) in [
        ("/v1/completions", json!({"model": "say", "prompt": "x"}), Some(&web), 403),
        ("/v1/completions", json!({"model": "say", "prompt": "x"}), None, 401),
        ("/v2/models/say/infer", json!({"inputs": inputs}), Some(&web), 403),
        ("/v2/models/tweets/infer", json!({"inputs": inputs}), Some(&web), 200),
    ] {
        let request = client.post(format!("http://{at}{path}")).json(&body);
        let request = key.into_iter().fold(request, |request, key| request.bearer_auth(key));
        assert_eq!(request.send().await.unwrap().status().as_u16(), wanted, "{path} {body}");
    }
    let refused = call(&at, &get, "/tasks", None).await;
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    let document: Value = refused.json().await.unwrap();
    assert_eq!(document["code"], "unauthorized");
    let document: Value = call(&at, &get, "/metrics", Some(&web)).await.json().await.unwrap();
    assert_eq!(document["code"], "forbidden");

    // the log names the key, and does not have it
    loop {
        let line = process.line();
        assert!(!line.to_string().contains(&web), "{line}");
        if line["route"] == "/tasks/{task}/predict" && line["status"] == 200 {
            assert_eq!(line["span"]["key"], "web", "{line}");
            break;
        }
    }
    process.ignore_log();

    let changed = async |text: &str, key: &str, wanted: u16| {
        std::fs::write(file.path(), text).unwrap();
        let start = Instant::now();
        while status(&at, &get, "/tasks", Some(key)).await != wanted {
            assert!(start.elapsed() < Duration::from_secs(60), "{key} still is not {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    changed(&ops_line, &web, 401).await;
    // a mistake leaves the keys that are known
    std::fs::write(file.path(), "ops = 1").unwrap();
    let failed = "xprompt_reloads_total{outcome=\"failed\",what=\"keys\"} 1";
    let start = Instant::now();
    while !call(&at, &get, "/metrics", Some(&ops)).await.text().await.unwrap().contains(failed) {
        assert!(start.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    changed(&web_line, &ops, 401).await;
    assert_eq!(status(&at, &post, "/tasks/tweets/predict", Some(&web)).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sees_the_tasks_that_it_is_for_and_one_for_changes_sees_all() {
    let folder = tempfile::tempdir().unwrap();
    prompts(folder.path());
    std::fs::write(folder.path().join("no name.safetensors"), "x").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let made = [
        keygen(&["web", "--predict", "t*"]),
        keygen(&["one", "--predict", "topics"]),
        keygen(&["ops", "--admin"]),
        keygen(&["prometheus", "--metrics"]),
    ];
    std::fs::write(file.path(), made.iter().map(|(_, line)| line.as_str()).collect::<String>()).unwrap();
    let [web, one, ops, prometheus] = made.each_ref().map(|(key, _)| key.as_str());
    let mut command = command(folder.path());
    command.arg("--keys").arg(file.path());
    let mut process = Process::start(command);
    process.ignore_log();
    let at = process.address.clone();
    let get = Method::GET;
    let list = async |key, query: &str| -> Value {
        call(&at, &get, &format!("/tasks{query}"), Some(key)).await.json().await.unwrap()
    };
    let names = |page: &Value| -> Vec<String> {
        page["tasks"].as_array().unwrap().iter().map(|task| task["task"].as_str().unwrap().into()).collect()
    };
    for (key, seen, refused) in [
        (web, &["topics", "tweets"][..], 0),
        (one, &["topics"], 0),
        (ops, &["say", "topics", "tweets"], 1),
        (prometheus, &[], 0),
    ] {
        let page = list(key, "").await;
        assert_eq!(names(&page), seen);
        assert_eq!((&page["total"], &page["next_cursor"]), (&json!(seen.len()), &Value::Null), "{page}");
        assert_eq!(page["refused_files"].as_array().unwrap().len(), refused, "{page}");
    }
    // pages are of what is seen
    let page = list(web, "?limit=1").await;
    assert_eq!((names(&page), &page["next_cursor"]), (vec!["topics".to_owned()], &json!("topics")));
    let page = list(web, "?limit=1&cursor=topics").await;
    assert_eq!((names(&page), &page["next_cursor"]), (vec!["tweets".to_owned()], &Value::Null));

    // what is not seen looks as what is not there
    let looks = ["", "/versions", "/picture"].map(|rest| format!("/tasks/TASK{rest}"));
    let models =
        ["", "/ready", "/versions/0", "/versions/0/ready"].map(|rest| format!("/v2/models/TASK{rest}"));
    for path in looks.iter().chain(&models) {
        for hidden in ["say", "nothing", "%73ay"] {
            let path = path.replace("TASK", hidden);
            assert_eq!(status(&at, &get, &path, Some(web)).await, 403, "{path}");
        }
        let shown = call(&at, &get, &path.replace("TASK", "say"), Some(ops)).await.status().as_u16();
        assert!([200, 409].contains(&shown), "{path}: {shown}");
        let own = call(&at, &get, &path.replace("TASK", "tweets"), Some(web)).await.status().as_u16();
        assert!([200, 409].contains(&own), "{path}: {own}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_a_key_has_the_shape_of_its_protocol() {
    let folder = tempfile::tempdir().unwrap();
    prompts(folder.path());
    let (process, other) = with_key(folder.path(), &["other", "--predict", "other"]);
    for (method, path, code) in [
        (Method::POST, "/v1/completions", "/error/code"),
        (Method::GET, "/v2/models/say", "/code"),
        (Method::GET, "/tasks/say", "/code"),
    ] {
        for (key, status, name) in [(None, 401, "unauthorized"), (Some(&*other), 403, "forbidden")] {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let request = client.request(method.clone(), format!("http://{}{path}", process.address));
            let request = request.json(&json!({"model": "say", "prompt": "x"}));
            let request = key.into_iter().fold(request, |request, key| request.bearer_auth(key));
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{path}");
            assert_eq!(answer.headers().contains_key("www-authenticate"), status == 401, "{path}");
            let body: Value = answer.json().await.unwrap();
            assert_eq!(body.pointer(code), Some(&json!(name)), "{path}: {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_admin_listener_changes_and_metrics_are_only_there() {
    let folder = tempfile::tempdir().unwrap();
    prompts(folder.path());
    let mut command = command(folder.path());
    command.args(["--admin-listen", "127.0.0.1:0"]);
    let mut process = Process::start(command);
    process.ignore_log();
    let (public, admin) = (process.address.clone(), process.admin.clone().unwrap());
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    for (method, path, on_public, on_admin) in [
        (&get, "/health/ready", 200, 200),
        (&get, "/tasks", 200, 200),
        (&post, "/tasks/tweets/predict", 200, 200),
        (&get, "/metrics", 404, 200),
        (&put, "/tasks/tweets", 405, 422),
        (&put, "/tasks/tweets/pin", 404, 204),
        (&delete, "/tasks/topics", 405, 204),
    ] {
        assert_eq!(status(&public, method, path, None).await, on_public, "{method} {path}");
        assert_eq!(status(&admin, method, path, None).await, on_admin, "{method} {path}");
    }
    for (address, place) in [(&public, "elsewhere"), (&admin, "here")] {
        let page = call(address, &get, "/", None).await.text().await.unwrap();
        assert!(page.contains(&format!("<body data-changes=\"{place}\">")), "{page}");
    }
    process.signal("-TERM");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_address_that_others_reach_is_not_opened_without_keys() {
    let folder = tempfile::tempdir().unwrap();
    prompts(folder.path());
    let line = fails(command(folder.path()).env("XPROMPT_ADMIN_LISTEN", "0.0.0.0:0"));
    for part in ["--admin-listen 0.0.0.0:0", "--keys", "keygen", "--no-auth"] {
        assert!(line.contains(part), "{line}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_xprompt-server"));
    command.current_dir(root()).arg("--prompts").arg(folder.path()).args(["--listen", "0.0.0.0:0"]);
    let line = fails(&mut command);
    assert!(line.contains("--listen 0.0.0.0:0") && line.contains("--no-auth"), "{line}");
    command.args(["--no-auth", "--log", "json"]);
    let process = Process::start(command);
    assert!(process.address.starts_with("0.0.0.0:"), "{}", process.address);
}

#[test]
fn files_of_keys_that_are_wrong_are_named_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.toml");
    std::fs::write(&file, "\nweb = { sha256 = \"12\", admin = true }\n").unwrap();
    let line = fails(command(folder.path()).arg("--keys").arg(&file));
    assert!(line.contains(&format!("{}:2: ", file.display())) && line.contains("keygen"), "{line}");
    let line = fails(command(folder.path()).arg("--keys").arg(folder.path().join("none")));
    assert!(line.contains("none cannot be read"), "{line}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_xprompt-server"));
    let line = ends_with(command.args(["keygen", "web"]), 1);
    assert!(line.contains("key web is for nothing"), "{line}");
}
