//! A checkpoint ready to run: its weights shared by every session of the process.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{DynValue, Tensor};

use super::borrowed::Borrowed;
use super::resident::Resident;
use super::session::Weights;
use super::{Device, GpuMemory, Precision, Runtime, RuntimeError, Session, State, gpu, kernels, placement};
use crate::graph::{Arithmetic, DType, External, Graph, Kernels, Narrow, Weight, WeightSource};
use crate::memory::{self, NotMoved};
use crate::t5::{Checkpoint, Config, NarrowWeights};

/// A frozen T5 on a runtime.
///
/// On a CPU a checkpoint stored as f32 is used in place: sessions read the mapped file. One stored as bf16 or f16 is expanded
/// to f32 once, and sessions share that memory. Weights are not prepacked (a private copy per session for 4 to 8 % of
/// speed). On a GPU all sessions read one copy, unless [told otherwise](Self::sharing_weights).
///
/// [Narrow] numbers are made once, kept in a file and mapped, in the order in which products read them.
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
    shares_weights: bool,
    resident: Arc<Mutex<Residents>>,
    narrow: Arc<Mutex<HashMap<Narrow, NarrowValues>>>,
}

/// Weights as narrow numbers, and what sessions share of them.
#[derive(Clone, Debug)]
struct NarrowValues {
    weights: Arc<NarrowWeights>,
    values: HashMap<String, Arc<DynValue>>,
}

/// Large weights by the device that they lie on and the format that they have there, as long as a session reads them.
type Residents = HashMap<(Device, DType), Weak<Resident>>;

/// Bytes of a GPU that anything else than weights and activations takes: CUDA's own, and what its libraries work in.
const BESIDE_WEIGHTS: usize = 1 << 30;

