//! Comparing a shadow version with the one that answered, off the way of the answer.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::Prediction;
use super::options::Options;
use super::run::Run;
use crate::server::Problem;
use crate::server::metrics::Comparison;
use crate::store::Served;

/// Calls that are compared at once; more are left out, and counted.
pub(in crate::server) const MAX_COMPARED: usize = 16;

/// A comparison that waits for the answer.
#[derive(Debug)]
pub(in crate::server) struct Shadow {
    run: Run,
    options: Options,
    version: Arc<Served>,
    inputs: Vec<Value>,
    bytes: usize,
    place: OwnedSemaphorePermit,
}

// === impl Shadow ===

impl Shadow {
    /// The comparison of a call, if its task has a shadow and there is room. A call that the shadow answers itself
    /// is not compared.
    pub(in crate::server) fn of(
        run: &Run,
        options: &Options,
        inputs: &[Value],
        bytes: usize,
    ) -> Option<Self> {
        let Run { service, name, task, .. } = run;
        let entry = service.store.task(name)?;
        let version = entry.routes.shadow.clone()?;
        if version.task.version() == task.version() {
            return None;
        }
        // requests come first: what is compared must not fill the queue
        let is_busy = service.engine.waiting() + inputs.len() > service.engine.options().max_queue / 2;
        let place = Arc::clone(&service.comparisons).try_acquire_owned().ok().filter(|_| !is_busy);
        let Some(place) = place else {
            service.metrics.compared(name, Comparison::Skipped, inputs.len());
            return None;
        };
        let (options, inputs) = (options.clone(), inputs.to_vec());
        Some(Self { run: run.clone(), options, version, inputs, bytes, place })
    }

    /// Computes the shadow's answers and counts how many are those that were given.
    pub(in crate::server) fn compare(self, predictions: &[Prediction]) {
        let given: Vec<Option<String>> = predictions.iter().map(Prediction::said).collect();
        tokio::spawn(async move {
            let service = Arc::clone(&self.run.service);
            let name = self.run.name.clone();
            let said = self.say().await.unwrap_or_default();
            for (i, given) in given.into_iter().enumerate() {
                // an input that the active version could not answer says nothing
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
        let Self { run, options, version, inputs, bytes, place: _place } = self;
        let task = match run.service.store.rows(&version).await {
            Ok(task) => task,
            Err(error) => return Err(Problem::new(crate::server::Code::StoreUnavailable, error.to_string())),
        };
        let ask = options.ask_again(&run.ask, &run.name, &task)?;
        let deadline = Instant::now() + run.service.limits.request_time;
        let run = Run { task, ask, deadline, ..run };
        let encoded = run.encode(inputs, bytes).await?;
        let said = run.say(encoded).await?;
        said.into_iter()
            .map(|(_, said)| match said {
                Ok(said) => run.prediction(said).map(|prediction| prediction.said()),
                Err(_) => Ok(None),
            })
            .collect()
    }
}
