//! Prompts for the bundled model, made in a moment, and a server on them.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use xprompt::engine::{self, Engine};
use xprompt::prompt::{
    self, Base, FORMAT, Golden, Label, Manifest, OutputSpec, Prompt, PromptFile, ScoredBy, Stage, TaskSpec,
};
use xprompt::runtime::Model;
use xprompt::server::{self, Limits, Listener, Metrics, Service};
use xprompt::store::{self, FolderStorage, Keeper, Keeping, Loader, Options, Storage, Store};
use xprompt::task::Tokenizer;

use crate::support::nano;

pub const TWEETS: &[(&str, &str)] =
    &[("negative", "negative"), ("neutral", "neutral"), ("positive", "positive")];
pub const TOPICS: &[(&str, &str)] =
    &[("business", "business"), ("sport", "sport"), ("world", "world news of politics")];

/// The bundled model with what prompts need of it.
pub struct Lab {
    pub model: Model,
    pub tokenizer: Arc<Tokenizer>,
    pub base: Base,
}

pub fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let model = nano();
        let config = model.config();
        let tokenizer =
            Tokenizer::open(model.checkpoint().folder(), config.vocab_size, config.eos_token_id).unwrap();
        let base = engine::base(model.checkpoint(), &tokenizer);
        Lab { tokenizer: Arc::new(tokenizer), base, model }
    })
}

pub fn labels(labels: &[(&str, &str)]) -> OutputSpec {
    let label = |&(name, words): &(&str, &str)| Label { name: name.into(), words: words.into() };
    OutputSpec::Labels { labels: labels.iter().map(label).collect() }
}

/// A prompt of some tokens, whose rows are entries of the model's embedding table from `first` on.
pub fn prompt(first: usize, tokens: usize, template: &str, output: OutputSpec) -> PromptFile {
    let checkpoint = lab().model.checkpoint();
    let rows = (first..first + tokens).flat_map(|id| checkpoint.row(checkpoint.embedding(), id)).collect();
    of_rows(rows, template, output)
}

/// A prompt of given rows, of which every fifth token and every third piece is pruned.
pub fn of_rows(rows: Vec<f32>, template: &str, output: OutputSpec) -> PromptFile {
    let Base { model, tokenizer, d_model } = lab().base.clone();
    let pieces = 16;
    let tokens = rows.len() / d_model;
    let mask: Vec<bool> = (0..tokens * pieces).map(|i| i / pieces % 5 != 4 && i % 3 != 2).collect();
    let prompt = Prompt::dense(d_model, pieces, rows).masked(&mask);
    let stage = Stage {
        name: "rewound".into(),
        tokens: prompt.kept_token_count(),
        pieces: prompt.kept_piece_count(),
        parameters: prompt.parameters(),
        ratio: Some(0.2),
        score: None,
        steps: 100,
        dev: Map::from_iter([("accuracy".to_owned(), Value::from(0.75))]),
        test: Map::new(),
    };
    let manifest = Manifest {
        format: FORMAT,
        producer: "tests".into(),
        tokens,
        pieces,
        d_model,
        base_model: model,
        tokenizer,
        task: TaskSpec {
            template: template.into(),
            output,
            max_input_tokens: 64,
            keep: Vec::new(),
            content_free: Vec::new(),
        },
        history: vec![stage],
        scored_by: ScoredBy::default(),
        seed: 7,
        data: Vec::new(),
        golden: Vec::new(),
    };
    PromptFile { manifest, prompt, token_importance: None, piece_importance: None }
}

pub fn tweets() -> PromptFile {
    prompt(100, 10, "sentiment of the tweet: {text}", labels(TWEETS))
}

pub fn topics() -> PromptFile {
    prompt(500, 5, "topic: {title} . {text}", labels(TOPICS))
}

pub fn free_text() -> PromptFile {
    prompt(900, 4, "{text}", OutputSpec::Text { max_new_tokens: 8 })
}

/// Labels of several tokens that share beginnings, and inputs without content to calibrate by.
pub fn calibrated() -> PromptFile {
    let words = [("bad", "bad news"), ("bad sport", "bad news of sport"), ("good", "good")];
    let mut file = prompt(300, 6, "what is it? {text}", labels(&words));
    file.manifest.task.content_free = vec!["N/A".into(), "".into()];
    file
}

/// Free text of many tokens.
pub fn story() -> PromptFile {
    prompt(900, 4, "{text}", OutputSpec::Text { max_new_tokens: 200 })
}

pub fn golden(input: impl Into<Value>, scores: &[f32]) -> Golden {
    Golden { input: input.into(), scores: scores.to_vec(), text: None }
}

