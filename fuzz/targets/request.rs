//! Any body, header and path, to the whole application. The input: a byte for the route, a byte for a header, its
//! value up to a line's end, and the body.

#![no_main]

use axum::http::{HeaderName, HeaderValue, Request, Uri};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use xprompt_fuzz::{Answer, ask};

const ROUTES: [(&str, &str); 9] = [
    ("POST", "/tasks/mood/predict"),
    ("POST", "/tasks/news/predict"),
    ("POST", "/tasks/story/predict"),
    ("POST", "/v1/completions"),
    ("POST", "/v2/models/mood/infer"),
    ("POST", "/v2/models/news/infer"),
    ("POST", "/v2/models/story/infer"),
    ("PUT", "/tasks/mood/traffic"),
    ("POST", "/tasks/mood/rollback"),
];

const HEADERS: [&str; 6] = [
    "inference-header-content-length",
    "content-type",
    "x-route-key",
    "x-request-id",
    "traceparent",
    "if-match",
];

/// Those that a client's mistake may get; all others are the server's.
const PROMISED: [u16; 10] = [200, 400, 404, 405, 409, 412, 413, 415, 422, 429];

fuzz_target!(|bytes: &[u8]| {
    let [route, header, rest @ ..] = bytes else { return };
    let (value, body) = match rest.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&rest[..end], &rest[end + 1..]),
        None => (&[][..], rest),
    };
    let route = usize::from(*route) % (ROUTES.len() + 1);
    let (method, uri, body) = match ROUTES.get(route) {
        Some(&(method, path)) => (method, Uri::from_static(path), body),
        // the last: the body is what is got
        None => match Uri::try_from(body) {
            Ok(uri) => ("GET", uri, &[][..]),
            Err(_) => return,
        },
    };
    let mut request = Request::builder().method(method).uri(uri).body(body.to_vec()).unwrap();
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    if let Some(&name) = HEADERS.get(usize::from(*header) % (HEADERS.len() + 1))
        && let Ok(value) = HeaderValue::from_bytes(value)
    {
        request.headers_mut().insert(HeaderName::from_static(name), value);
    }
    check(ROUTES.get(route).map_or("", |&(_, path)| path), &ask(request));
});

fn check(path: &str, answer: &Answer) {
    let text = String::from_utf8_lossy(&answer.body);
    assert!(PROMISED.contains(&answer.status), "{}: {text}", answer.status);
    if answer.status != 200 {
        let error: Value =
            serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {text}"));
        let said = match path {
            "/v1/completions" => &error["error"]["message"],
            path if path.starts_with("/v2") => &error["error"],
            _ => error.get("detail").or(error.get("error")).unwrap_or(&Value::Null),
        };
        let said = said.get("message").unwrap_or(said);
        assert!(said.as_str().is_some_and(|said| !said.is_empty()), "{text}");
    } else if answer.content_type == "application/json" && path.ends_with("/predict") {
        let answer: Value =
            serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {text}"));
        for prediction in answer["predictions"].as_array().unwrap() {
            check_prediction(prediction);
        }
    }
}

fn check_prediction(prediction: &Value) {
    if let Some(scores) = prediction.get("scores") {
        let scores: Vec<f64> =
            scores.as_object().unwrap().values().map(|score| score.as_f64().unwrap()).collect();
        assert!(scores.iter().all(|score| (0.0..=1.000_01).contains(score)), "{prediction}");
        assert!(scores.is_sorted_by(|a, b| a >= b), "{prediction}");
        assert!(prediction["label"].is_string() || prediction["abstained"] == true, "{prediction}");
    } else {
        assert!(prediction["text"].is_string() || prediction["error"]["status"] == 422, "{prediction}");
    }
}
