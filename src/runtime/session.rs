//! A session: one loaded graph.

use ort::session::SessionInputValue;
use ort::value::{DynValue, TensorRef};

use super::RuntimeError;

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
    /// If they are not 32-bit floats.
    pub fn f32s(&self) -> Result<&[f32], RuntimeError> {
        match self.value.try_extract_tensor::<f32>() {
            Ok((_, data)) => Ok(data),
            Err(_) => Err(RuntimeError::Output(self.name.clone())),
        }
    }
}

// === impl Session ===

impl Session {
    pub(super) fn new(inner: ort::session::Session) -> Self {
        let outputs = inner.outputs().iter().map(|outlet| outlet.name().to_owned()).collect();
        Self { inner, outputs }
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
        let outputs = self
            .outputs
            .iter()
            .map(|name| {
                let value = results.remove(name).ok_or_else(|| RuntimeError::Output(name.clone()))?;
                Ok(Output { name: name.clone(), value })
            })
            .collect::<Result<_, RuntimeError>>()?;
        Ok(Outputs(outputs))
    }
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
