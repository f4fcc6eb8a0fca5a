//! The server: loads a model, watches a folder of prompts, and answers over HTTP until it is told to stop.

mod arguments;
mod config;
mod keygen;
mod listeners;
mod log;
mod manual;
#[cfg(test)]
#[path = "../../../tests/reference/command_line.rs"]
mod reference;
#[cfg(test)]
#[path = "../../../tests/reference/page.rs"]
mod reference_page;
mod values;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use xprompt::engine::{self, Engine};
use xprompt::hub::{self, Hub};
use xprompt::runtime::{Model, Precision, Runtime};
use xprompt::server::{self, Metrics, Service};
use xprompt::store::{self, FolderStorage, Keeping, Loader, S3Storage, Storage};
use xprompt::t5::Checkpoint;
use xprompt::task::Tokenizer;

use self::arguments::Arguments;
use self::config::Asked;

/// Threads that cut long inputs into tokens, and four that read prompts.
const BLOCKING_THREADS: usize = 8;

/// Exit status of a process whose settings are wrong, as command lines have it.
const BAD_SETTINGS: u8 = 2;

fn main() -> ExitCode {
    let done = match config::read(std::env::args_os()) {
        Err(problems) => {
            for problem in problems {
                eprintln!("xprompt-server: {problem}");
            }
            return ExitCode::from(BAD_SETTINGS);
        }
        Ok(Asked::Serve(arguments)) => run(&arguments),
        Ok(Asked::Keygen(keygen)) => keygen.run(),
        Ok(Asked::Completions(completions)) => completions.print(config::command()),
        Ok(Asked::Manual(manual)) => manual.write(config::command()),
        Ok(Asked::Print(settings)) => {
            print!("{settings}");
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xprompt-server: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, each once: many of ours name their cause already.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line.as_str() {
        "" => cause,
        known if known.contains(&cause) => line,
        _ => format!("{line}: {cause}"),
    })
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    log::start(arguments)?;
    let traces = log::trace(arguments)?;
    // before signals are taken: a long download can be stopped, and goes on at the next start
    let model = hub::model_folder(&arguments.model, &Hub::from_env(), &mut log::fetching())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .context("the system starts no threads")?;
    let served = runtime.block_on(serve(arguments, &model));
    traces.finish();
    served
}

async fn serve(arguments: &Arguments, model: &Path) -> anyhow::Result<()> {
    // what is quick to check comes before the model
    let signals = stop_signals().context("signals cannot be received")?;
    let storage = storage(arguments)?;
    let doors = listeners::open(arguments).await?;

    let (service, keeping) = start(arguments, model, storage)?;
    let service = Arc::new(doors.guard(service));
    for listener in &doors.listeners {
        tracing::info!(address = %listener.address()?, admin = listener.is_admin(), "listening");
    }
    let engine = Arc::clone(service.engine());
    tokio::select! {
        () = server::serve(doors.listeners, service, signalled(signals.clone(), 1)) => {}
        () = signalled(signals, 2) => anyhow::bail!("stopped by a second signal before the calls in flight were answered"),
    }
    // the engine goes first: the keeper may be waiting for it
    engine.stop();
    keeping.stop();
    tracing::info!("stopped");
    Ok(())
}

/// Where the prompts are. A folder has to be there; a bucket may come later.
fn storage(arguments: &Arguments) -> anyhow::Result<Arc<dyn Storage>> {
    let prompts = &arguments.prompts;
    if S3Storage::is_address(prompts) {
        return Ok(Arc::new(S3Storage::from_env(prompts, arguments.store_timeout)?));
    }
    std::fs::read_dir(prompts).with_context(|| {
        format!("the prompts folder {prompts} cannot be read; create it, or name another with --prompts")
    })?;
    Ok(Arc::new(FolderStorage::new(prompts)))
}

/// Loads everything and starts to watch the prompts.
fn start(
    arguments: &Arguments,
    model: &Path,
    storage: Arc<dyn Storage>,
) -> anyhow::Result<(Service, Keeping)> {
    let checkpoint = Checkpoint::open(model)
        .with_context(|| format!("the model in {} cannot be used", model.display()))?;
    let config = checkpoint.config().clone();
    let tokenizer = Tokenizer::open(model, config.vocab_size, config.eos_token_id)?;
    let base = engine::base(&checkpoint, &tokenizer);
    let runtime = Runtime::start(arguments.onnxruntime.as_deref(), arguments.threads)?;
    let chosen = arguments.device.find(&runtime)?;
    tracing::info!(device = chosen.names(), reason = chosen.reason, "the device was chosen");
    let first = chosen.devices[0];
    let precision = arguments.precision.unwrap_or(Precision::of_serving(first)).on(first)?;
    let model = Model::new(checkpoint, runtime.clone());
    let lanes: Vec<Model> =
        chosen.devices.iter().map(|&device| model.clone().on(device).in_precision(precision)).collect();
    for lane in &lanes {
        lane.room_beside_weights()?;
    }
    let metrics = Arc::new(Metrics::new());
    let observer: Arc<dyn engine::Observer> = Arc::clone(&metrics) as _;
    let engine = Arc::new(Engine::start(&lanes, arguments.engine_options(), &observer)?);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        model = base.model.name,
        fingerprint = base.model.fingerprint,
        onnxruntime = %runtime.library().display(),
        device = chosen.names(),
        %precision,
        threads = runtime.threads(),
        "the model computes"
    );

    let tokenizer = Arc::new(tokenizer);
    let trial_config = config.clone();
    let loader = Loader {
        engine: Arc::clone(&engine),
        tokenizer: Arc::clone(&tokenizer),
        config,
        base,
        limits: arguments.prompt_limits(),
        max_input_tokens: arguments.max_input_tokens,
    };
    let observer: Arc<dyn store::Observer> = Arc::clone(&metrics) as _;
    let (store, keeper) = store::open(storage, loader, arguments.store_options(), observer);
    let keeping = keeper.keep().context("the system starts no thread for the prompts")?;
    let service = Service::new(engine, tokenizer, store, metrics, arguments.limits())
        .with_trial_passes(&trial_config, arguments.trial_interval)
        .map_err(anyhow::Error::msg)?;
    if let Some(lane) = lanes.into_iter().next() {
        settle(lane);
    }
    Ok((service, keeping))
}

/// Moves the weights into huge pages while the server answers.
fn settle(model: Model) {
    let work = move || {
        let start = Instant::now();
        match model.into_huge_pages() {
            Ok(0) => {}
            Ok(bytes) => {
                let took_ms = start.elapsed().as_millis();
                tracing::info!(mib = bytes >> 20, took_ms, "the weights are in huge pages");
            }
            Err(reason) => tracing::info!(%reason, "the weights stay in the pages of their file"),
        }
    };
    if let Err(error) = thread::Builder::new().name("huge-pages".into()).spawn(work) {
        tracing::info!(%error, "the weights stay in the pages of their file");
    }
}

/// Counts the signals that ask the process to stop; none is missed from now on.
fn stop_signals() -> std::io::Result<watch::Receiver<usize>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            count.send_modify(|count| *count += 1);
        }
    });
    Ok(counted)
}

/// Returns at the `n`-th signal.
async fn signalled(mut count: watch::Receiver<usize>, n: usize) {
    if count.wait_for(|&count| count >= n).await.is_err() {
        // nobody counts any more, so no signal will come
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_of_the_command_line_is_in_step() {
        reference_page::is_in_step("xprompt-server.md", &reference::page(config::command()));
    }
}
