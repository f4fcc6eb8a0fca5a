//! A checkpoint ready to run: its weights shared by every session of the process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::session::builder::{GraphOptimizationLevel, PrepackedWeights};
use ort::value::{DynValue, Tensor};

use super::borrowed::int8_tensor;
use super::{Device, Precision, Runtime, RuntimeError, Session, gpu, kernels, placement};
use crate::graph::{Arithmetic, DType, External, Graph, WeightSource};
use crate::t5::{Checkpoint, Config, Int8Weights};

/// A frozen T5 on a runtime.
///
/// A checkpoint stored as f32 is used in place: sessions map the file and share its pages. One stored as bf16
/// or f16 is expanded to f32 once, tensor by tensor on first use, and sessions share that memory. Weights are
/// not prepacked (a private copy per session for 4 to 8 % of speed). On a GPU every session holds its own copy.
///
/// In [`Precision::Int8`] the integers are made once, kept in a file and mapped; ONNX Runtime packs them for its kernels
/// (small batches take half the time), and sessions share what was packed.
///
/// A clone is the same model: it shares the files and what was expanded, so that [`on`](Self::on) puts one checkpoint on
/// several devices.
#[derive(Clone, Debug)]
pub struct Model {
    checkpoint: Arc<Checkpoint>,
    runtime: Runtime,
    device: Device,
    precision: Precision,
    /// Where sessions leave profiles, if they do.
    profiles: Option<PathBuf>,
    expanded: Arc<Mutex<HashMap<String, Arc<DynValue>>>>,
    int8: Arc<Mutex<Option<Int8>>>,
}

/// The integers and what sessions share of them.
#[derive(Clone, Debug)]
struct Int8 {
    weights: Arc<Int8Weights>,
    values: HashMap<String, Arc<DynValue>>,
    packed: PrepackedWeights,
}

// === impl Model ===

impl Model {
    /// Puts a checkpoint on a runtime, to compute on the processor.
    #[must_use]
    pub fn new(checkpoint: Checkpoint, runtime: Runtime) -> Self {
        Self {
            checkpoint: Arc::new(checkpoint),
            runtime,
            device: Device::Cpu,
            precision: Precision::F32,
            profiles: None,
            expanded: Arc::default(),
            int8: Arc::default(),
        }
    }

    /// The same to compute on `device`, in the precision that is usual there.
    #[must_use]
    pub fn on(self, device: Device) -> Self {
        Self { device, precision: Precision::of(device), ..self }
    }

    /// The same to compute in `precision`.
    #[must_use]
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// In which format it computes.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The same whose sessions each leave a profile of their runs in a folder, when they are dropped. [`Placed::read`]
    /// reads them. Profiling slows every run down.
    ///
    /// [`Placed::read`]: super::Placed::read
    #[must_use]
    pub fn profiled(self, folder: &Path) -> Self {
        Self { profiles: Some(folder.to_owned()), ..self }
    }

