//! Copies between the memories of the processor and a GPU, by CUDA's driver.
#![expect(
    unsafe_code,
    reason = "the driver's interface takes pointers; each is said to be valid where it is passed"
)]

use std::ffi::c_void;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cudarc::driver::{DriverError, result, sys};

/// A GPU's context, which ONNX Runtime computes in too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gpu(usize);

/// Memory of a GPU that a tensor lies in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(pub(super) *mut c_void);

// SAFETY: it is an address of another memory, which nothing here reads.
unsafe impl Send for Place {}

/// While a thread captures a graph, no other may use a GPU in ways that a graph cannot hold, such as taking memory.
static CAPTURING: RwLock<()> = RwLock::new(());

/// Held while something else than a capture uses a GPU.
pub(super) fn beside_others() -> RwLockReadGuard<'static, ()> {
    CAPTURING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Held while a graph is captured.
pub(super) fn alone() -> RwLockWriteGuard<'static, ()> {
    CAPTURING.write().unwrap_or_else(PoisonError::into_inner)
}

// === impl Gpu ===

impl Gpu {
    /// The GPU of a number.
    pub(super) fn new(number: u32) -> Result<Self, DriverError> {
        result::init()?;
        let device = result::device::get(number.cast_signed())?;
        // SAFETY: the device is one that the driver named.
        let context = unsafe { result::primary_ctx::retain(device)? };
        Ok(Self(context as usize))
    }

    /// Makes the GPU that of the calling thread, for what follows.
    pub(super) fn enter(self) -> Result<(), DriverError> {
        // SAFETY: the context was retained and is never released.
        unsafe { result::ctx::set_current(self.0 as sys::CUcontext) }
    }

    /// Copies a tensor's elements to where they lie on the GPU. They are there when the GPU was [waited for](Self::wait):
    /// ONNX Runtime's stream would not wait for them.
    pub(super) fn copy_in<T>(self, to: Place, from: &[T]) -> Result<(), DriverError> {
        // SAFETY: the tensor is as large as the elements, and nothing computes on it now.
        unsafe { result::memcpy_htod_sync(to.0 as sys::CUdeviceptr, from) }
    }

    /// Waits for all computations and copies.
    pub(super) fn wait(self) -> Result<(), DriverError> {
        result::ctx::synchronize()
    }

    /// Copies a tensor's elements from where they lie on the GPU.
    pub(super) fn copy_out<T>(self, to: &mut [T], from: Place) -> Result<(), DriverError> {
        // SAFETY: the tensor is as large as the elements, and nothing computes on it now.
        unsafe { result::memcpy_dtoh_sync(to, from.0 as sys::CUdeviceptr) }
    }
}
