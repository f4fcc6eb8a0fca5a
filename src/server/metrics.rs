//! Every metric of the server, in one place: names, units, help and label bounds are an interface.
//!
//! The label `task` is the name of a task that is served, one of the first [`MAX_TASKS`] seen; all others share
//! `other`, and so do labels of a task after its first [`MAX_LABELS`], and those of all tasks after [`MAX_SERIES`].

mod maker;
mod predictions;
mod prompts;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use prometheus::{
    Encoder as _, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};

use self::maker::Maker;
use self::predictions::Predictions;
pub(super) use self::prompts::Comparison;
use self::prompts::Prompts;
use super::inference::{Prediction, Usage};
use super::{Limits, Service};
use crate::engine::{self, BatchKind, BatchReport};

/// Tasks with series of their own.
pub(super) const MAX_TASKS: usize = 1000;
/// Labels of a task with series of their own.
pub(super) const MAX_LABELS: usize = 32;
/// Labels of all tasks with series of their own.
const MAX_SERIES: usize = 5000;

const SECONDS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0,
    16.0, 32.0,
];
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// A part of a prediction's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Text to tokens.
    Tokenize,
    /// Waiting for the engine.
    Queue,
    /// In the batch.
    Run,
}

/// Why a request was refused for its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It has none.
    Missing,
    /// Nobody knows it.
    Unknown,
    /// It is for something else.
    Forbidden,
}

/// The server's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    requests_in_flight: IntGauge,
    connections: IntGauge,
    tokenize_seconds: Histogram,
    queue_seconds: Histogram,
    run_seconds: Histogram,
    predictions: Predictions,
    failed_inputs: IntCounter,
    tokens: IntCounterVec,
    batch_requests: HistogramVec,
    batch_tasks: Histogram,
    batch_seconds: HistogramVec,
    batch_tokens: IntCounterVec,
    queue_depth: IntGauge,
    dropped: IntCounterVec,
    refused: IntCounterVec,
    reloads: IntCounterVec,
    handshake_failures: IntCounter,
    computes: IntGauge,
    limits: IntGaugeVec,
    prompts: Prompts,
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub(super) struct OpenConnection(IntGauge);

// === impl Refusal ===

impl Refusal {
    const ALL: [Self; 3] = [Self::Missing, Self::Unknown, Self::Forbidden];

    fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::Forbidden => "forbidden",
        }
    }
}

// === impl Metrics ===

