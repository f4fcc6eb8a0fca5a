use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use xprompt::fingerprint;
use xprompt::store::State;

use crate::prompts::{TWEETS, labels, prompt};
use crate::server_process::{Process, command};

const KILLS: u64 = 30;

/// The versions that may be active, by what clients were told and what they asked for.
#[derive(Debug, Default)]
struct Told {
    /// What the last answered change left.
    active: Option<String>,
    /// What the change that waits for its answer would leave.
    asked: Option<String>,
}

async fn send(client: &Client, method: Method, url: String, body: Vec<u8>) -> reqwest::Result<u16> {
    Ok(client.request(method, url).body(body).send().await?.status().as_u16())
}

/// Changes the task until the server is gone.
async fn change_until_killed(
    address: String,
    versions: Vec<(Vec<u8>, String)>,
    told: Arc<Mutex<Told>>,
    round: u64,
) {
    let client = Client::builder().no_proxy().build().unwrap();
    let task = format!("http://{address}/tasks/t");
    for i in round.. {
        let (file, version) = &versions[i as usize % versions.len()];
        let (method, url, body) = match i % 5 {
            3 => {
                // the version before; both candidates are kept, so it is known which one is asked for
                let back = json!({"version": version}).to_string().into_bytes();
                (Method::POST, format!("{task}/rollback"), back)
            }
            _ => (Method::PUT, task.clone(), file.clone()),
        };
        told.lock().unwrap().asked = Some(version.clone());
        match send(&client, method, url, body).await {
            Ok(200 | 201) => *told.lock().unwrap() = Told { active: Some(version.clone()), asked: None },
            // a version that is not kept cannot come back, and what is active may be the one that the share is for
            Ok(404) => {
                told.lock().unwrap().asked = None;
                continue;
            }
            Ok(other) => panic!("status {other}"),
            Err(_) => return,
        }
        let other = &versions[(i as usize + 1) % versions.len()].1;
        let share = json!({"versions": {other: 10}}).to_string().into_bytes();
        match send(&client, Method::PUT, format!("{task}/traffic"), share).await {
            Ok(200 | 404) => {}
            Ok(other) => panic!("status {other}"),
            Err(_) => return,
        }
    }
}

/// Every file is whole: versions are what their names say, the state can be read, the active file is a version.
fn check_files(folder: &Path, versions: &[(Vec<u8>, String)]) -> String {
    let kept = folder.join(".xprompt/versions/t");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(kept).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        // what a killed writer left; nobody reads it
        if name.starts_with('.') {
            continue;
        }
        let version = name.strip_suffix(".safetensors").unwrap();
        assert_eq!(fingerprint::of_bytes(&std::fs::read(entry.path()).unwrap()), version);
        names.insert(version.to_owned());
    }
    if let Ok(state) = std::fs::read(folder.join(".xprompt/state/t.json")) {
        let state = State::from_json(&state).unwrap();
        let gone = state.versions.iter().find(|kept| !names.contains(&kept.version));
        assert_eq!(gone, None, "every version of the state has its file");
    }
    let active = fingerprint::of_bytes(&std::fs::read(folder.join("t.safetensors")).unwrap());
    assert!(versions.iter().any(|(_, version)| *version == active), "never a torn file");
    active
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_of_a_change_leaves_the_old_or_the_new_state() {
    let folder = tempfile::tempdir().unwrap();
    let version = |i: usize| prompt(100 + 20 * i, 20, "{text}", labels(TWEETS)).to_bytes().unwrap();
    let versions: Vec<(Vec<u8>, String)> =
        (0..3).map(version).map(|bytes: Vec<u8>| (bytes.clone(), fingerprint::of_bytes(&bytes))).collect();
    let told = Arc::new(Mutex::new(Told::default()));
    let client = Client::builder().no_proxy().build().unwrap();
    let mut made = 0;
    for round in 0..KILLS {
        let mut process = Process::start(command(folder.path()));
        process.ignore_log();
        if round > 0 {
            let url = format!("http://{}/tasks/t/versions", process.address);
            let shown: Value = client.get(url).send().await.unwrap().json().await.unwrap();
            let active = shown["active"].as_str().unwrap().to_owned();
            let mut told = told.lock().unwrap();
            let expected = [told.active.as_ref(), told.asked.as_ref()];
            assert!(expected.contains(&Some(&active)), "{active} answers, {told:?}");
            made += usize::from(told.active.as_ref() != Some(&active));
            *told = Told { active: Some(active), asked: None };
        }
        let changes =
            change_until_killed(process.address.clone(), versions.clone(), Arc::clone(&told), round);
        let changes = tokio::spawn(changes);
        let first = folder.path().join("t.safetensors");
        crate::prompts::eventually("the first change is made", || first.exists()).await;
        tokio::time::sleep(Duration::from_millis(3 + round * 7 % 40)).await;
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        changes.await.unwrap();
        check_files(folder.path(), &versions);
    }
    println!("{KILLS} kills, {made} changes were made whose answers were cut off");
}