/// How a server is started.
#[derive(Clone, Copy)]
pub struct Setup {
    pub engine: engine::Options,
    pub limits: Limits,
    pub poll: Duration,
    /// Whether the prompts folder is watched.
    pub watch: bool,
    pub max_resident_bytes: usize,
    pub keep_versions: usize,
    /// Between two trial passes.
    pub trials: Duration,
    pub max_prompts: usize,
    pub preload: &'static [&'static str],
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            engine: engine::Options::default(),
            limits: Limits::default(),
            poll: Duration::from_millis(10),
            watch: true,
            max_resident_bytes: usize::MAX,
            keep_versions: 3,
            trials: Duration::from_secs(10),
            max_prompts: 10_000,
            preload: &[],
        }
    }
}

/// A store on these objects and its keeper.
pub fn open(
    engine: Arc<Engine>,
    storage: Arc<dyn Storage>,
    setup: Setup,
    observer: Arc<dyn store::Observer>,
) -> (Arc<Store>, Keeper) {
    let lab = lab();
    let loader = Loader {
        engine,
        tokenizer: Arc::clone(&lab.tokenizer),
        config: lab.model.config().clone(),
        base: lab.base.clone(),
        limits: prompt::Limits::default(),
        max_input_tokens: 4096,
    };
    let options = Options {
        poll_interval: setup.poll,
        max_prompts: setup.max_prompts,
        max_resident_bytes: setup.max_resident_bytes,
        keep_versions: setup.keep_versions,
        preload: setup.preload.iter().map(|&task| task.to_owned()).collect(),
    };
    store::open(storage, loader, options, observer)
}

/// A running server with a prompts folder of its own.
pub struct Server {
    pub url: String,
    pub folder: TempDir,
    pub store: Arc<Store>,
    pub service: Arc<Service>,
    pub client: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
    keeping: Option<Keeping>,
    setup: Setup,
}

impl Server {
    /// Starts on these prompts and waits until they are loaded.
    pub async fn start(prompts: &[(&str, PromptFile)], setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, prompt) in prompts {
            write(folder.path(), name, prompt);
        }
        Self::start_on(folder, setup).await
    }

    pub async fn start_on(folder: TempDir, setup: Setup) -> Self {
        let storage = Arc::new(FolderStorage::new(folder.path()));
        Self::start_with(folder, storage, setup).await
    }

    /// Starts on objects that need not be in the folder.
    pub async fn start_with(folder: TempDir, storage: Arc<dyn Storage>, setup: Setup) -> Self {
        let lab = lab();
        let metrics = Arc::new(Metrics::new());
        let engine_observer: Arc<dyn engine::Observer> = Arc::clone(&metrics) as _;
        let devices = std::slice::from_ref(&lab.model);
        let engine = Arc::new(Engine::start(devices, setup.engine, &engine_observer).unwrap());
        let observer: Arc<dyn store::Observer> = Arc::clone(&metrics) as _;
        let (store, keeper) = open(Arc::clone(&engine), storage, setup, observer);
        let service = Service::new(
            Arc::clone(&engine),
            Arc::clone(&lab.tokenizer),
            Arc::clone(&store),
            metrics,
            setup.limits,
        );
        let service = Arc::new(service.with_trial_passes(lab.model.config(), setup.trials).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let serving =
            tokio::spawn(server::serve(vec![Listener::new(listener)], Arc::clone(&service), async {
                drop(stopped.await);
            }));
        // a keeper that does not look is there all the same
        let keeping = if setup.watch { Some(keeper.keep().unwrap()) } else { None };
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let server = Self { url, folder, store, service, client, stop: Some(stop), serving, keeping, setup };
        if setup.watch {
            eventually("the folder is scanned", || server.store.is_scanned()).await;
        }
        server
    }

    /// The server ended and started again on the same folder.
    pub async fn restarted(mut self) -> Self {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        let setup = self.setup;
        drop(self);
        Self::start_on(folder, setup).await
    }

    pub fn write(&self, name: &str, prompt: &PromptFile) -> String {
        write(self.folder.path(), name, prompt)
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(format!("{name}.safetensors"))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
    }

    pub async fn predict(&self, task: &str, body: Value) -> (u16, Value) {
        let url = format!("{}/tasks/{task}/predict", self.url);
        let response = self.client.post(url).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The version that answers a task.
    pub fn version(&self, task: &str) -> Option<String> {
        Some(self.store.task(task)?.served?.task.version().to_owned())
    }

    pub fn failure(&self, task: &str) -> Option<String> {
        Some(self.store.task(task)?.failure?.reason.clone())
    }

    pub fn begin_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until the server has stopped.
    pub async fn stopped(&mut self) {
        (&mut self.serving).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
        self.service.engine().stop();
        drop(self.keeping.take());
    }
}

fn write(folder: &Path, name: &str, prompt: &PromptFile) -> String {
    prompt.write(&folder.join(format!("{name}.safetensors"))).unwrap()
}

/// Waits for something that has to come.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "not after a minute: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
