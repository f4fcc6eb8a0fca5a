//! Prompts: loading, memory, changes, and shadows that are compared.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::predictions::OTHER;
use super::{MAX_TASKS, Maker, Metrics, SECONDS};
use crate::store::{self, Store};

/// What came of comparing a shadow's answer with the one that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Comparison {
    /// The same label or text.
    Agreed,
    /// Another one.
    Differed,
    /// The shadow did not answer.
    Failed,
    /// There was no room to compare.
    Skipped,
}

/// Metrics of the store.
#[derive(Debug)]
pub(super) struct Prompts {
    tasks: IntGaugeVec,
    resident: IntGauge,
    bytes: IntGauge,
    pinned_bytes: IntGauge,
    load_seconds: Histogram,
    fetch_seconds: Histogram,
    fetch_failures: IntCounter,
    evictions: IntCounter,
    rejections: IntCounter,
    removals: IntCounter,
    changes: IntCounterVec,
    scan_failures: IntCounter,
    reachable: IntGauge,
    comparisons: IntCounterVec,
    /// Comparisons of tasks that have series of their own.
    compared: Mutex<HashMap<String, [u64; 4]>>,
}

// === impl Comparison ===

impl Comparison {
    const ALL: [Self; 4] = [Self::Agreed, Self::Differed, Self::Failed, Self::Skipped];

    fn name(self) -> &'static str {
        match self {
            Self::Agreed => "agreed",
            Self::Differed => "differed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

// === impl Prompts ===

impl Prompts {
    pub(super) fn new(make: &Maker) -> Self {
        let reachable =
            make.gauge("store_reachable", "Is 1 if the last look at the prompts succeeded, 0 if it failed.");
        reachable.set(1);
        Self {
            tasks: make.gauges(
                "prompts",
                "Tasks by state: ready (answers) or failed (its file never passed).",
                &["state"],
            ),
            resident: make.gauge("prompts_resident", "Versions whose prompt rows are in memory."),
            bytes: make.gauge("prompt_bytes", "Memory of the prompt rows that are in memory, in bytes."),
            pinned_bytes: make
                .gauge("prompt_pinned_bytes", "Memory of the prompt rows that are pinned, in bytes."),
            load_seconds: make.histogram(
                "prompt_load_duration_seconds",
                "Time to load a prompt, its golden examples included; files loaded side by side share it.",
                SECONDS,
            ),
            fetch_seconds: make.histogram(
                "prompt_fetch_duration_seconds",
                "Time to read the rows of a prompt that a request needed and that were not in memory.",
                SECONDS,
            ),
            fetch_failures: make.counter(
                "prompt_fetch_failures_total",
                "Rows that a request needed and that could not be read.",
            ),
            evictions: make
                .counter("prompt_evictions_total", "Versions whose rows left the memory for others."),
            rejections: make.counter(
                "prompt_rejections_total",
                "Prompt files that were rejected; what was served stayed.",
            ),
            removals: make.counter("prompt_removals_total", "Tasks removed because their file is gone."),
            changes: make.counters(
                "prompt_changes_total",
                "Changes that clients asked for: put, delete, rollback, route or pin; done or refused.",
                &["action", "outcome"],
            ),
            scan_failures: make.counter(
                "prompt_scan_failures_total",
                "Looks at the prompts that failed; what was served stayed.",
            ),
            reachable,
            comparisons: make.counters(
                "shadow_comparisons_total",
                "Inputs that a shadow version was to answer too, by task: agreed, differed, failed or skipped.",
                &["task", "outcome"],
            ),
            compared: Mutex::default(),
        }
    }

    /// Takes over what the store shows at this moment.
    pub(super) fn look(&self, store: &Store) {
        let catalog = store.catalog();
        let ready = catalog.tasks().filter(|(_, entry)| entry.served.is_some()).count();
        self.tasks.with_label_values(&["ready"]).set(ready as i64);
        self.tasks.with_label_values(&["failed"]).set((catalog.tasks().len() - ready) as i64);
        let resident = store.resident();
        self.resident.set(resident.count as i64);
        self.bytes.set(resident.bytes as i64);
        self.pinned_bytes.set(resident.pinned_bytes as i64);
    }

    pub(super) fn compared(&self, task: &str, outcome: Comparison, inputs: usize) {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let task = if compared.len() < MAX_TASKS || compared.contains_key(task) {
            compared.entry(task.to_owned()).or_default()[outcome as usize] += inputs as u64;
            task
        } else {
            OTHER
        };
        // within the lock, so that a task that is forgotten leaves no series
        self.comparisons.with_label_values(&[task, outcome.name()]).inc_by(inputs as u64);
    }

    fn forget(&self, task: &str) {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        if compared.remove(task).is_some() {
            for outcome in Comparison::ALL {
                // an outcome that never was has no series
                drop(self.comparisons.remove_label_values(&[task, outcome.name()]));
            }
        }
    }
}

// === impl Metrics ===

impl Metrics {
    /// Outcomes of a task's comparisons since the server was started.
    pub(in crate::server) fn comparisons(&self, task: &str) -> impl Iterator<Item = (&'static str, u64)> {
        let compared = self.prompts.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = compared.get(task).copied().unwrap_or_default();
        Comparison::ALL.into_iter().map(Comparison::name).zip(counts)
    }
}

impl store::Observer for Metrics {
    fn loaded(&self, _task: &str, elapsed: Duration) {
        self.prompts.load_seconds.observe(elapsed.as_secs_f64());
    }

    fn rejected(&self, _task: &str) {
        self.prompts.rejections.inc();
    }

    fn removed(&self, task: &str) {
        self.prompts.removals.inc();
        self.prompts.forget(task);
        self.predictions.forget(task);
    }

    fn scanned(&self, succeeded: bool) {
        self.prompts.reachable.set(i64::from(succeeded));
        if !succeeded {
            self.prompts.scan_failures.inc();
        }
    }

    fn fetched(&self, _task: &str, elapsed: Duration) {
        self.prompts.fetch_seconds.observe(elapsed.as_secs_f64());
    }

    fn fetch_failed(&self, _task: &str) {
        self.prompts.fetch_failures.inc();
    }

    fn evicted(&self, count: usize) {
        self.prompts.evictions.inc_by(count as u64);
    }

    fn changed(&self, action: &'static str, succeeded: bool) {
        let outcome = if succeeded { "done" } else { "refused" };
        self.prompts.changes.with_label_values(&[action, outcome]).inc();
    }
}
