//! Replaying runs on a GPU: what a run launches, thousands of kernels, is captured once for each set of shapes and
//! launched as a whole from then on (a CUDA graph).
//!
//! A graph's tensors lie where they lay when it was captured, so every set of shapes has its own inputs and outputs on the
//! GPU. What lies between them is memory of the session that all of its graphs share; they run one at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use ort::memory::{Allocator, MemoryInfo};
use ort::session::{IoBinding, NoSelectedOutputs, RunOptions, Session};
use ort::value::{DynTensor, Tensor, TensorElementType};

use super::gpu::{self, Gpu, Place};
use super::session::{Input, Output, Outputs, host_values, take_all};
use super::{Device, RuntimeError, State};

/// Sets of shapes that are replayed at most; any other runs kernel by kernel.
const MOST: usize = 128;
/// Sets of shapes that are remembered at most.
const REMEMBERED: usize = 4096;

/// Shapes of tensors, in their order.
type Shapes = Vec<Vec<usize>>;
/// What a graph is captured for: the shapes of the inputs, and where those begin that stay where they are.
type Key = Vec<(Vec<usize>, Option<usize>)>;

/// The runs of a session, by their shapes.
#[derive(Debug)]
pub(super) struct Replays {
    gpu: Gpu,
    memory: MemoryInfo<'static>,
    plainly: Number,
    known: HashMap<Key, Known>,
    /// How many of them are captured.
    captured: usize,
    /// The number of the last graph.
    last: usize,
}

#[derive(Debug)]
enum Known {
    /// They came once; the outputs had these shapes.
    Once(Shapes),
    Captured(Box<Captured>),
}

/// Tensors on the GPU, and which graph computes with them.
#[derive(Debug)]
struct Captured {
    number: Number,
    binding: IoBinding,
    inputs: Vec<OnGpu>,
    outputs: Vec<OnGpu>,
}

/// Which graph a run captures or replays.
struct Number(RunOptions<NoSelectedOutputs>);

#[derive(Debug)]
struct OnGpu {
    shape: Vec<usize>,
    place: Place,
    bytes: usize,
    /// Keeps the memory, unless that is a state's.
    _tensor: Option<DynTensor>,
}

// === impl Replays ===

impl Replays {
    /// Of a session on a device, if it is a GPU.
    pub(super) fn on(device: Device) -> Result<Option<Self>, RuntimeError> {
        let Device::Cuda(number) = device else { return Ok(None) };
        Ok(Some(Self {
            gpu: Gpu::new(number)?,
            memory: device.memory()?,
            plainly: Number::new(-1)?,
            known: HashMap::new(),
            captured: 0,
            last: 0,
        }))
    }

