//! Tensors over memory that somebody else keeps.
#![expect(unsafe_code, reason = "ONNX Runtime's interface takes a pointer; the owner keeps the memory")]

use std::ffi::c_void;
use std::ptr::NonNull;

use ort::AsPointer as _;
use ort::memory::{Allocator, MemoryInfo};
use ort::value::{DynValue, TensorElementType};

use super::RuntimeError;
use crate::graph::DType;

/// A weight in memory, on whatever device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Borrowed<'a> {
    /// What an error calls it.
    pub(super) name: &'a str,
    /// Where it begins; as an address, because the memory may be a GPU's.
    pub(super) at: usize,
    /// How long it is.
    pub(super) bytes: usize,
    pub(super) shape: &'a [usize],
    pub(super) dtype: DType,
}

// === impl Borrowed ===

impl Borrowed<'_> {
    /// A tensor over it. Whoever uses the tensor keeps the memory: a session holds both.
    pub(super) fn tensor(self, memory: &MemoryInfo<'_>) -> Result<DynValue, RuntimeError> {
        let element = match self.dtype {
            DType::F32 => TensorElementType::Float32,
            DType::Bf16 => TensorElementType::Bfloat16,
            DType::F16 => TensorElementType::Float16,
            DType::I8 => TensorElementType::Int8,
            DType::U8 | DType::I64 | DType::Bool => unreachable!("no weight is of {:?}", self.dtype),
        };
        let shape: Vec<i64> = self.shape.iter().map(|&size| size as i64).collect();
        let mut value = std::ptr::null_mut();
        // SAFETY: the bytes hold as many elements as the shape says, in the memory that is described, and aligned as their
        // owner laid them out. They outlive the session, which holds the owner; ONNX Runtime does not write to initializers.
        let status = unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                memory.ptr(),
                self.at as *mut c_void,
                self.bytes,
                shape.as_ptr(),
                shape.len(),
                element.into(),
                &raw mut value,
            )
        };
        // SAFETY: the status is of the call above, and is taken once.
        unsafe { ort::Error::result_from_status(status) }?;
        let value = NonNull::new(value)
            .ok_or_else(|| RuntimeError::Ort(format!("no tensor for the weight {}", self.name)))?;
        // SAFETY: the value was made above and has no other owner. It owns no memory, so its allocator is never used.
        Ok(unsafe { DynValue::from_ptr(value, Some(&Allocator::default())) })
    }
}
