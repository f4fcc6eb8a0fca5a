//! Comparing a shadow version with the one that answered, off the way of the answer.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::Service;
use super::metrics::Comparison;
use super::predict::{Call, Prediction};
use crate::engine::{Answer, Answers, ReadyTask, Request};
use crate::store::Served;

/// Calls that are compared at once; more are left out, and counted.
pub(super) const MAX_COMPARED: usize = 16;

/// A comparison that waits for the answer.
#[derive(Debug)]
pub(super) struct Shadow {
    task: String,
    version: Arc<Served>,
    inputs: Vec<Value>,
    truncate: bool,
    place: OwnedSemaphorePermit,
}

/// What both versions said to an input, as far as it is compared.
type Said = Option<String>;

// === impl Shadow ===

impl Shadow {
    /// The comparison of a call, if its task has a shadow and there is room. A call that the shadow answers itself
    /// is not compared.
    pub(super) fn of(service: &Service, name: &str, task: &ReadyTask, call: &Call) -> Option<Self> {
        let entry = service.store.task(name)?;
        let version = entry.routes.shadow.clone()?;
        if version.task.version() == task.version() {
            return None;
        }
        // requests come first: what is compared must not fill the queue
        let is_busy = service.engine.waiting() + call.inputs.len() > service.engine.options().max_queue / 2;
        let place = Arc::clone(&service.comparisons).try_acquire_owned().ok().filter(|_| !is_busy);
        let Some(place) = place else {
            service.metrics.compared(name, Comparison::Skipped, call.inputs.len());
            return None;
        };
        let (task, inputs) = (name.to_owned(), call.inputs.clone());
        Some(Self { task, version, inputs, truncate: call.truncate, place })
    }

    /// Computes the shadow's answers and counts how many are those that were given.
    pub(super) fn compare(self, service: &Arc<Service>, predictions: &[Prediction]) {
        let given: Vec<Said> = predictions.iter().map(Prediction::said).collect();
        let service = Arc::clone(service);
        tokio::spawn(async move {
            let _place = self.place;
            let deadline = Instant::now() + service.limits.request_time;
            let ready = service.store.rows(&self.version).await.ok();
            let mut waiting = Vec::with_capacity(self.inputs.len());
            for input in &self.inputs {
                waiting.push(ready.as_ref().and_then(|task| {
                    let (text, _) = task.encode(input, &service.tokenizer, self.truncate).ok()?;
                    let request = Request { task: Arc::clone(task), text, deadline: Some(deadline) };
                    service.engine.submit(request).ok()
                }));
            }
            for (waiting, given) in waiting.into_iter().zip(given) {
                // an input that the active version could not answer says nothing
                let Some(given) = given else { continue };
                let answer = match waiting {
                    Some(waiting) => waiting.await.ok().and_then(Result::ok),
                    None => None,
                };
                let said =
                    answer.zip(ready.as_ref()).and_then(|(reply, task)| said(reply.answer, task, &service));
                let outcome = match said {
                    Some(said) if said == given => Comparison::Agreed,
                    Some(_) => Comparison::Differed,
                    None => Comparison::Failed,
                };
                service.metrics.compared(&self.task, outcome, 1);
            }
        });
    }
}

/// The label or the text of an answer.
fn said(answer: Answer, task: &ReadyTask, service: &Service) -> Said {
    match (answer, task.answers()) {
        (Answer::Labels(scores), Answers::Labels { names, .. }) => {
            // of equal labels the first wins, as in answers
            let best = scores.iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1));
            best.and_then(|(label, _)| names.get(label)).cloned()
        }
        (Answer::Text(generated), _) => service.tokenizer.decode(&generated.tokens).ok(),
        (Answer::Labels(_), Answers::Text { .. }) => None,
    }
}
