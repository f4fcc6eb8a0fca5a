//! Tensors over memory that somebody else keeps.
#![expect(unsafe_code, reason = "ONNX Runtime's interface takes a pointer; the owner keeps the memory")]

use std::ptr::NonNull;
use std::sync::Arc;

use ort::AsPointer as _;
use ort::memory::Allocator;
use ort::value::{DynValue, TensorElementType};

use super::{Device, RuntimeError};
use crate::graph::DType;
use crate::t5::Int8Weights;

/// A tensor of a checkpoint's integers, in their memory.
///
/// Whoever uses the tensor keeps `weights`: a session holds both.
pub(super) fn int8_tensor(weights: &Arc<Int8Weights>, name: &str) -> Result<DynValue, RuntimeError> {
    let (bytes, dtype, shape) = weights.tensor(name);
    let element = match dtype {
        DType::I8 => TensorElementType::Int8,
        DType::F32 => TensorElementType::Float32,
        other => unreachable!("integer weights are i8 with scales in f32, not {other:?}"),
    };
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    let memory = Device::Cpu.memory()?;
    let mut value = std::ptr::null_mut();
    // SAFETY: the bytes hold as many elements as the shape says, aligned as the file's layout has them. They outlive the
    // session, which holds `weights`, and ONNX Runtime does not write to initializers.
    let status = unsafe {
        (ort::api().CreateTensorWithDataAsOrtValue)(
            memory.ptr(),
            bytes.as_ptr().cast_mut().cast(),
            bytes.len(),
            shape.as_ptr(),
            shape.len(),
            element.into(),
            &raw mut value,
        )
    };
    // SAFETY: the status is of the call above, and is taken once.
    unsafe { ort::Error::result_from_status(status) }?;
    let value = NonNull::new(value).ok_or_else(|| RuntimeError::Ort(format!("no tensor for {name}")))?;
    // SAFETY: the value was made above and has no other owner.
    Ok(unsafe { DynValue::from_ptr(value, Some(&Allocator::default())) })
}
