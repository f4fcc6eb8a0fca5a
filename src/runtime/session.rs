//! A session: one loaded graph.

use std::sync::Arc;

use ort::memory::MemoryInfo;
use ort::session::SessionInputValue;
use ort::value::{DynTensorRef, DynValue, Tensor, TensorElementType, TensorRef};

use super::gpu::Place;
use super::replay::Replays;
use super::resident::Resident;
use super::{Device, Precision, RuntimeError, State, gpu, peak};
use crate::t5::{Checkpoint, NarrowWeights};

/// A tensor that goes into a run.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// 32-bit floats, row-major, by their shape.
    F32(Vec<usize>, &'a [f32]),
    /// 64-bit integers, row-major, by their shape.
    I64(Vec<usize>, &'a [i64]),
    /// What an earlier run returned.
    Kept(&'a Output),
    /// What the run changes in place. Nothing else uses it meanwhile.
    State(&'a State),
}

/// A tensor that came out of a run.
#[derive(Debug)]
pub struct Output {
    name: String,
    value: DynValue,
}

/// One loaded graph, with its own buffers.
#[derive(Debug)]
pub struct Session {
    inner: Loaded,
    inputs: Vec<String>,
    outputs: Vec<String>,
    device: MemoryInfo<'static>,
    host: MemoryInfo<'static>,
    /// Whether results have to be checked to be finite.
    may_overflow: bool,
    /// Let go of after the graph.
    _weights: Weights,
}

/// What a session's weights lie in, if it has any.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "they are kept, not looked at")]
pub(super) struct Weights {
    pub(super) checkpoint: Option<Arc<Checkpoint>>,
    /// In the memory of a device.
    pub(super) resident: Option<Arc<Resident>>,
    pub(super) narrow: Option<Arc<NarrowWeights>>,
}

/// What ONNX Runtime loaded. On a GPU letting go of it frees memory, which a capture cannot hold.
#[derive(Debug)]
struct Loaded {
    session: Option<ort::session::Session>,
    /// They hold the session too.
    replays: Option<Replays>,
    on_gpu: bool,
}

// === impl Loaded ===

impl Loaded {
    fn get(&mut self) -> &mut ort::session::Session {
        self.session.as_mut().expect("invariant: it is there until it is dropped")
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _beside_others = self.on_gpu.then(gpu::beside_others);
        drop((self.replays.take(), self.session.take()));
    }
}

// === impl Input ===

impl<'a> Input<'a> {
    /// 32-bit floats, row-major.
    pub fn f32(shape: impl Into<Vec<usize>>, data: &'a [f32]) -> Self {
        Self::F32(shape.into(), data)
    }

    /// 64-bit integers, row-major.
    pub fn i64(shape: impl Into<Vec<usize>>, data: &'a [i64]) -> Self {
        Self::I64(shape.into(), data)
    }

    /// Its shape.
    pub(super) fn shape(&self) -> Vec<usize> {
        match self {
            Self::F32(shape, _) | Self::I64(shape, _) => shape.clone(),
            Self::Kept(output) => sizes(output.value.shape()),
            Self::State(state) => state.shape().to_vec(),
        }
    }

    pub(super) fn kept(&self) -> Option<&'a Output> {
        if let Self::Kept(output) = self { Some(output) } else { None }
    }

    pub(super) fn state(&self) -> Option<&'a State> {
        if let Self::State(state) = self { Some(state) } else { None }
    }
}

// === impl Output ===

impl Output {
    pub(super) fn element(&self) -> TensorElementType {
        *self.value.data_type()
    }

    /// Where it begins.
    pub(super) fn place(&self) -> Place {
        Place(self.tensor().data_ptr().cast_mut().cast())
    }

    /// Whether it lies in a memory.
    pub(super) fn is_on(&self, memory: &MemoryInfo<'_>) -> bool {
        self.tensor().memory_info().allocation_device() == memory.allocation_device()
    }

    fn tensor(&self) -> DynTensorRef<'_> {
        self.value.view().downcast().expect("invariant: what graphs compute are tensors")
    }

    pub(super) fn new(name: String, value: DynValue) -> Self {
        Self { name, value }
    }

    /// Its shape, if it holds 32-bit floats in the memory of the host.
    pub(super) fn shape(&self) -> Option<Vec<usize>> {
        let (shape, _) = self.value.try_extract_tensor::<f32>().ok()?;
        Some(sizes(shape))
    }

    /// The elements, row-major.
    ///
    /// # Errors
    /// If they are not 32-bit floats, or were kept on a GPU.
    pub fn f32s(&self) -> Result<&[f32], RuntimeError> {
        match self.value.try_extract_tensor::<f32>() {
            Ok((_, data)) => Ok(data),
            Err(_) => Err(RuntimeError::Output(self.name.clone())),
        }
    }
}