impl Metrics {
    /// Metrics that stand at zero.
    #[must_use]
    pub fn new() -> Self {
        let make = Maker::new();
        let stages = make.histograms(
            "stage_duration_seconds",
            "Time of an input in a stage: tokenize (of the whole call), queue, run.",
            SECONDS,
            &["stage"],
        );
        let build =
            make.gauges("build_info", "Is 1, with the version of the server as a label.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let computes = make.gauge(
            "model_computes",
            "Is 1 if the last trial pass of the model was right, 0 if it failed and the server is not ready.",
        );
        computes.set(1);
        let made = Self {
            requests: make.counters(
                "http_requests_total",
                "Requests by route pattern and status; 499 is a client that left before its answer or within a stream.",
                &["route", "status"],
            ),
            request_seconds: make.histograms(
                "http_request_duration_seconds",
                "Time from a request's head to its answer, of a stream to its end.",
                SECONDS,
                &["route"],
            ),
            requests_in_flight: make.gauge("http_requests_in_flight", "Requests that are being answered."),
            connections: make.gauge("http_connections", "Connections that are open."),
            tokenize_seconds: stages.with_label_values(&["tokenize"]),
            queue_seconds: stages.with_label_values(&["queue"]),
            run_seconds: stages.with_label_values(&["run"]),
            predictions: Predictions::new(make.counters(
                "predictions_total",
                "Inputs answered, by task and predicted label; free text has the label text, no label abstained.",
                &["task", "label"],
            )),
            failed_inputs: make.counter(
                "failed_inputs_total",
                "Inputs of lists that could not be answered and got an error in their own place.",
            ),
            tokens: make.counters(
                "tokens_total",
                "Tokens of answered inputs: input (texts), prompt (their soft prompts), output (generated).",
                &["kind"],
            ),
            batch_requests: make.histograms(
                "batch_requests",
                "Inputs in a batch, by what is run: score (labels) or encode (before generation).",
                COUNTS,
                &["kind"],
            ),
            batch_tasks: make.histogram("batch_tasks", "Different prompts in a batch.", COUNTS),
            batch_seconds: make.histograms(
                "batch_duration_seconds",
                "Time that the model computed on a batch.",
                SECONDS,
                &["kind"],
            ),
            batch_tokens: make.counters(
                "batch_tokens_total",
                "Encoder positions computed: text (texts and prompts) and padding.",
                &["kind"],
            ),
            queue_depth: make.gauge("queue_depth", "Inputs that wait for the engine."),
            dropped: make.counters(
                "dropped_total",
                "Inputs that were not computed: overloaded, client_left or deadline.",
                &["reason"],
            ),
            refused: make.counters(
                "refused_requests_total",
                "Requests refused for their key: missing, unknown or forbidden (it is for something else).",
                &["reason"],
            ),
            reloads: make.counters(
                "reloads_total",
                "Files of keys or certificates that changed: done, or failed (what was known stayed).",
                &["what", "outcome"],
            ),
            handshake_failures: make
                .counter("tls_handshake_failures_total", "Connections that did not come to speak TLS."),
            computes,
            limits: make.gauges(
                "limit",
                "Limits as they are set: requests (predict calls at once), connections (of a listener), queue (inputs).",
                &["what"],
            ),
            prompts: Prompts::new(&make),
            registry: make.into_registry(),
        };
        made.begin();
        made
    }

    /// Lets series of known names begin at zero, so that their first event is an increase.
    fn begin(&self) {
        for reason in ["overloaded", "client_left", "deadline"] {
            self.dropped.with_label_values(&[reason]);
        }
        for reason in Refusal::ALL {
            self.refused.with_label_values(&[reason.name()]);
        }
        for (what, outcome) in
            [("keys", "done"), ("keys", "failed"), ("certificate", "done"), ("certificate", "failed")]
        {
            self.reloads.with_label_values(&[what, outcome]);
        }
        for kind in ["input", "prompt", "output"] {
            self.tokens.with_label_values(&[kind]);
        }
        for kind in ["text", "padding"] {
            self.batch_tokens.with_label_values(&[kind]);
        }
    }

    /// Shows the limits that are set.
    pub(super) fn limited(&self, limits: &Limits, queue: usize) {
        let limits = [("requests", limits.requests), ("connections", limits.connections), ("queue", queue)];
        for (what, limit) in limits {
            self.limits.with_label_values(&[what]).set(limit as i64);
        }
    }

    pub(super) fn computes(&self, does: bool) {
        self.computes.set(i64::from(does));
    }

    /// Batches that were run.
    pub(super) fn batches(&self) -> u64 {
        self.batch_tasks.get_sample_count()
    }

    pub(super) fn request_began(&self) {
        self.requests_in_flight.inc();
    }

    pub(super) fn request_ended(&self, route: &str, status: u16, elapsed: Duration) {
        self.requests_in_flight.dec();
        self.requests.with_label_values(&[route, &status.to_string()]).inc();
        self.request_seconds.with_label_values(&[route]).observe(elapsed.as_secs_f64());
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.refused.with_label_values(&[refusal.name()]).inc();
    }

    pub(super) fn reloaded(&self, what: &'static str, succeeded: bool) {
        let outcome = if succeeded { "done" } else { "failed" };
        self.reloads.with_label_values(&[what, outcome]).inc();
    }

    pub(super) fn handshake_failed(&self) {
        self.handshake_failures.inc();
    }

    pub(super) fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    pub(super) fn stage(&self, stage: Stage, elapsed: Duration) {
        let histogram = match stage {
            Stage::Tokenize => &self.tokenize_seconds,
            Stage::Queue => &self.queue_seconds,
            Stage::Run => &self.run_seconds,
        };
        histogram.observe(elapsed.as_secs_f64());
    }

