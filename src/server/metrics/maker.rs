//! Making metrics: each is registered once, under the prefix of all.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Makes metrics and registers them.
pub(super) struct Maker(Registry);

// === impl Maker ===

impl Maker {
    pub(super) fn new() -> Self {
        Self(Registry::new())
    }

    /// All that were made.
    pub(super) fn into_registry(self) -> Registry {
        self.0
    }

    fn register<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let metric = made.expect("invariant: names and labels are valid");
        self.0.register(Box::new(metric.clone())).expect("invariant: names are registered once");
        metric
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(format!("xprompt_{name}"), help))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(format!("xprompt_{name}"), help), labels))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(format!("xprompt_{name}"), help))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(format!("xprompt_{name}"), help), labels))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(format!("xprompt_{name}"), help).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(options))
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> HistogramVec {
        let options = HistogramOpts::new(format!("xprompt_{name}"), help).buckets(buckets.to_vec());
        self.register(HistogramVec::new(options, labels))
    }
}