// === impl Session ===

impl Session {
    /// `replay` if runs of the same shapes are captured and replayed; the session was made for it.
    pub(super) fn new(
        inner: ort::session::Session,
        device: Device,
        replay: bool,
        weights: Weights,
    ) -> Result<Self, RuntimeError> {
        let names = |outlets: &[ort::value::Outlet]| outlets.iter().map(|o| o.name().to_owned()).collect();
        Ok(Self {
            inputs: names(inner.inputs()),
            outputs: names(inner.outputs()),
            device: device.memory()?,
            host: Device::Cpu.memory()?,
            may_overflow: false,
            _weights: weights,
            inner: Loaded {
                session: Some(inner),
                replays: if replay { Replays::on(device)? } else { None },
                on_gpu: device != Device::Cpu,
            },
        })
    }

    /// The same, whose results have to be finite if they may overflow in the precision.
    pub(super) fn checked_in(self, precision: Precision) -> Self {
        Self { may_overflow: precision.may_overflow(), ..self }
    }

    /// Runs the graph. Inputs that the graph does not read are left out, so callers may offer more.
    ///
    /// # Errors
    /// If ONNX Runtime fails: an input is missing or has the wrong shape, or memory is short. In f16, if a result is not
    /// finite.
    pub fn run(&mut self, inputs: &[(&str, Input<'_>)]) -> Result<Outputs, RuntimeError> {
        self.run_for(inputs, |_| true)
    }

    /// The same for those outputs alone that `wanted` names: others need not come to the host.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_for(
        &mut self,
        inputs: &[(&str, Input<'_>)],
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Outputs, RuntimeError> {
        let read: Vec<(&str, Input<'_>)> =
            inputs.iter().filter(|(name, _)| self.reads(name)).cloned().collect();
        let results = if let Loaded { session: Some(session), replays: Some(replays), .. } = &mut self.inner {
            replays.run(session, &self.outputs, &read, wanted)?
        } else {
            let _beside_others = self.inner.on_gpu.then(gpu::beside_others);
            let values = host_values(&read)?;
            let mut results = self.inner.get().run(values)?;
            take_all(&self.outputs, |name| results.remove(name))?
        };
        self.checked(results)
    }

    fn checked(&self, results: Outputs) -> Result<Outputs, RuntimeError> {
        if self.may_overflow { results.finite() } else { Ok(results) }
    }

    /// Lets go of runs that were captured with a [`State`] that is no more.
    pub fn forget_state(&mut self) {
        if let Some(replays) = &mut self.inner.replays {
            let _beside_others = gpu::beside_others();
            replays.forget();
        }
    }

    fn reads(&self, name: &str) -> bool {
        self.inputs.iter().any(|known| known == name)
    }

    /// The same for outputs that go into later runs: those that `keep` names stay in the memory of the device, where
    /// only [`Input::Kept`] reads them. All others come to the host.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_keeping(
        &mut self,
        inputs: &[(&str, Input<'_>)],
        keep: impl Fn(&str) -> bool,
    ) -> Result<Outputs, RuntimeError> {
        let _beside_others = self.inner.on_gpu.then(gpu::beside_others);
        let mut binding = self.inner.get().create_binding()?;
        for (name, input) in inputs {
            if !self.reads(name) {
                continue;
            }
            match input {
                // owned: ort copies a borrowed tensor that stays on its device by a session, and hangs
                Input::F32(shape, data) => {
                    binding.bind_input(*name, &Tensor::from_array((shape.clone(), data.to_vec()))?)?;
                }
                Input::I64(shape, data) => {
                    binding.bind_input(*name, &Tensor::from_array((shape.clone(), data.to_vec()))?)?;
                }
                Input::Kept(output) => binding.bind_input(*name, &output.value)?,
                Input::State(state) => binding.bind_input(*name, state.value())?,
            }
        }
        for name in &self.outputs {
            binding.bind_output_to_device(name, if keep(name) { &self.device } else { &self.host })?;
        }
        let results = {
            let mut results = self.inner.get().run_binding(&binding)?;
            take_all(&self.outputs, |name| results.remove(name))?
        };
        self.checked(results)
    }

    /// The most bytes that the session's tensors took on its device at once, in all runs so far: what runs compute, and
    /// weights that no other session reads. None if the library does not count them.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn peak_bytes(&mut self) -> Result<Option<usize>, RuntimeError> {
        peak::of(self.inner.get(), &self.device)
    }
}

fn sizes(shape: &[i64]) -> Vec<usize> {
    shape.iter().map(|&size| size.unsigned_abs() as usize).collect()
}

/// Inputs as a run takes them from the host.
pub(super) fn host_values<'i>(
    inputs: &'i [(&str, Input<'_>)],
) -> Result<Vec<(String, SessionInputValue<'i>)>, RuntimeError> {
    let value = |(name, input): &'i (&str, Input<'_>)| {
        let value: SessionInputValue<'i> = match input {
            Input::F32(shape, data) => TensorRef::from_array_view((shape.clone(), *data))?.into(),
            Input::I64(shape, data) => TensorRef::from_array_view((shape.clone(), *data))?.into(),
            Input::Kept(output) => (&output.value).into(),
            Input::State(state) => state.value().into(),
        };
        Ok(((*name).to_owned(), value))
    };
    inputs.iter().map(value).collect()
}