/// A session with operators of ours. ONNX Runtime looks whether it knows their domain and adds it if not, with nothing that
/// keeps two sessions from doing so at once, of which one fails; so the first is made alone.
fn commit_with_operators(mut builder: SessionBuilder, model: &[u8]) -> ort::Result<ort::session::Session> {
    static KNOWN: Mutex<bool> = Mutex::new(false);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if *known {
        drop(known);
        return builder.commit_from_memory(model);
    }
    let session = builder.commit_from_memory(model)?;
    *known = true;
    Ok(session)
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
            shares_weights: false,
            resident: Arc::default(),
            narrow: Arc::default(),
        }
    }

    /// The same to compute on `device`, in the precision that is usual there.
    #[must_use]
    pub fn on(self, device: Device) -> Self {
        Self { device, precision: Precision::of(device), shares_weights: device != Device::Cpu, ..self }
    }

    /// The same to compute in `precision`.
    #[must_use]
    pub fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same whose sessions read one copy of the large weights in the memory of each device, or have one each.
    #[must_use]
    pub fn sharing_weights(self, shares: bool) -> Self {
        Self { shares_weights: shares, ..self }
    }

    /// Whether all sessions on a device read one copy of the large weights.
    #[must_use]
    pub fn shares_weights(&self) -> bool {
        self.shares_weights
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

    /// Memory on the model's device for a graph's input that runs change in place, in the float type of its arithmetic.
    ///
    /// # Errors
    /// If memory is short.
    pub fn state(&self, shape: &[usize]) -> Result<State, RuntimeError> {
        State::new(self.device, self.arithmetic().floats, shape)
    }

    fn load(&self, graph: &Graph, sizes: &[(&str, usize)], replay: bool) -> Result<Session, RuntimeError> {
        self.precision.on(self.device)?;
        let recover = |error: ort::Error<_>| -> ort::Error { error.into() };
        let _beside_others = (self.device != Device::Cpu).then(gpu::beside_others);
        let mut builder = ort::session::Session::builder(&self.runtime.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)
            .map_err(recover)?
            .with_memory_pattern(false)
            .map_err(recover)?
            .with_prepacking(false)
            .map_err(recover)?
            .with_config_entry(
                "session.model_external_initializers_file_folder_path",
                self.checkpoint.weights_folder().to_string_lossy(),
            )
            .map_err(recover)?;
        builder = self.device.register(builder, self.precision, replay, self.runtime.library())?;
        if graph.has_own_operators() {
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
        let has_other_floats =
            self.device == Device::Cpu && !self.checkpoint.is_f32() && graph.narrow().is_none();
        let shares_weights = self.shares_weights || has_other_floats;
        let resident = if shares_weights { Some(self.resident(graph.floats())?) } else { None };
        let narrow = graph.narrow().map(|narrow| self.narrow(narrow)).transpose()?;
        let numbers = |name: &str| narrow.as_ref()?.values.get(name);
        // ONNX Runtime copies to a GPU what is not shared there
        let from_file = self.device != Device::Cpu && resident.is_none();
        let model = if from_file {
            self.checkpoint.onnx(graph)
        } else {
            for weight in graph.weights() {
                let value = match (numbers(weight.name), &resident) {
                    (Some(value), _) => Arc::clone(value),
                    (None, _) if is_small(&weight.shape) => continue,
                    (None, Some(resident)) => Arc::new(resident.value(&weight.parts, &weight.shape)?),
                    (None, None) => self.in_memory(&weight)?,
                };
                builder = builder.with_initializer(weight.name, value).map_err(recover)?;
            }
            graph.to_model(|name, shape| {
                if numbers(name).is_some() {
                    WeightSource::Session(self.anywhere(shape))
                } else if is_small(shape) {
                    WeightSource::Inline(self.checkpoint.f32s(name))
                } else {
                    WeightSource::Session(self.checkpoint.external(name))
                }
            })
        };
        let inner = if graph.has_own_operators() {
            commit_with_operators(builder, &model)?
        } else {
            builder.commit_from_memory(&model)?
        };
        let checkpoint = Some(Arc::clone(&self.checkpoint));
        let weights = Weights { checkpoint, resident, narrow: narrow.map(|narrow| narrow.weights) };
        Ok(Session::new(inner, self.device, replay, weights)?.checked_in(self.precision))
    }

    /// Weights as narrow numbers, made or read on first use.
    fn narrow(&self, narrow: Narrow) -> Result<NarrowValues, RuntimeError> {
        let mut known = self.narrow.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&narrow) {
            return Ok(known.clone());
        }
        let files = NarrowWeights::files(&self.checkpoint, narrow);
        let weights = NarrowWeights::open(&self.checkpoint, narrow, &files);
        let weights = Arc::new(weights.map_err(|source| RuntimeError::Narrow { narrow, source })?);
        tracing::info!(kept = %weights.kept(), "{} weights", narrow.name());
        let memory = self.device.memory()?;
        let value = |name: &str| {
            let (bytes, dtype, shape) = weights.tensor(name);
            let (at, bytes) = (bytes.as_ptr() as usize, bytes.len());
            let tensor = Borrowed { name, at, bytes, shape, dtype }.tensor(&memory)?;
            Ok((name.to_owned(), Arc::new(tensor)))
        };
        let values = weights.names().map(value).collect::<Result<_, RuntimeError>>()?;
        let new = NarrowValues { weights, values };
        known.insert(narrow, new.clone());
        Ok(new)
    }

    /// A place in the checkpoint's file: what ONNX wants of a weight that the session has.
    fn anywhere(&self, shape: &[usize]) -> External {
        let place = self.checkpoint.external(self.checkpoint.embedding());
        External { length: shape.iter().product::<usize>() as u64, dtype: DType::I8, ..place }
    }

    /// The large weights on the model's device, which are copied there if no session reads them yet.
    fn resident(&self, floats: DType) -> Result<Arc<Resident>, RuntimeError> {
        let mut all = self.resident.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (self.device, floats);
        if let Some(known) = all.get(&place).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let new = Resident::new(&self.checkpoint, self.device, floats, |shape| !is_small(shape))?;
        let new = Arc::new(new);
        all.insert(place, Arc::downgrade(&new));
        Ok(new)
    }

    /// Bytes of the weights, in the format that the model computes in.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let element = if self.arithmetic().floats == DType::F32 { 4 } else { 2 };
        self.checkpoint.parameters() * element
    }

    /// Bytes that are free on the model's GPU beside the weights, which all sessions share. None on a processor.
    ///
    /// # Errors
    /// If the weights alone do not fit, or the driver does not say what is free.
    pub fn room_beside_weights(&self) -> Result<Option<usize>, RuntimeError> {
        let Device::Cuda(gpu) = self.device else { return Ok(None) };
        self.room_in(GpuMemory::of(gpu)?).map(Some)
    }

    fn room_in(&self, memory: GpuMemory) -> Result<usize, RuntimeError> {
        let needed = self.weight_bytes() + BESIDE_WEIGHTS;
        memory.free.checked_sub(needed).ok_or(RuntimeError::TooLarge {
            device: self.device,
            precision: self.precision,
            needed: needed >> 20,
            free: memory.free >> 20,
            total: memory.total >> 20,
        })
    }

    /// A weight in f32 in the memory of the host: where the file is mapped, if it is stored so.
    fn in_memory(&self, weight: &Weight<'_>) -> Result<Arc<DynValue>, RuntimeError> {
        if let &[part] = weight.parts.as_slice()
            && let Cow::Borrowed(bytes) = self.checkpoint.bytes_as(part, DType::F32)
        {
            let (at, bytes) = (bytes.as_ptr() as usize, bytes.len());
            let stored = Borrowed { name: part, at, bytes, shape: &weight.shape, dtype: DType::F32 };
            return Ok(Arc::new(stored.tensor(&self.device.memory()?)?));
        }
        let mut expanded = self.expanded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = expanded.get(weight.name) {
            return Ok(known.clone());
        }
        let elements: Vec<f32> = weight.parts.iter().flat_map(|part| self.checkpoint.f32s(part)).collect();
        let tensor = Tensor::from_array((weight.shape.clone(), elements.into_boxed_slice()))?;
        let value = Arc::new(tensor.into_dyn());
        expanded.insert(weight.name.to_owned(), Arc::clone(&value));
        Ok(value)
    }

    /// Moves the weights that products on a processor stream through into huge pages, in which they are read faster.
    /// Sessions may run meanwhile. Returns how many bytes were moved; none if the model computes on a GPU.
    ///
    /// # Errors
    /// If the system has no huge pages, or too little memory is free.
    pub fn into_huge_pages(&self) -> Result<usize, NotMoved> {
        let known = self.narrow.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all = match self.arithmetic().kernels {
            Kernels::Narrow(narrow) => {
                known.get(&narrow).map(|own| own.weights.bytes()).into_iter().collect()
            }
            _ if self.device == Device::Cpu && self.checkpoint.is_f32() => self.checkpoint.files().collect(),
            _ => Vec::new(),
        };
        memory::into_huge_pages(&all)
    }
}

