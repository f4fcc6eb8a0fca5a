//! The log on standard error, and traces to a collector.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use opentelemetry::global;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use xprompt::hub::Event;

use crate::arguments::{Arguments, LogFormat};
use crate::values::Secret;

/// For the last traces to be taken when the server stops.
const LAST_TRACES: Duration = Duration::from_secs(5);

/// For a collector to take some traces.
const EXPORT_TIME: Duration = Duration::from_secs(10);

/// Between two lines on a download.
const DOWNLOAD_LINES: Duration = Duration::from_secs(10);

/// What exports traces, if anything does.
#[derive(Debug)]
pub(crate) struct Traces(Option<SdkTracerProvider>);

/// Starts the log.
pub(crate) fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&arguments.log_level).with_context(|| {
        format!("--log-level {:?} is not understood; say for example info", arguments.log_level)
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let log = log.with_ansi(std::io::stderr().is_terminal());
    match arguments.log {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).init(),
    }
    Ok(())
}

/// Starts to export traces if the settings name an endpoint. They wait in a bounded queue and are sent by a thread of
/// their own: a collector that is away costs traces, not requests.
pub(crate) fn trace(arguments: &Arguments) -> anyhow::Result<Traces> {
    let Some(endpoint) = &arguments.otlp_endpoint else { return Ok(Traces(None)) };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_headers(headers(arguments.otlp_headers.as_ref())?)
        .with_timeout(EXPORT_TIME)
        .build()
        .with_context(|| format!("--otlp-endpoint {endpoint} cannot be used"))?;
    let ratio = f64::from(arguments.trace_percent) / 100.0;
    let resource = Resource::builder()
        .with_service_name("xprompt-server")
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
        .with_resource(resource)
        .build();
    global::set_tracer_provider(provider.clone());
    tracing::info!(endpoint, percent = arguments.trace_percent, "requests are traced");
    Ok(Traces(Some(provider)))
}

/// Logs how a model is fetched.
pub(crate) fn fetching() -> impl FnMut(Event<'_>) + Send {
    let mut last: Option<Instant> = None;
    move |event| match event {
        Event::Bytes { file, done, size } => {
            if last.is_none_or(|last| last.elapsed() >= DOWNLOAD_LINES) {
                last = Some(Instant::now());
                tracing::info!(file, bytes = done, of = size, "the model is being fetched");
            }
        }
        Event::Done { file } => tracing::info!(file, "fetched"),
        Event::Again { file, reason } => tracing::warn!(file, reason, "a download broke off, and goes on"),
        Event::Waiting { file } => tracing::info!(file, "another process downloads the file"),
        Event::Cached { reason } => tracing::warn!(%reason, "the cache has what the hub had last"),
    }
}

fn headers(given: Option<&Secret>) -> anyhow::Result<HashMap<String, String>> {
    let mut headers = HashMap::new();
    for pair in given.map(Secret::reveal).unwrap_or_default().split(',').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            bail!("--otlp-headers has a part without =; write NAME=VALUE,NAME=VALUE");
        };
        headers.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    Ok(headers)
}

// === impl Traces ===

impl Traces {
    /// Sends what is left.
    pub(crate) fn finish(self) {
        let Some(provider) = self.0 else { return };
        if let Err(error) = provider.shutdown_with_timeout(LAST_TRACES) {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}