pub(super) fn take_all(
    names: &[String],
    mut take: impl FnMut(&str) -> Option<DynValue>,
) -> Result<Outputs, RuntimeError> {
    let output = |name: &String| {
        let value = take(name).ok_or_else(|| RuntimeError::Output(name.clone()))?;
        Ok(Output { name: name.clone(), value })
    };
    names.iter().map(output).collect::<Result<_, RuntimeError>>().map(Outputs)
}

/// What a run returned, by name.
#[derive(Debug)]
pub struct Outputs(Vec<Output>);

impl Outputs {
    pub(super) fn new(outputs: Vec<Output>) -> Self {
        Self(outputs)
    }

    /// The same if all numbers on the host are finite.
    fn finite(self) -> Result<Self, RuntimeError> {
        let overflowed = |output: &&Output| output.f32s().is_ok_and(|xs| xs.iter().any(|x| !x.is_finite()));
        match self.0.iter().find(overflowed) {
            Some(output) => Err(RuntimeError::NotFinite { output: output.name.clone() }),
            None => Ok(self),
        }
    }

    /// The outputs' shapes, in the order of the graph.
    pub(super) fn shapes(&self) -> impl Iterator<Item = Option<Vec<usize>>> {
        self.0.iter().map(Output::shape)
    }

    /// Takes an output out.
    ///
    /// # Errors
    /// If the graph has no such output.
    pub fn take(&mut self, name: &str) -> Result<Output, RuntimeError> {
        let at = self.0.iter().position(|output| output.name == name);
        at.map(|i| self.0.swap_remove(i)).ok_or_else(|| RuntimeError::Output(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(numbers: &[f32]) -> Outputs {
        let value = |xs: &[f32]| Tensor::from_array(([xs.len()], xs.to_vec())).unwrap().into_dyn();
        Outputs(vec![Output::new("loss".into(), value(&[1.0])), Output::new("logits".into(), value(numbers))])
    }

    #[test]
    fn what_left_the_range_of_f16_is_named_with_the_remedy() {
        crate::runtime::Runtime::start(None, Some(2)).unwrap();
        assert!(outputs(&[1.0, -1e9]).finite().is_ok());
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let words = outputs(&[0.5, bad]).finite().unwrap_err().to_string();
            assert!(
                words.starts_with("logits is not finite") && words.contains("--precision bf16"),
                "{words}"
            );
        }
    }
}