/// Whether a weight is a norm's scale or a table of position biases, which the runtime may fold into constants.
fn is_small(shape: &[usize]) -> bool {
    shape.iter().product::<usize>() <= 16 * 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_model_that_a_gpu_cannot_hold_is_refused_with_what_it_needs_and_what_is_free() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/t5-nano");
        let runtime = Runtime::start(None, Some(2)).unwrap();
        let model = Model::new(Checkpoint::open(&folder).unwrap(), runtime).on(Device::Cuda(1));
        let weights = model.weight_bytes();
        assert_eq!(weights, 4 * model.checkpoint().parameters());
        let memory = |free| GpuMemory { free, total: 80 << 30 };
        assert_eq!(model.room_in(memory(BESIDE_WEIGHTS + weights + 5)).unwrap(), 5);
        let short = memory(BESIDE_WEIGHTS + weights - 1);
        for half in [Precision::Bf16, Precision::F16] {
            let model = model.clone().in_precision(half);
            assert_eq!(model.room_in(short).unwrap(), weights / 2 - 1);
        }
        let words = model.room_in(short).unwrap_err().to_string();
        let needed = format!("{} MiB", (BESIDE_WEIGHTS + weights) >> 20);
        for part in ["cuda:1", "tf32", &needed, "81920 MiB", "nvidia-smi", "--precision bf16"] {
            assert!(words.contains(part), "{part} in {words}");
        }
    }
}
