//! Traces: a span for each request, and in it spans for its stages.
//!
//! Without an exporter nothing is recorded. Stages are told when they are over, with their times: they happen in
//! batches on other threads.

use std::time::{Instant, SystemTime};

use axum::http::{HeaderMap, Method};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use crate::engine::Reply;

/// What the spans are made by.
const TRACER: &str = "xprompt";

/// W3C's headers of a request.
struct Headers<'a>(&'a HeaderMap);

/// The span of a request, the child of what its headers name. Probes and scrapes have none: they come every few
/// seconds and nobody asks for them.
pub(super) fn begin(method: &Method, route: &str, id: &str, headers: &HeaderMap) -> Context {
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    if route.starts_with("/health/") || route == "/metrics" {
        return parent;
    }
    let tracer = global::tracer(TRACER);
    let span = tracer
        .span_builder(format!("{method} {route}"))
        .with_kind(SpanKind::Server)
        .with_attributes([
            KeyValue::new("http.request.method", method.to_string()),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("xprompt.request_id", id.to_owned()),
        ])
        .start_with_context(&tracer, &parent);
    parent.with_span(span)
}

/// Ends the span of a request.
pub(super) fn end(context: &Context, status: u16) {
    let span = context.span();
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
    if status >= 500 {
        span.set_status(Status::error(""));
    }
    span.end();
}

/// The trace that a span belongs to, if there is one.
pub(super) fn id(context: &Context) -> Option<String> {
    let trace = context.span().span_context().trace_id();
    (trace != opentelemetry::TraceId::INVALID).then(|| trace.to_string())
}

/// The texts of a call became tokens between `since` and now.
pub(super) fn tokenized(since: Instant) {
    stage("tokenize", since, Instant::now());
}

/// An input waited and was computed.
pub(super) fn computed(reply: &Reply) {
    let began = reply.ended.checked_sub(reply.ran).unwrap_or(reply.ended);
    stage("queue", began.checked_sub(reply.queued).unwrap_or(began), began);
    stage("run", began, reply.ended);
}

fn stage(name: &'static str, began: Instant, ended: Instant) {
    let request = Context::current();
    if !request.span().is_recording() {
        return;
    }
    let now = SystemTime::now();
    let at = |moment: Instant| now.checked_sub(moment.elapsed()).unwrap_or(now);
    let tracer = global::tracer(TRACER);
    let builder = tracer.span_builder(name).with_start_time(at(began));
    builder.start_with_context(&tracer, &request).end_with_timestamp(at(ended));
}

// === impl Headers ===

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}
