//! The whole application on a model that takes a millisecond, asked without a connection.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use xprompt::engine::{self, Engine};
use xprompt::prompt::{self, Base, Manifest, Prompt, PromptFile};
use xprompt::runtime::{Device, Model, Precision, Runtime};
use xprompt::server::{self, Limits, Metrics, Service};
use xprompt::store::{self, FolderStorage, Keeping, Loader};
use xprompt::t5::Checkpoint;
use xprompt::task::Tokenizer;

use crate::root;

/// Ids of the small model.
const VOCABULARY: usize = 96;

/// The application, and what keeps it alive.
struct Application {
    router: Router,
    runtime: tokio::runtime::Runtime,
    _keeping: Keeping,
    _folder: tempfile::TempDir,
}

/// What the application said.
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: Bytes,
}

/// Sends a request to the application: three tasks, with labels (`mood`), with several fields (`news`) and with free
/// text (`story`).
pub fn ask(request: Request<Vec<u8>>) -> Answer {
    static APPLICATION: OnceLock<Application> = OnceLock::new();
    let application = APPLICATION.get_or_init(Application::start);
    application.runtime.block_on(async {
        let answer = application.router.clone().oneshot(request.map(Body::from)).await;
        let (head, body) = answer.unwrap_or_else(|never| match never {}).into_parts();
        let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let body = body.collect().await.expect("the body comes whole").to_bytes();
        Answer { status: head.status.as_u16(), content_type, body }
    })
}

impl Application {
    fn start() -> Self {
        let model = root().join("tests/fixtures/models/t5-v1.1");
        let runtime = Runtime::start(None, Some(1)).expect("`make setup` fetches ONNX Runtime");
        let model = Model::new(Checkpoint::open(&model).unwrap(), runtime).on(Device::Cpu);
        let model = model.in_precision(Precision::F32);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tokenizer");
        let eos = model.config().eos_token_id;
        let tokenizer = Arc::new(Tokenizer::open(&folder, VOCABULARY, eos).unwrap());
        let base = engine::base(model.checkpoint(), &tokenizer);
        let folder = tempfile::tempdir().unwrap();
        for (name, task) in tasks() {
            prompt_of(&base, task).write(&folder.path().join(format!("{name}.safetensors"))).unwrap();
        }
        let metrics = Arc::new(Metrics::new());
        let observer: Arc<dyn engine::Observer> = Arc::clone(&metrics) as _;
        let devices = std::slice::from_ref(&model);
        let engine = Arc::new(Engine::start(devices, engine::Options::default(), &observer).unwrap());
        let loader = Loader {
            engine: Arc::clone(&engine),
            tokenizer: Arc::clone(&tokenizer),
            config: model.config().clone(),
            base,
            limits: prompt::Limits::default(),
            max_input_tokens: 4096,
        };
        let options = store::Options {
            poll_interval: Duration::from_secs(3600),
            max_prompts: 100,
            max_resident_bytes: usize::MAX,
            keep_versions: 3,
            preload: BTreeSet::new(),
        };
        let observer: Arc<dyn store::Observer> = Arc::clone(&metrics) as _;
        let storage = Arc::new(FolderStorage::new(folder.path()));
        let (store, keeper) = store::open(storage, loader, options, observer);
        let keeping = keeper.keep().unwrap();
        while !store.is_scanned() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let service = Service::new(engine, tokenizer, store, metrics, Limits::default());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { router: server::app(Arc::new(service)), runtime, _keeping: keeping, _folder: folder }
    }
}

fn tasks() -> [(&'static str, Value); 3] {
    let labels = json!({"type": "labels", "labels": [
        {"name": "bad", "words": "bad"}, {"name": "bad day", "words": "bad day"}, {"name": "good", "words": "good"},
    ]});
    [
        (
            "mood",
            json!({"template": "{text}", "output": labels, "max_input_tokens": 24, "content_free": ["", "N/A"]}),
        ),
        (
            "news",
            json!({"template": "{title}: {text}", "output": labels, "max_input_tokens": 24, "keep": ["title"]}),
        ),
        (
            "story",
            json!({"template": "{text}", "output": {"type": "text", "max_new_tokens": 4}, "max_input_tokens": 24}),
        ),
    ]
}

fn prompt_of(base: &Base, task: Value) -> PromptFile {
    let (tokens, pieces) = (2, 4);
    let manifest: Manifest = serde_json::from_value(json!({
        "format": prompt::FORMAT,
        "producer": "fuzz",
        "tokens": tokens,
        "pieces": pieces,
        "d_model": base.d_model,
        "base_model": base.model,
        "tokenizer": base.tokenizer,
        "task": task,
    }))
    .unwrap();
    let rows = (0..tokens * base.d_model).map(|i| (i as f32).sin()).collect();
    let prompt = Prompt::dense(base.d_model, pieces, rows);
    PromptFile { manifest, prompt, token_importance: None, piece_importance: None }
}
