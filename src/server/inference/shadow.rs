//! Comparing a shadow version with the one that answered, off the way of the answer.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::Prediction;
use super::follow::first_stop;
use super::options::Options;
use super::run::Run;
use crate::server::metrics::Comparison;
use crate::server::{Code, Problem};
use crate::store::Served;

/// Calls that are compared at once; more are left out, and counted.
pub(in crate::server) const MAX_COMPARED: usize = 16;

/// A comparison that waits for the answer.
#[derive(Debug)]
pub(in crate::server) struct Shadow {
    run: Run,
    version: Arc<Served>,
    call: Called,
    place: OwnedSemaphorePermit,
}

/// What a call asked of the version that answered.
#[derive(Clone, Debug)]
pub(in crate::server) struct Called {
    pub(in crate::server) options: Options,
    pub(in crate::server) inputs: Vec<Value>,
    /// Bytes of the inputs.
    pub(in crate::server) bytes: usize,
    /// Texts for each input.
    pub(in crate::server) samples: usize,
    /// A text ends before the first of these.
    pub(in crate::server) stop: Vec<String>,
}

// === impl Shadow ===

impl Shadow {
    /// The comparison of a call, if its task has a shadow and there is room. A call that the shadow answers itself
    /// is not compared.
    pub(in crate::server) fn of(run: &Run, call: impl FnOnce() -> Called) -> Option<Self> {
        let Run { service, name, task, .. } = run;
        let entry = service.store.task(name)?;
        let version = entry.routes.shadow.clone()?;
        if version.task.version() == task.version() {
            return None;
        }
        let call = call();
        let answers = call.inputs.len() * call.samples;
        // requests come first: what is compared must not fill the queue
        let is_busy = service.engine.waiting() + answers > service.engine.options().max_queue / 2;
        let place = Arc::clone(&service.comparisons).try_acquire_owned().ok().filter(|_| !is_busy);
        let Some(place) = place else {
            service.metrics.compared(name, Comparison::Skipped, answers);
            return None;
        };
        Some(Self { run: run.clone(), version, call, place })
    }

    /// Compares predictions, as [`compare`](Self::compare) does.
    pub(in crate::server) fn compare_predictions(self, predictions: &[Prediction]) {
        self.compare(predictions.iter().map(Prediction::said).collect());
    }

    /// Computes the shadow's answers and counts how many are those that were given. One that was not given says
    /// nothing and is not counted.
    pub(in crate::server) fn compare(self, given: Vec<Option<String>>) {
        tokio::spawn(async move {
            let service = Arc::clone(&self.run.service);
            let name = self.run.name.clone();
            let said = self.say().await.unwrap_or_default();
            for (i, given) in given.into_iter().enumerate() {
                let Some(given) = given else { continue };
                let outcome = match said.get(i) {
                    Some(Some(said)) if *said == given => Comparison::Agreed,
                    Some(Some(_)) => Comparison::Differed,
                    Some(None) | None => Comparison::Failed,
                };
                service.metrics.compared(&name, outcome, 1);
            }
        });
    }

    /// What the shadow says to each input.
    async fn say(self) -> Result<Vec<Option<String>>, Problem> {
        let Self { run, version, call, place: _place } = self;
        let Called { options, inputs, bytes, samples, stop } = call;
        let task = match run.service.store.rows(&version).await {
            Ok(task) => task,
            Err(error) => return Err(Problem::new(Code::StoreUnavailable, error.to_string())),
        };
        let ask = options.within(&task).ask_again(&run.ask, &run.name, &task)?;
        let deadline = Instant::now() + run.service.limits.request_time;
        let run = Run { task, ask, deadline, ..run };
        let encoded = run.encode(inputs, bytes).await?;
        let said = run.say(encoded, samples).await?.into_iter().map(|(_, said)| match said {
            Ok(said) => Ok(run.prediction(said)?.said().map(|said| match first_stop(&said, &stop) {
                Some(end) => said[..end].to_owned(),
                None => said,
            })),
            Err(_) => Ok(None),
        });
        said.collect()
    }
}
