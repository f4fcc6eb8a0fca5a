//! ONNX Runtime: finding its library, one environment a process, and sessions over graphs.
//!
//! All sessions share one thread pool. A [`Session`] has one owner at a time (`run` takes `&mut self`).

mod borrowed;
mod choice;
mod cuda;
mod device;
mod error;
mod gpu;
mod kernels;
mod library;
mod model;
mod pace;
mod peak;
mod placement;
mod precision;
mod replay;
mod resident;
mod session;
mod state;

pub use choice::{Chosen, DeviceChoice, UnknownDevice};
pub use cuda::CudaProblem;
pub use device::Device;
pub use error::RuntimeError;
pub use gpu::GpuMemory;
pub use library::{LibraryNotFound, find_library};
pub use model::Model;
pub use pace::Paces;
pub use placement::Placed;
pub use precision::{Precision, UnknownPrecision};
use session::Weights;
pub use session::{Input, Output, Outputs, Session};
pub use state::State;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ort::logging::LogLevel;

use crate::graph::{Arithmetic, DType, Graph};

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

    /// Proves that a device computes, by a sum of two numbers there.
    ///
    /// # Errors
    /// If it cannot be used, and why.
    pub fn check(&self, device: Device) -> Result<(), RuntimeError> {
        let mut graph = Graph::new(Arithmetic::STANDARD);
        let x = graph.input("x", DType::F32, &[2.into()]);
        let sum = graph.add(x, x);
        graph.output("sum", sum);
        let _beside_others = (device != Device::Cpu).then(gpu::beside_others);
        let mut builder = ort::session::Session::builder(&self.environment)?;
        if device != Device::Cpu {
            builder = builder.with_disable_cpu_fallback().map_err(ort::Error::<()>::from)?;
        }
        let mut builder = device.register(builder, Precision::of(device), false, &self.library)?;
        let model = graph.to_model(|_, _| unreachable!("the graph has no weights"));
        let mut session =
            Session::new(builder.commit_from_memory(&model)?, device, false, Weights::default())?;
        let sum = session.run(&[("x", Input::f32([2], &[1.5, -2.0]))])?.take("sum")?;
        if sum.f32s()? == [3.0, -4.0] {
            Ok(())
        } else {
            let problem =
                CudaProblem::Other(format!("it computes wrongly: {:?} for [3.0, -4.0]", sum.f32s()?));
            Err(RuntimeError::Device { device, problem })
        }
    }

    /// Tries something whose failure is no news: the library logs nothing meanwhile, unless `ORT_LOG` asks for it.
    fn quietly<T>(&self, work: impl FnOnce() -> T) -> T {
        if std::env::var_os("ORT_LOG").is_some() {
            return work();
        }
        self.environment.set_log_level(LogLevel::Fatal);
        let result = work();
        // what the environment starts with
        self.environment.set_log_level(LogLevel::Error);
        result
    }
}