    pub(super) fn predicted(&self, task: &str, prediction: &Prediction) {
        match prediction {
            Prediction::Label { label, .. } => {
                self.predictions.count(task, label.as_deref().unwrap_or("abstained"));
            }
            Prediction::Text { .. } => self.generated(task),
            Prediction::Failed { .. } => self.failed_inputs.inc(),
        }
    }

    /// A text was answered.
    pub(super) fn generated(&self, task: &str) {
        self.predictions.count(task, "text");
    }

    pub(super) fn tokens(&self, usage: &Usage) {
        let counts =
            [("input", usage.input_tokens), ("prompt", usage.prompt_tokens), ("output", usage.output_tokens)];
        for (kind, count) in counts {
            self.tokens.with_label_values(&[kind]).inc_by(count as u64);
        }
    }

    pub(super) fn compared(&self, task: &str, outcome: Comparison, inputs: usize) {
        self.prompts.compared(task, outcome, inputs);
    }

    fn text(&self, service: &Service) -> Vec<u8> {
        self.queue_depth.set(service.engine.waiting() as i64);
        self.prompts.look(&service.store);
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl engine::Observer for Metrics {
    fn batch(&self, report: &BatchReport) {
        let kind = match report.kind {
            BatchKind::Score => "score",
            BatchKind::Encode => "encode",
        };
        self.batch_requests.with_label_values(&[kind]).observe(report.requests as f64);
        self.batch_tasks.observe(report.tasks as f64);
        self.batch_seconds.with_label_values(&[kind]).observe(report.elapsed.as_secs_f64());
        self.batch_tokens.with_label_values(&["text"]).inc_by(report.tokens as u64);
        self.batch_tokens
            .with_label_values(&["padding"])
            .inc_by(report.padded_tokens.saturating_sub(report.tokens) as u64);
    }

    fn dropped(&self, reason: &'static str) {
        self.dropped.with_label_values(&[reason]).inc();
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The metrics, in the Prometheus text format.
#[utoipa::path(
    get, path = "/metrics", tag = "Operation",
    responses((status = 200, description = "All metrics.", body = String, content_type = "text/plain"))
)]
pub(super) async fn scrape(State(service): State<Arc<Service>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], service.metrics.text(&service))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;

    #[test]
    fn ten_thousand_tasks_stay_within_the_bounds() {
        let metrics = Metrics::new();
        let series =
            || metrics.registry.gather().iter().map(|family| family.get_metric().len()).sum::<usize>();
        let begin = series();
        let task = |i: usize| format!("task-{i}");
        for i in 0..10_000 {
            for label in 0..40 {
                metrics.predictions.count(&task(i), &format!("label-{label}"));
            }
            for outcome in [Comparison::Agreed, Comparison::Differed, Comparison::Failed, Comparison::Skipped]
            {
                metrics.compared(&task(i), outcome, 1);
            }
        }
        let full = series();
        // each task's own `other`, and the `other` of all others; four outcomes of as many tasks
        let bound = MAX_SERIES + MAX_TASKS + 1 + 4 * (MAX_TASKS + 1);
        assert!(full <= begin + bound, "{full} series, {bound} allowed beyond {begin}");
        assert!(full >= begin + MAX_SERIES, "tasks have series of their own: {full}");
        let mut text = Vec::new();
        TextEncoder::new().encode(&metrics.registry.gather(), &mut text).unwrap();
        assert!(text.len() < 2 << 20, "{} bytes a scrape", text.len());
        let other: u64 = (metrics.registry.gather().iter())
            .filter(|family| family.name() == "xprompt_predictions_total")
            .flat_map(|family| family.get_metric().to_vec())
            .map(|metric| metric.get_counter().get_value() as u64)
            .sum();
        assert_eq!(other, 400_000, "nothing goes uncounted");
        for i in 0..10_000 {
            store::Observer::removed(&metrics, &task(i));
        }
        assert!(series() <= begin + 6, "what is shared stays: {}", series());
    }
}
