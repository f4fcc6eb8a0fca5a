//! A session: one loaded graph.

use std::sync::Arc;

use ort::memory::MemoryInfo;
use ort::session::SessionInputValue;
use ort::value::{DynValue, Tensor, TensorRef};

use super::{Device, RuntimeError};
use crate::t5::Int8Weights;

/// A tensor that goes into a run.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// 32-bit floats, row-major, by their shape.
    F32(Vec<usize>, &'a [f32]),
    /// 64-bit integers, row-major, by their shape.
    I64(Vec<usize>, &'a [i64]),
    /// What an earlier run returned.
    Kept(&'a Output),
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
    inner: ort::session::Session,
    outputs: Vec<String>,
    device: MemoryInfo<'static>,
    host: MemoryInfo<'static>,
    /// Memory that initializers are borrowed from; dropped after the session.
    _borrowed: Option<Arc<Int8Weights>>,
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
}

// === impl Output ===

impl Output {
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
    pub(super) fn new(inner: ort::session::Session, device: Device) -> Result<Self, RuntimeError> {
        Self::over(inner, device, None)
    }

    /// A session over integer weights.
    pub(super) fn over(
        inner: ort::session::Session,
        device: Device,
        borrowed: Option<Arc<Int8Weights>>,
    ) -> Result<Self, RuntimeError> {
        let outputs = inner.outputs().iter().map(|outlet| outlet.name().to_owned()).collect();
        Ok(Self {
            inner,
            outputs,
            device: device.memory()?,
            host: Device::Cpu.memory()?,
            _borrowed: borrowed,
        })
    }

    /// Runs the graph. Inputs that the graph does not read are left out, so callers may offer more.
    ///
    /// # Errors
    /// If ONNX Runtime fails: an input is missing or has the wrong shape, or memory is short.
    pub fn run(&mut self, inputs: &[(&str, Input<'_>)]) -> Result<Outputs, RuntimeError> {
        let known: Vec<&str> = self.inner.inputs().iter().map(ort::value::Outlet::name).collect();
        let mut values: Vec<(String, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for (name, input) in inputs {
            if !known.contains(name) {
                continue;
            }
            let value = match input {
                Input::F32(shape, data) => TensorRef::from_array_view((shape.clone(), *data))?.into(),
                Input::I64(shape, data) => TensorRef::from_array_view((shape.clone(), *data))?.into(),
                Input::Kept(output) => (&output.value).into(),
            };
            values.push(((*name).to_owned(), value));
        }
        let mut results = self.inner.run(values)?;
        take_all(&self.outputs, |name| results.remove(name))
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
        let mut binding = self.inner.create_binding()?;
        for (name, input) in inputs {
            if !self.inner.inputs().iter().any(|known| known.name() == *name) {
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
            }
        }
        for name in &self.outputs {
            binding.bind_output_to_device(name, if keep(name) { &self.device } else { &self.host })?;
        }
        let mut results = self.inner.run_binding(&binding)?;
        take_all(&self.outputs, |name| results.remove(name))
    }
}

fn take_all(
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
    /// Takes an output out.
    ///
    /// # Errors
    /// If the graph has no such output.
    pub fn take(&mut self, name: &str) -> Result<Output, RuntimeError> {
        let at = self.0.iter().position(|output| output.name == name);
        at.map(|i| self.0.swap_remove(i)).ok_or_else(|| RuntimeError::Output(name.to_owned()))
    }
}
