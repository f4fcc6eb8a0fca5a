//! Memory of a device that runs read and write in place, and that stays where it is between them.
#![expect(unsafe_code, reason = "elements are copied by address; each copy says why it may be made")]

use std::ffi::c_void;
use std::fmt;

use ort::value::DynValue;

use super::borrowed::Borrowed;
use super::gpu::{self, GpuBlock, Place};
use super::{Device, RuntimeError};
use crate::graph::DType;

/// A tensor that runs change in place ([`Input::State`](super::Input::State)).
pub struct State {
    // before the memory that it lies in
    value: DynValue,
    memory: Memory,
    dtype: DType,
    shape: Vec<usize>,
}

enum Memory {
    Gpu(GpuBlock),
    /// Where the floats begin, which nothing reads or writes but by that address.
    Host(#[expect(dead_code, reason = "keeps the memory")] Vec<f32>, usize),
}

// === impl State ===

impl State {
    /// Takes memory. What is in it is not defined.
    pub(super) fn new(device: Device, dtype: DType, shape: &[usize]) -> Result<Self, RuntimeError> {
        let elements: usize = shape.iter().product();
        let bytes = elements * size(dtype);
        let memory = match device {
            Device::Cpu => {
                let mut floats = vec![0.0; bytes / size_of::<f32>()];
                let at = floats.as_mut_ptr() as usize;
                Memory::Host(floats, at)
            }
            Device::Cuda(gpu) => {
                let _beside_others = gpu::beside_others();
                Memory::Gpu(GpuBlock::new(gpu, bytes.max(1))?)
            }
        };
        let value =
            Borrowed { name: "state", at: memory.at(), bytes, shape, dtype }.tensor(&device.memory()?)?;
        Ok(Self { value, memory, dtype, shape: shape.to_vec() })
    }

    pub(super) fn value(&self) -> &DynValue {
        &self.value
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Where it begins.
    pub(super) fn at(&self) -> usize {
        self.memory.at()
    }

    pub(super) fn place(&self) -> Place {
        Place(self.at() as *mut c_void)
    }

    /// Copies the first of the entries of the first axis to another place among them, or from a state of the same kind.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If the entries do not fit.
    pub fn copy_entries(
        &mut self,
        to: usize,
        from: Option<&Self>,
        first: usize,
        count: usize,
    ) -> Result<(), RuntimeError> {
        let source = from.unwrap_or(self);
        assert_eq!(self.shape[1..], source.shape[1..], "invariant: the states are of one kind");
        let fits = first + count <= source.shape[0] && to + count <= self.shape[0];
        assert!(fits, "invariant: {count} entries from {first} to {to} are inside");
        let entry = self.shape[1..].iter().product::<usize>() * size(self.dtype);
        let (to, from, bytes) = (self.at() + to * entry, source.at() + first * entry, count * entry);
        match &self.memory {
            Memory::Gpu(block) => block.copy(to, from, bytes),
            Memory::Host(..) => {
                // SAFETY: both ranges are inside their states, as was just checked; no run goes on, for it would borrow them.
                unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes) };
                Ok(())
            }
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({:?} {:?})", self.dtype, self.shape)
    }
}

fn size(dtype: DType) -> usize {
    if dtype == DType::F32 { 4 } else { 2 }
}

// === impl Memory ===

impl Memory {
    fn at(&self) -> usize {
        match self {
            Self::Gpu(block) => block.at(),
            Self::Host(_, at) => *at,
        }
    }
}
