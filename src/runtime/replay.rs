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
use super::{Device, RuntimeError};

/// Sets of shapes that are replayed at most; any other runs kernel by kernel.
const MOST: usize = 128;
/// Sets of shapes that are remembered at most.
const REMEMBERED: usize = 4096;

/// Shapes of the inputs, in their order.
type Shapes = Vec<Vec<usize>>;

/// The runs of a session, by their shapes.
#[derive(Debug)]
pub(super) struct Replays {
    gpu: Gpu,
    memory: MemoryInfo<'static>,
    plainly: Number,
    known: HashMap<Shapes, Known>,
    captured: usize,
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
    /// Keeps the memory.
    _tensor: DynTensor,
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
        }))
    }

    /// Runs a session on inputs that it reads. Shapes that came before are captured, if there is room for them.
    pub(super) fn run(
        &mut self,
        session: &mut Session,
        outputs: &[String],
        inputs: &[(&str, Input<'_>)],
    ) -> Result<Outputs, RuntimeError> {
        let shapes: Option<Shapes> =
            inputs.iter().map(|(_, input)| input.shape().map(<[_]>::to_vec)).collect();
        let has_elements = |shape: &Vec<usize>| shape.iter().all(|&size| size > 0);
        let Some(shapes) = shapes.filter(|shapes| shapes.iter().all(has_elements)) else {
            return plain(session, &self.plainly, outputs, inputs);
        };
        let room = self.known.len() < REMEMBERED;
        match self.known.entry(shapes) {
            Entry::Occupied(mut known) => {
                if let Known::Once(of_outputs) = known.get()
                    && self.captured < MOST
                {
                    let _alone = gpu::alone();
                    self.captured += 1;
                    let captured =
                        Captured::new(session, &self.memory, self.captured, inputs, outputs, of_outputs)?;
                    let results = captured.run(session, self.gpu, inputs, outputs)?;
                    known.insert(Known::Captured(Box::new(captured)));
                    return Ok(results);
                }
                let Known::Captured(captured) = known.get() else {
                    return plain(session, &self.plainly, outputs, inputs);
                };
                let _beside_others = gpu::beside_others();
                captured.run(session, self.gpu, inputs, outputs)
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
    let values = host_values(session, inputs)?;
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
        let on_gpu = |shape: &[usize], element| -> Result<(DynTensor, Place), RuntimeError> {
            let mut tensor = DynTensor::new(&allocator, element, shape.to_vec())?;
            let place = Place(tensor.data_ptr_mut());
            Ok((tensor, place))
        };
        let mut of_inputs = Vec::new();
        for (name, input) in inputs {
            let shape = input.shape().unwrap_or_default().to_vec();
            let element = if matches!(input, Input::I64(..)) {
                TensorElementType::Int64
            } else {
                TensorElementType::Float32
            };
            let (tensor, place) = on_gpu(&shape, element)?;
            binding.bind_input(*name, &tensor)?;
            of_inputs.push(OnGpu { shape, place, _tensor: tensor });
        }
        let mut results = Vec::new();
        for (name, shape) in outputs.iter().zip(of_outputs) {
            let (mut tensor, place) = on_gpu(shape, TensorElementType::Float32)?;
            binding.bind_output(name, &mut tensor)?;
            results.push(OnGpu { shape: shape.clone(), place, _tensor: tensor });
        }
        Ok(Self { number: Number::new(number as i64)?, binding, inputs: of_inputs, outputs: results })
    }

    fn run(
        &self,
        session: &mut Session,
        gpu: Gpu,
        inputs: &[(&str, Input<'_>)],
        outputs: &[String],
    ) -> Result<Outputs, RuntimeError> {
        gpu.within(|| {
            for (to, (_, from)) in self.inputs.iter().zip(inputs) {
                match from {
                    Input::F32(_, x) => gpu::copy_in(to.place, x)?,
                    Input::I64(_, x) => gpu::copy_in(to.place, x)?,
                    Input::Empty(_) | Input::Kept(_) => unreachable!("such inputs are not captured"),
                }
            }
            gpu::wait()
        })?;
        session.run_binding_with_options(&self.binding, &self.number.0)?;
        let copy = |from: &OnGpu| {
            let mut x = vec![0.0_f32; from.shape.iter().product()];
            gpu::copy_out(&mut x, from.place).map(|()| x)
        };
        let results = gpu.within(|| {
            gpu::wait()?;
            self.outputs.iter().map(copy).collect::<Result<Vec<_>, _>>()
        })?;
        let output = |((name, on_gpu), x): ((&String, &OnGpu), Vec<f32>)| {
            Ok(Output::new(name.clone(), Tensor::from_array((on_gpu.shape.clone(), x))?.into_dyn()))
        };
        let outputs = outputs.iter().zip(&self.outputs).zip(results).map(output);
        let outputs = outputs.collect::<Result<Vec<_>, RuntimeError>>()?;
        Ok(Outputs::new(outputs))
    }
}
