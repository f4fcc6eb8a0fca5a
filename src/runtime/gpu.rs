//! A GPU's memory by CUDA's driver, in the context that ONNX Runtime's provider uses too.
#![expect(
    unsafe_code,
    reason = "the driver's interface takes pointers and contexts; each call says why it may be made"
)]

use cudarc::driver::{DriverError, result, sys};

use super::{CudaProblem, Device, RuntimeError};

/// Memory of a GPU, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuMemory {
    /// What no process has taken.
    pub free: usize,
    /// All of it.
    pub total: usize,
}

/// A block of a GPU's memory.
#[derive(Debug)]
pub(super) struct GpuBlock {
    gpu: u32,
    at: sys::CUdeviceptr,
    bytes: usize,
}

// === impl GpuMemory ===

impl GpuMemory {
    /// Of a GPU that was [checked](super::Runtime::check).
    ///
    /// # Errors
    /// If the driver fails.
    pub fn of(gpu: u32) -> Result<Self, RuntimeError> {
        let (free, total) = in_context(gpu, result::mem_get_info)?;
        Ok(Self { free, total })
    }
}

// === impl GpuBlock ===

impl GpuBlock {
    /// Takes memory. What is in it is not defined.
    pub(super) fn new(gpu: u32, bytes: usize) -> Result<Self, RuntimeError> {
        // SAFETY: the block is written before anything reads it, and freed once, when it is dropped.
        let at = in_context(gpu, || unsafe { result::malloc_sync(bytes) })?;
        Ok(Self { gpu, at, bytes })
    }

    /// Where it begins, on the GPU.
    pub(super) fn at(&self) -> usize {
        self.at as usize
    }

    /// Copies bytes into it, from an offset on.
    ///
    /// # Panics
    /// If they do not fit.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), RuntimeError> {
        assert!(offset + bytes.len() <= self.bytes, "invariant: what is written fits into the block");
        let to = self.at + offset as sys::CUdeviceptr;
        // SAFETY: the bytes are inside the block, as was just checked; the copy has ended when the call returns.
        in_context(self.gpu, || unsafe { result::memcpy_htod_sync(to, bytes) })
    }
}

impl Drop for GpuBlock {
    fn drop(&mut self) {
        // SAFETY: the block was taken by `new` and nothing reads it any more. At the end of the process the driver may be
        // gone already, and with it the memory.
        drop(in_context(self.gpu, || unsafe { result::free_sync(self.at) }));
    }
}

/// Works in the primary context of a GPU, and leaves the thread's own as it was.
fn in_context<T>(gpu: u32, work: impl FnOnce() -> Result<T, DriverError>) -> Result<T, RuntimeError> {
    let device = Device::Cuda(gpu);
    // SAFETY: looks for the library, and no more.
    if !unsafe { sys::is_culib_present() } {
        let problem = CudaProblem::NoDriver { file: "libcuda.so.1".into() };
        return Err(RuntimeError::Device { device, problem });
    }
    let all = || {
        result::init()?;
        let handle = result::device::get(gpu.cast_signed())?;
        let before = result::ctx::get_current()?;
        // SAFETY: the handle is the driver's own. The context is not released: ONNX Runtime keeps it as long as the process.
        let context = unsafe { result::primary_ctx::retain(handle)? };
        // SAFETY: the context was just retained.
        unsafe { result::ctx::set_current(context)? };
        let done = work();
        // SAFETY: it was the thread's context before, or there was none.
        unsafe { result::ctx::set_current(before.unwrap_or(std::ptr::null_mut()))? };
        done
    };
    all().map_err(|error| match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            RuntimeError::OutOfMemory(format!("{device}: CUDA's driver says {error:?}"))
        }
        _ => RuntimeError::Device {
            device,
            problem: CudaProblem::Other(format!("CUDA's driver says {error:?}")),
        },
    })
}
