//! Whether the model computes: a trial pass from time to time, on which readiness depends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Service;
use crate::engine::{Answer, EngineError, ReadyTask, Request};
use crate::prompt::{FORMAT, Manifest, Prompt, PromptFile};
use crate::t5::Config;
use crate::task::Tokenizer;

/// The text of a trial pass.
const TEXT: &str = "is this a pulse?";

/// The trial pass and what came of the last.
#[derive(Debug)]
pub(super) struct Pulse {
    task: Arc<ReadyTask>,
    text: Vec<u32>,
    every: Duration,
    failure: Mutex<Option<String>>,
}

/// What a trial pass says.
enum Found {
    /// The model computes.
    Computes,
    /// It does not.
    Fails(String),
    /// Nothing: others were computed instead.
    Busy,
}

// === impl Pulse ===

impl Pulse {
    /// A trial pass with a prompt of one empty row, so that it takes the way of every prediction.
    pub(super) fn new(tokenizer: &Tokenizer, config: &Config, every: Duration) -> Result<Self, String> {
        let labels = json!([{"name": "yes", "words": "yes"}, {"name": "no", "words": "no"}]);
        // a tokenizer that cannot tell the labels apart may still write
        let task = task(tokenizer, config, &json!({"type": "labels", "labels": labels}))
            .or_else(|_| task(tokenizer, config, &json!({"type": "text", "max_new_tokens": 1})))?;
        let (text, _) = task
            .encode(&Value::from(TEXT), tokenizer, true)
            .map_err(|error| format!("the text of a trial pass cannot be read: {error}"))?;
        Ok(Self { task: Arc::new(task), text, every, failure: Mutex::default() })
    }

    /// Why the model does not compute, if it does not.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes trial passes for ever.
    pub(super) async fn beat(&self, service: &Service) {
        loop {
            tokio::time::sleep(self.every).await;
            self.note(self.find(service).await, service);
        }
    }

    async fn find(&self, service: &Service) -> Found {
        let (time, batches) = (service.limits.request_time, service.metrics.batches());
        let request = Request {
            task: Arc::clone(&self.task),
            text: self.text.clone(),
            deadline: Some(Instant::now() + time),
        };
        let waiting = match service.engine.submit(request) {
            Ok(waiting) => waiting,
            Err(EngineError::Overloaded { .. }) => return Found::Busy,
            Err(error) => return Found::Fails(error.to_string()),
        };
        match tokio::time::timeout(time, waiting).await {
            Ok(Ok(Ok(reply))) if is_sound(&reply.answer) => Found::Computes,
            Ok(Ok(Ok(_))) => Found::Fails("the answer of a trial pass is no number".into()),
            Err(_) | Ok(Ok(Err(EngineError::Deadline))) if service.metrics.batches() > batches => Found::Busy,
            Err(_) => Found::Fails(format!("a trial pass was not answered in {time:?}")),
            Ok(Ok(Err(error))) => Found::Fails(error.to_string()),
            Ok(Err(_)) => Found::Fails("the engine ended".into()),
        }
    }

    fn note(&self, found: Found, service: &Service) {
        let failure = match found {
            Found::Busy => return,
            Found::Computes => None,
            Found::Fails(reason) => Some(reason),
        };
        service.metrics.computes(failure.is_none());
        let mut known = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match (known.as_deref(), failure.as_deref()) {
            (None, Some(reason)) => {
                tracing::error!(reason, "the model does not compute; the server is not ready");
            }
            (Some(_), None) => tracing::info!("the model computes again"),
            _ => {}
        }
        *known = failure;
    }
}

fn task(tokenizer: &Tokenizer, config: &Config, output: &Value) -> Result<ReadyTask, String> {
    let itself = json!({"name": "pulse", "fingerprint": ""});
    let manifest = json!({
        "format": FORMAT, "producer": "pulse", "tokens": 1, "pieces": 1, "d_model": config.d_model,
        "base_model": itself, "tokenizer": itself,
        "task": {"template": "{text}", "output": output, "max_input_tokens": 32},
    });
    let manifest: Manifest = serde_json::from_value(manifest).map_err(|error| error.to_string())?;
    let prompt = Prompt::dense(config.d_model, 1, vec![0.0; config.d_model]);
    let file = PromptFile { manifest, prompt, token_importance: None, piece_importance: None };
    ReadyTask::new(file, "pulse".into(), tokenizer, config).map_err(|error| error.to_string())
}

fn is_sound(answer: &Answer) -> bool {
    match answer {
        Answer::Labels(scores) => scores.iter().all(|score| score.is_finite()),
        Answer::Text(_) => true,
    }
}
