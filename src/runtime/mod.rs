//! ONNX Runtime: finding its library, one environment a process, and sessions over graphs.
//!
//! All sessions share one thread pool. A [`Session`] has one owner at a time (`run` takes `&mut self`).

mod device;
mod error;
mod library;
mod model;
mod session;

pub use device::{Device, UnknownDevice};
pub use error::RuntimeError;
pub use library::{LibraryNotFound, find_library};
pub use model::Model;
pub use session::{Input, Output, Outputs, Session};

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The loaded library and its environment, with the thread pool that all sessions share.
#[derive(Clone)]
pub struct Runtime {
    environment: ort::environment::Environment,
    library: Arc<PathBuf>,
    threads: usize,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("library", &self.library).field("threads", &self.threads).finish()
    }
}

/// ONNX Runtime allows one environment a process.
static STARTED: Mutex<Option<Runtime>> = Mutex::new(None);

// === impl Runtime ===

impl Runtime {
    /// Loads the library and starts its thread pool; asked again, returns what was started first.
    ///
    /// `library` is an explicit path, else the places of [`find_library`] are searched. `threads` is the number
    /// of threads that compute, all cores if `None`.
    ///
    /// # Errors
    /// If no library is found, it does not load, or another one is already in use.
    pub fn start(library: Option<&Path>, threads: Option<usize>) -> Result<Self, RuntimeError> {
        let path = find_library(library)?;
        let mut started = STARTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(runtime) = started.as_ref() {
            return if *runtime.library == path {
                Ok(runtime.clone())
            } else {
                Err(RuntimeError::AlreadyStarted(runtime.library.to_path_buf()))
            };
        }
        let threads =
            threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
        let load = |reason: String| RuntimeError::Load { path: path.clone(), reason };
        // loading comes first: every other call needs the library's functions
        let builder = ort::init_from(&path).map_err(|error| load(error.to_string()))?;
        let pool = ort::environment::GlobalThreadPoolOptions::default().with_intra_threads(threads)?;
        let environment = builder
            .with_name("xprompt")
            .with_telemetry(false)
            .with_global_thread_pool(pool)
            .build()
            .map_err(|error| load(error.to_string()))?;
        let runtime = Self { environment, library: Arc::new(path), threads };
        *started = Some(runtime.clone());
        Ok(runtime)
    }

    /// The library in use.
    #[must_use]
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Threads that compute.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }
}
