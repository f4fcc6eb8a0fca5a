use std::collections::BTreeSet;

use serde_json::Value;

use crate::prompts::{Server, Setup, tweets};

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_task_once_in_the_order_of_names_while_others_come_and_go() {
    let names: Vec<String> = (0..23).map(|i| format!("task-{:02}", 2 * i)).collect();
    let prompts: Vec<_> = names.iter().map(|name| (name.as_str(), tweets())).collect();
    let server = Server::start(&prompts, Setup::default()).await;
    std::fs::write(server.folder.path().join("no name.safetensors"), "x").unwrap();
    crate::prompts::eventually("the file is refused", || server.store.catalog().refused().len() == 1).await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for page in 0.. {
        let (status, answer) = server.get(&format!("/tasks?limit=5{cursor}")).await;
        assert_eq!(status, 200, "{answer}");
        let tasks = answer["tasks"].as_array().unwrap();
        assert!(tasks.len() <= 5);
        seen.extend(tasks.iter().map(|task| task["task"].as_str().unwrap().to_owned()));
        assert_eq!(answer["refused_files"].as_array().unwrap().len(), usize::from(page == 0));
        match &answer["next_cursor"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => break,
        }
        // the last task of the page goes, one before it and one behind it come
        let (gone, new) = (seen.last().unwrap(), format!("task-{:02}", 40 + 2 * page + 1));
        std::fs::remove_file(server.path(gone)).unwrap();
        for come in ["task-01", &new] {
            server.write(come, &tweets());
        }
        let there = |task: &str| server.store.task(task).is_some();
        let is_seen = || !there(gone) && there("task-01") && there(&new);
        crate::prompts::eventually("the change is seen", is_seen).await;
    }
    assert!(seen.is_sorted());
    let distinct: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len());
    assert!(names.iter().all(|name| distinct.contains(name)), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_cannot_be_is_refused() {
    let server = Server::start(&[("tweets", tweets())], Setup::default()).await;
    for (query, words) in [
        ("limit=0", "limit is 0"),
        ("limit=1001", "1 to 1000"),
        ("limit=x", "invalid digit"),
        ("page=2", "`page`"),
    ] {
        let (status, answer) = server.get(&format!("/tasks?{query}")).await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("bad_request")), "{query}");
        assert!(answer["detail"].as_str().unwrap().contains(words), "{answer}");
    }
    let (_, answer) = server.get("/tasks").await;
    assert_eq!((&answer["total"], &answer["next_cursor"]), (&1.into(), &Value::Null));
}
