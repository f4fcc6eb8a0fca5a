//! A task's versions as clients see them.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::precondition::etag;
use crate::server::lease::{not_loaded, unknown};
use crate::server::time::rfc3339;
use crate::server::{Problem, Service};

/// The active version as an entity tag, and all versions, the one that was active last first.
pub(super) fn versions(service: &Service, task: &str) -> Result<(HeaderMap, Value), Problem> {
    let missing = || if service.store.is_scanned() { unknown(task) } else { not_loaded(task) };
    let entry = service.store.task(task).ok_or_else(missing)?;
    let routes = &entry.routes;
    let active = entry.served.as_ref().map(|served| served.task.version());
    let shadow = routes.shadow.as_ref().map(|served| served.task.version());
    let given: u32 = routes.traffic.iter().map(|(_, percent)| u32::from(*percent)).sum();
    let percent = |version: &str| {
        if active == Some(version) {
            return Some(100 - given);
        }
        let share = routes.traffic.iter().find(|(served, _)| served.task.version() == version);
        share.map(|(_, percent)| u32::from(*percent))
    };
    let shown: Vec<Value> = (routes.versions.iter())
        .map(|kept| {
            let served = entry.version(&kept.version);
            json!({
                "version": kept.version,
                "active": active == Some(&kept.version),
                "candidate": kept.candidate,
                "traffic_percent": percent(&kept.version).unwrap_or(0),
                "shadow": shadow == Some(&kept.version),
                "in_memory": served.is_some_and(|served| service.store.is_resident(served)),
                "file_bytes": kept.bytes,
                "since": rfc3339(kept.since()),
            })
        })
        .collect();
    let comparisons: serde_json::Map<String, Value> = (service.metrics.comparisons(task))
        .map(|(outcome, count)| (outcome.to_owned(), count.into()))
        .collect();
    let failure = entry.failure.as_ref();
    let document = json!({
        "task": task,
        "active": active,
        "pinned": routes.pinned,
        "versions": shown,
        "comparisons": comparisons,
        "load_error": failure.map(|failure| json!({"reason": failure.reason, "at": rfc3339(failure.at)})),
    });
    Ok((etag(active), document))
}