    /// The weights and their configuration.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The model's configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.checkpoint.config()
    }

    /// The runtime.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Where sessions compute.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// How graphs for the model's device compute.
    #[must_use]
    pub fn arithmetic(&self) -> Arithmetic {
        self.precision.arithmetic(self.device, self.config())
    }

    /// Loads a graph over the model's weights. `sizes` fixes named dimensions; a large graph loads ten times
    /// faster when all are fixed.
    ///
    /// Memory is not planned by shape: a plan is kept for every shape that was ever seen.
    ///
    /// # Errors
    /// If ONNX Runtime refuses the graph or memory is short.
    pub fn session(&self, graph: &Graph, sizes: &[(&str, usize)]) -> Result<Session, RuntimeError> {
        self.load(graph, sizes, false)
    }

    /// The same for a graph that runs on the same shapes again and again: on a GPU, what the second such run launches is
    /// captured, and later ones launch it as a whole. All of its outputs are f32.
    ///
    /// # Errors
    /// As [`session`](Self::session).
    pub fn replayed_session(&self, graph: &Graph) -> Result<Session, RuntimeError> {
        // a profile is of nodes, which a replay does not run
        self.load(graph, &[], self.device != Device::Cpu && self.profiles.is_none())
    }

    fn load(&self, graph: &Graph, sizes: &[(&str, usize)], replay: bool) -> Result<Session, RuntimeError> {
        let recover = |error: ort::Error<_>| -> ort::Error { error.into() };
        let mut builder = ort::session::Session::builder(&self.runtime.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)
            .map_err(recover)?
            .with_memory_pattern(false)
            .map_err(recover)?
            .with_prepacking(graph.is_int8())
            .map_err(recover)?
            .with_config_entry(
                "session.model_external_initializers_file_folder_path",
                self.checkpoint.weights_folder().to_string_lossy(),
            )
            .map_err(recover)?;
        builder = self.device.register(builder, self.precision, replay, self.runtime.library())?;
        if graph.kernels().are_fused() {
            builder = builder.with_operators(kernels::domain(self.device)?).map_err(recover)?;
        }
        if let Some(folder) = &self.profiles {
            // a profile of threads that other sessions use too breaks their runs
            builder = builder.with_independent_thread_pool().map_err(recover)?;
            builder = builder.with_profiling(placement::new_profile(folder)).map_err(recover)?;
        }
        for &(name, size) in sizes {
            builder = builder.with_dimension_override(name, size as i64).map_err(recover)?;
        }
        let int8 = if graph.is_int8() { Some(self.int8()?) } else { None };
        if let Some(int8) = &int8 {
            builder = builder.with_prepacked_weights(&int8.packed).map_err(recover)?;
        }
        let in_place = self.checkpoint.is_f32() || self.device != Device::Cpu;
        let shapes: HashMap<&str, Vec<usize>> = graph.weights().collect();
        let integers = |name: &str| int8.as_ref().and_then(|int8| int8.values.get(name));
        for (name, shape) in graph.weights() {
            if let Some(value) = integers(name) {
                builder = builder.with_initializer(name, Arc::clone(value)).map_err(recover)?;
            } else if !in_place && !is_small(&shape) {
                builder = builder.with_initializer(name, self.expanded(name, &shape)?).map_err(recover)?;
            }
        }
        let model = graph.to_model(|name| {
            if integers(name).is_some() {
                WeightSource::Session(self.anywhere(&shapes[name]))
            } else if in_place {
                WeightSource::File(self.checkpoint.external(name))
            } else if is_small(&shapes[name]) {
                WeightSource::Inline(self.checkpoint.f32s(name))
            } else {
                WeightSource::Session(self.checkpoint.external(name))
            }
        });
        let _beside_others = (self.device != Device::Cpu).then(gpu::beside_others);
        let session = Session::new(builder.commit_from_memory(&model)?, self.device, replay)?;
        Ok(session.over(int8.map(|int8| int8.weights)))
    }

    /// The integers, made or read on first use.
    fn int8(&self) -> Result<Int8, RuntimeError> {
        let mut known = self.int8.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref() {
            return Ok(known.clone());
        }
        let files = Int8Weights::files(&self.checkpoint);
        let weights = Arc::new(Int8Weights::open(&self.checkpoint, &files).map_err(RuntimeError::Int8)?);
        tracing::info!(int8 = %weights.kept(), "int8 weights");
        let value = |name: &str| Ok((name.to_owned(), Arc::new(int8_tensor(&weights, name)?)));
        let values = weights.names().map(value).collect::<Result<_, RuntimeError>>()?;
        let int8 = Int8 { weights, values, packed: PrepackedWeights::new() };
        *known = Some(int8.clone());
        Ok(int8)
    }

    /// A place in the checkpoint's file: what ONNX wants of a weight that the session has.
    fn anywhere(&self, shape: &[usize]) -> External {
        let place = self.checkpoint.external(self.checkpoint.embedding());
        External { length: shape.iter().product::<usize>() as u64, dtype: DType::I8, ..place }
    }

    fn expanded(&self, name: &str, shape: &[usize]) -> Result<Arc<DynValue>, RuntimeError> {
        let mut expanded = self.expanded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = expanded.get(name) {
            return Ok(known.clone());
        }
        let tensor = Tensor::from_array((shape, self.checkpoint.f32s(name).into_boxed_slice()))?;
        let value = Arc::new(tensor.into_dyn());
        expanded.insert(name.to_owned(), Arc::clone(&value));
        Ok(value)
    }
}

/// Whether a weight is a norm's scale or a table of position biases, which the runtime may fold into constants.
fn is_small(shape: &[usize]) -> bool {
    shape.iter().product::<usize>() <= 16 * 1024
}
