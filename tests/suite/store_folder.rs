use std::sync::Arc;

use reqwest::Method;
use serde_json::json;
use xprompt::store::FolderStorage;

use crate::lifecycle::{call, names, put, version, versions, walk};
use crate::prompts::{Server, Setup, eventually, tweets};

#[tokio::test(flavor = "multi_thread")]
async fn files_by_hand_and_uploads_share_one_history() {
    let mut server = Server::start(&[("t", tweets())], Setup::default()).await;
    let (v1, (two, v2), (three, v3)) = (server.version("t").unwrap(), version(300), version(500));
    let kept = server.folder.path().join(format!(".xprompt/versions/t/{v1}.safetensors"));
    eventually("the first file is kept", || kept.exists()).await;
    // a file that was copied in a moment ago is seen by the upload that follows
    std::fs::write(server.path("t"), &two).unwrap();
    let got = put(&server, "/tasks/t", &[("if-match", &format!("\"{v2}\""))], &three).await;
    assert_eq!((got.status, &got.body["previous"]), (200, &json!(v2)), "{}", got.body);
    let shown = versions(&server).await;
    assert_eq!(names(&shown), [&v3, &v2, &v1]);

    // a bad file by hand: the last good version answers, also after a new start, and a rollback mends it
    std::fs::write(server.path("t"), "no prompt").unwrap();
    eventually("the bad file is rejected", || server.failure("t").is_some()).await;
    server = server.restarted().await;
    assert_eq!(server.version("t").unwrap(), v3);
    assert!(server.failure("t").unwrap().contains("safetensors"));
    let got = call(&server, Method::POST, "/tasks/t/rollback", &[], vec![]).await;
    assert_eq!((got.status, &got.body["active"]), (200, &json!(v3)));
    assert_eq!((std::fs::read(server.path("t")).unwrap(), server.failure("t")), (three, None));

    // a file that was taken away by hand comes back by a rollback
    std::fs::remove_file(server.path("t")).unwrap();
    eventually("the task is gone", || server.version("t").is_none()).await;
    assert_eq!(call(&server, Method::POST, "/tasks/t/rollback", &[], vec![]).await.status, 200);
    assert_eq!(server.version("t").unwrap(), v3);
    assert_eq!(names(&versions(&server).await), [&v3, &v2, &v1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_takes_no_history_is_served_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    tweets().write(&folder.path().join("t.safetensors")).unwrap();
    // where the history would be
    std::fs::write(folder.path().join(".xprompt"), "").unwrap();
    let server = Server::start_on(folder, Setup::default()).await;
    let v1 = server.version("t").unwrap();
    let (two, v2) = version(300);
    let got = put(&server, "/tasks/t", &[], &two).await;
    assert_eq!((got.status, &got.body["code"]), (503, &json!("store_unavailable")), "{}", got.body);
    assert_eq!(server.version("t").unwrap(), v1);
    let if_match = format!("\"{v1}\"");
    let got = call(&server, Method::DELETE, "/tasks/t", &[("if-match", &if_match)], vec![]).await;
    assert_eq!(got.status, 503, "a condition cannot be kept without the lock: {}", got.body);
    assert_eq!(call(&server, Method::DELETE, "/tasks/t", &[], vec![]).await.status, 204);
    assert!(server.version("t").is_none() && !server.path("t").exists());
    std::fs::write(server.path("t"), &two).unwrap();
    eventually("a file by hand is served", || server.version("t").as_ref() == Some(&v2)).await;
    assert_eq!(server.predict("t", json!({"input": "x"})).await.0, 200);
    // and as soon as it can be kept, it is
    std::fs::remove_file(server.folder.path().join(".xprompt")).unwrap();
    let kept = server.folder.path().join(format!(".xprompt/versions/t/{v2}.safetensors"));
    eventually("the version is kept", || kept.exists()).await;
    assert_eq!(put(&server, "/tasks/t", &[], &version(500).0).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_not_understood_costs_no_version() {
    let server = Server::start(&[], Setup::default()).await;
    let all = [version(100), version(300), version(500)];
    for (file, _) in &all {
        assert!(put(&server, "/tasks/t", &[], file).await.status < 300);
    }
    let state = server.folder.path().join(".xprompt/state/t.json");
    for broken in ["{", "{\"format\": 2, \"versions\": []}"] {
        std::fs::write(&state, broken).unwrap();
        let mended = || std::fs::read_to_string(&state).is_ok_and(|text| text.contains("\"format\": 1"));
        eventually("the state is written anew", mended).await;
        let shown = versions(&server).await;
        assert_eq!((names(&shown).len(), names(&shown)[0]), (3, all[2].1.as_str()), "{shown}");
    }
    let to_one = json!({"version": all[0].1}).to_string().into_bytes();
    assert_eq!(call(&server, Method::POST, "/tasks/t/rollback", &[], to_one).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_file_that_was_damaged_cannot_come_back() {
    let server = Server::start(&[], Setup::default()).await;
    let ((one, v1), (two, v2)) = (version(100), version(300));
    put(&server, "/tasks/t", &[], &one).await;
    put(&server, "/tasks/t", &[], &two).await;
    let kept = server.folder.path().join(".xprompt/versions/t");
    std::fs::write(kept.join(format!("{v1}.safetensors")), &two).unwrap();
    let got = call(&server, Method::POST, "/tasks/t/rollback", &[], vec![]).await;
    assert_eq!((got.status, &got.body["code"]), (404, &json!("unknown_version")));
    assert!(got.body["detail"].as_str().unwrap().contains("is damaged"), "{}", got.body);
    assert_eq!(server.version("t").unwrap(), v2);
    // a version whose file is gone is no version any more
    std::fs::remove_file(kept.join(format!("{v1}.safetensors"))).unwrap();
    assert_eq!(put(&server, "/tasks/t?activate=false", &[], &version(500).0).await.status, 200);
    assert_eq!(names(&versions(&server).await), [&v2, &version(500).1]);
    assert_eq!(walk(&kept).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_removal_and_an_upload_through_two_servers_one_wins() {
    let here = Server::start(&[("t", tweets())], Setup::default()).await;
    let shared = Arc::new(FolderStorage::new(here.folder.path()));
    let there = Server::start_with(tempfile::tempdir().unwrap(), shared, Setup::default()).await;
    let (mut seen, mut won) = (here.version("t").unwrap(), [0, 0]);
    for round in 0..20 {
        let (upload, name) = version(40 + 40 * round);
        let if_match = format!("\"{seen}\"");
        let headers = [("if-match", if_match.as_str())];
        let (removed, uploaded) = tokio::join!(
            call(&here, Method::DELETE, "/tasks/t", &headers, vec![]),
            put(&there, "/tasks/t", &headers, &upload),
        );
        match (removed.status, uploaded.status) {
            (204, 409 | 412) => {
                won[0] += 1;
                assert!(!here.path("t").exists(), "nobody brought it back");
                assert_eq!(put(&there, "/tasks/t", &[], &upload).await.status, 201);
            }
            (409 | 412, 200) => won[1] += 1,
            (removal, put) => panic!("round {round}: {removal} {}, {put} {}", removed.body, uploaded.body),
        }
        assert_eq!(std::fs::read(here.path("t")).unwrap(), upload);
        let both = || [&here, &there].iter().all(|server| server.version("t").as_ref() == Some(&name));
        eventually("both have it", both).await;
        seen = name;
    }
    println!("removals and uploads that won: {won:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_while_the_folder_is_away_is_refused_and_takes_nothing_out() {
    let server = Server::start(&[("t", tweets())], Setup::default()).await;
    let (v1, (two, v2)) = (server.version("t").unwrap(), version(300));
    let away = server.folder.path().with_extension("away");
    std::fs::rename(server.folder.path(), &away).unwrap();
    let got = put(&server, "/tasks/t", &[], &two).await;
    let served = server.version("t");
    std::fs::rename(&away, server.folder.path()).unwrap();
    assert_eq!((got.status, &got.body["code"]), (503, &json!("store_unavailable")), "{}", got.body);
    assert_eq!(served, Some(v1));
    assert_eq!(put(&server, "/tasks/t", &[], &two).await.status, 200);
    assert_eq!(server.version("t"), Some(v2));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_the_place_of_a_prompt_is_refused_and_an_upload_replaces_it() {
    let server = Server::start(&[("t", tweets())], Setup::default()).await;
    let v1 = server.version("t").unwrap();
    let pipe = server.folder.path().join(".pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::rename(pipe, server.path("t")).unwrap();
    eventually("the pipe is refused", || server.failure("t").is_some()).await;
    assert_eq!(server.version("t"), Some(v1));
    let (two, v2) = version(300);
    assert_eq!(put(&server, "/tasks/t", &[], &two).await.status, 200);
    assert_eq!((server.version("t"), server.failure("t")), (Some(v2), None));
}