    /// Lets go of all that was captured: a state that runs changed is no more.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.captured = 0;
    }

    /// Runs a session on inputs that it reads. Shapes that came before are captured, if there is room for them.
    pub(super) fn run(
        &mut self,
        session: &mut Session,
        outputs: &[String],
        inputs: &[(&str, Input<'_>)],
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Outputs, RuntimeError> {
        let has_elements = |shape: &Vec<usize>| shape.iter().all(|&size| size > 0);
        let key: Key =
            inputs.iter().map(|(_, input)| (input.shape(), input.state().map(State::at))).collect();
        // what was kept is copied on the GPU; a result that came to the host may be given back too
        let is_there =
            |(_, input): &(&str, Input<'_>)| input.kept().is_none_or(|output| output.is_on(&self.memory));
        if !key.iter().all(|(shape, _)| has_elements(shape)) || !inputs.iter().all(is_there) {
            return plain(session, &self.plainly, outputs, inputs);
        }
        let room = self.known.len() < REMEMBERED;
        match self.known.entry(key) {
            Entry::Occupied(mut known) => {
                if let Known::Once(of_outputs) = known.get()
                    && self.captured < MOST
                {
                    let _alone = gpu::alone();
                    (self.captured, self.last) = (self.captured + 1, self.last + 1);
                    let captured =
                        Captured::new(session, &self.memory, self.last, inputs, outputs, of_outputs)?;
                    let results = captured.run(session, self.gpu, inputs, outputs, wanted)?;
                    known.insert(Known::Captured(Box::new(captured)));
                    return Ok(results);
                }
                let Known::Captured(captured) = known.get() else {
                    return plain(session, &self.plainly, outputs, inputs);
                };
                let _beside_others = gpu::beside_others();
                captured.run(session, self.gpu, inputs, outputs, wanted)
            }
            Entry::Vacant(place) => {
                let results = plain(session, &self.plainly, outputs, inputs)?;
                let of_outputs: Option<Shapes> = results.shapes().collect();
                if let Some(of_outputs) = of_outputs
                    && room
                    && of_outputs.iter().all(has_elements)
                {
                    place.insert(Known::Once(of_outputs));
                }
                Ok(results)
            }
        }
    }
}

fn plain(
    session: &mut Session,
    number: &Number,
    outputs: &[String],
    inputs: &[(&str, Input<'_>)],
) -> Result<Outputs, RuntimeError> {
    let values = host_values(inputs)?;
    let _beside_others = gpu::beside_others();
    let mut results = session.run_with_options(values, &number.0)?;
    take_all(outputs, |name| results.remove(name))
}

// === impl Number ===

impl Number {
    /// -1 is none.
    fn new(number: i64) -> Result<Self, RuntimeError> {
        let mut options = RunOptions::new()?;
        options.set("gpu_graph_id", number.to_string())?;
        Ok(Self(options))
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Number")
    }
}

// === impl Captured ===

impl Captured {
    /// Lays out tensors. The first run captures; the GPU has to be [alone](gpu::alone) for it.
    fn new(
        session: &Session,
        memory: &MemoryInfo<'static>,
        number: usize,
        inputs: &[(&str, Input<'_>)],
        outputs: &[String],
        of_outputs: &Shapes,
    ) -> Result<Self, RuntimeError> {
        let allocator = Allocator::new(session, memory.clone())?;
        let mut binding = session.create_binding()?;
        let on_gpu = |shape: &[usize], element: TensorElementType| -> Result<_, RuntimeError> {
            let mut tensor = DynTensor::new(&allocator, element, shape.to_vec())?;
            let place = Place(tensor.data_ptr_mut());
            let bytes = element.byte_size(shape.iter().product()).unwrap_or_default();
            Ok((tensor, place, bytes))
        };
        let mut of_inputs = Vec::new();
        for (name, input) in inputs {
            let shape = input.shape();
            let element = match input {
                Input::F32(..) => TensorElementType::Float32,
                Input::I64(..) => TensorElementType::Int64,
                Input::Kept(output) => output.element(),
                Input::State(state) => {
                    binding.bind_input(*name, state.value())?;
                    of_inputs.push(OnGpu { shape, place: state.place(), bytes: 0, _tensor: None });
                    continue;
                }
            };
            let (tensor, place, bytes) = on_gpu(&shape, element)?;
            binding.bind_input(*name, &tensor)?;
            of_inputs.push(OnGpu { shape, place, bytes, _tensor: Some(tensor) });
        }
        let mut results = Vec::new();
        for (name, shape) in outputs.iter().zip(of_outputs) {
            let (mut tensor, place, bytes) = on_gpu(shape, TensorElementType::Float32)?;
            binding.bind_output(name, &mut tensor)?;
            results.push(OnGpu { shape: shape.clone(), place, bytes, _tensor: Some(tensor) });
        }
        Ok(Self { number: Number::new(number as i64)?, binding, inputs: of_inputs, outputs: results })
    }

    fn run(
        &self,
        session: &mut Session,
        gpu: Gpu,
        inputs: &[(&str, Input<'_>)],
        outputs: &[String],
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Outputs, RuntimeError> {
        gpu.within(|| {
            for (to, (_, from)) in self.inputs.iter().zip(inputs) {
                match from {
                    Input::F32(_, x) => gpu::copy_in(to.place, x)?,
                    Input::I64(_, x) => gpu::copy_in(to.place, x)?,
                    Input::Kept(output) => gpu::copy_over(to.place, output.place(), to.bytes)?,
                    Input::State(_) => {}
                }
            }
            gpu::wait()
        })?;
        session.run_binding_with_options(&self.binding, &self.number.0)?;
        let copy = |(name, from): (&String, &OnGpu)| {
            wanted(name).then(|| {
                let mut x = vec![0.0_f32; from.shape.iter().product()];
                gpu::copy_out(&mut x, from.place).map(|()| x)
            })
        };
        let results = gpu.within(|| {
            gpu::wait()?;
            outputs
                .iter()
                .zip(&self.outputs)
                .map(|output| copy(output).transpose())
                .collect::<Result<Vec<_>, _>>()
        })?;
        let output = |((name, on_gpu), x): ((&String, &OnGpu), Option<Vec<f32>>)| {
            let tensor = Tensor::from_array((on_gpu.shape.clone(), x?)).map_err(RuntimeError::from);
            Some(tensor.map(|tensor| Output::new(name.clone(), tensor.into_dyn())))
        };
        let outputs = outputs.iter().zip(&self.outputs).zip(results).filter_map(output);
        let outputs = outputs.collect::<Result<Vec<_>, RuntimeError>>()?;
        Ok(Outputs::new(outputs))
    }
}
