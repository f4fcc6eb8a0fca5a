//! The router and what its handlers share.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::{Router, middleware};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::pulse::Pulse;
use super::traffic::Traffic;
use super::{
    Code, Keys, Limits, Metrics, Problem, admin, auth, completions, health, inference, metrics, observe,
    openapi, page, predict, tasks, v2,
};
use crate::engine::Engine;
use crate::store::Store;
use crate::t5::Config;
use crate::task::Tokenizer;

/// What answering takes.
#[derive(Debug)]
pub struct Service {
    pub(super) engine: Arc<Engine>,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) store: Arc<Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: Limits,
    pub(super) traffic: Arc<Traffic>,
    /// Calls whose shadow may be computed.
    pub(super) comparisons: Arc<Semaphore>,
    /// Uploads that may be in memory.
    pub(super) uploads: Semaphore,
    /// Keys that calls need, if they need one.
    pub(super) keys: Option<Arc<Keys>>,
    /// The trial passes that readiness depends on.
    pub(super) pulse: Option<Pulse>,
}

// === impl Service ===

impl Service {
    /// A service that lets calls in.
    #[must_use]
    pub fn new(
        engine: Arc<Engine>,
        tokenizer: Arc<Tokenizer>,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
        limits: Limits,
    ) -> Self {
        metrics.limited(&limits, engine.options().max_queue);
        Self {
            engine,
            tokenizer,
            store,
            metrics,
            limits,
            traffic: Arc::new(Traffic::new()),
            comparisons: Arc::new(Semaphore::new(inference::MAX_COMPARED)),
            uploads: Semaphore::new(admin::MAX_UPLOADS),
            keys: None,
            pulse: None,
        }
    }

    /// The service for callers with one of these keys.
    #[must_use]
    pub fn with_keys(self, keys: Arc<Keys>) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// The service with a trial pass of the model every so often; while it fails the service is not ready. Without,
    /// only the pass at the engine's start is a proof.
    ///
    /// # Errors
    /// If the tokenizer cannot read the text of a trial pass.
    pub fn with_trial_passes(self, config: &Config, every: Duration) -> Result<Self, String> {
        let pulse = Pulse::new(&self.tokenizer, config, every)?;
        Ok(Self { pulse: Some(pulse), ..self })
    }

    /// Where the service counts.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The engine that answers.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Predict calls that are worked on.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.traffic.in_flight()
    }

    /// Lets no more calls in, turns readiness off, and waits for the calls in flight. Returns how many were left
    /// when the limit for draining passed.
    pub async fn drain(&self) -> usize {
        self.traffic.drain(self.limits.drain_time).await
    }
}

/// Every route of the server.
pub fn app(service: Arc<Service>) -> Router {
    finish(described(), service, true)
}

/// The routes without those that change what is served and without metrics.
pub fn public_app(service: Arc<Service>) -> Router {
    finish(open_routes(), service, false)
}

fn finish(described: OpenApiRouter<Arc<Service>>, service: Arc<Service>, takes_changes: bool) -> Router {
    let (router, api) = described.split_for_parts();
    let api = if service.keys.is_some() { openapi::with_keys(api) } else { api };
    router
        .merge(openapi::routes(&api))
        .merge(page::routes(takes_changes))
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        // Inside of what counts and logs, so that refusals are counted and logged.
        .layer(middleware::from_fn_with_state(Arc::clone(&service), auth::authenticate))
        // A mistake of ours must not cost the client its answer: it becomes a problem document.
        .layer(CatchPanicLayer::custom(panicked))
        // Outermost, so that it sees every answer there is.
        .layer(middleware::from_fn_with_state(Arc::clone(&service), observe::observe))
        .with_state(service)
}

/// The routes that the description of the interface names, with that description.
pub(super) fn described() -> OpenApiRouter<Arc<Service>> {
    open_routes().merge(admin::routes()).routes(routes!(metrics::scrape))
}

fn open_routes() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::with_openapi(openapi::Interface::openapi())
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::show))
        .routes(routes!(predict::predict))
        .routes(routes!(completions::complete))
        .routes(routes!(v2::metadata::server))
        .routes(routes!(v2::metadata::live))
        .routes(routes!(v2::metadata::ready))
        .routes(routes!(v2::metadata::model))
        .routes(routes!(v2::metadata::model_ready))
        .routes(routes!(v2::metadata::model_version))
        .routes(routes!(v2::metadata::version_ready))
        .routes(routes!(v2::infer::infer))
        .routes(routes!(v2::infer::infer_version))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
}

async fn unknown_route(uri: Uri) -> Problem {
    let detail =
        format!("there is no {}; /openapi.json describes the routes, and /docs shows them", uri.path());
    Problem::new(Code::UnknownRoute, detail)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let wanted = match uri.path().trim_start_matches('/').split('/').collect::<Vec<_>>()[..] {
        ["tasks", _] => "GET, PUT or DELETE",
        ["tasks", _, "predict" | "rollback"] | ["v1", "completions"] | ["v2", "models", .., "infer"] => {
            "POST"
        }
        ["tasks", _, "traffic"] => "PUT",
        ["tasks", _, "pin"] => "PUT or DELETE",
        _ => "GET",
    };
    Problem::new(Code::MethodNotAllowed, format!("{} takes {wanted}, not {method}", uri.path()))
}

#[expect(clippy::needless_pass_by_value, reason = "the layer hands the panic over by value")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(panic = text, "a handler panicked");
    Problem::new(Code::Internal, "a mistake in the server; its log says more").into_response()
}
