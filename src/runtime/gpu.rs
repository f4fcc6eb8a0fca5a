//! A GPU's memory by CUDA's driver, in the context that ONNX Runtime's provider uses too.
#![expect(
    unsafe_code,
    reason = "the driver's interface takes pointers and contexts; each call says why it may be made"
)]

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cudarc::driver::{DriverError, result, sys};

use super::{CudaProblem, Device, RuntimeError};

/// A GPU with its context.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gpu {
    number: u32,
    context: usize,
}

/// Memory of a GPU, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuMemory {
    /// What no process has taken.
    pub free: usize,
    /// All of it.
    pub total: usize,
}

/// Memory of a GPU that a tensor lies in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(pub(super) *mut c_void);

// SAFETY: it is an address of another memory, which nothing here reads.
unsafe impl Send for Place {}

/// A block of a GPU's memory.
#[derive(Debug)]
pub(super) struct GpuBlock {
    gpu: Gpu,
    at: sys::CUdeviceptr,
    bytes: usize,
}

/// While a thread captures a graph, no other may use a GPU in ways that a graph cannot hold, such as taking memory.
static CAPTURING: RwLock<()> = RwLock::new(());

/// Held while something else than a capture uses a GPU.
pub(super) struct BesideOthers(Option<RwLockReadGuard<'static, ()>>);

thread_local! {
    /// How many times the thread holds [`BesideOthers`], or [`Alone`].
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Waits for captures to end, and holds off others. A thread may ask again while it holds it.
pub(super) fn beside_others() -> BesideOthers {
    let held = HELD.get();
    HELD.set(held + 1);
    BesideOthers((held == 0).then(|| CAPTURING.read().unwrap_or_else(PoisonError::into_inner)))
}

impl Drop for BesideOthers {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
        // another thread goes on only now
        drop(self.0.take());
    }
}

/// Held while a graph is captured.
pub(super) struct Alone(Option<RwLockWriteGuard<'static, ()>>);

/// Waits until no other thread uses a GPU. The thread itself does not at that time.
pub(super) fn alone() -> Alone {
    let guard = CAPTURING.write().unwrap_or_else(PoisonError::into_inner);
    HELD.set(HELD.get() + 1);
    Alone(Some(guard))
}

impl Drop for Alone {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
        drop(self.0.take());
    }
}

// === impl Gpu ===

impl Gpu {
    /// The GPU of a number.
    ///
    /// # Errors
    /// If there is no driver, or none of that number.
    pub(super) fn new(number: u32) -> Result<Self, RuntimeError> {
        // SAFETY: looks for the library, and no more.
        if !unsafe { sys::is_culib_present() } {
            let problem = CudaProblem::NoDriver { file: "libcuda.so.1".into() };
            return Err(RuntimeError::Device { device: Device::Cuda(number), problem });
        }
        let retain = || {
            result::init()?;
            let handle = result::device::get(number.cast_signed())?;
            // SAFETY: the handle is the driver's own. The context is not released: ONNX Runtime keeps it as long as the
            // process.
            unsafe { result::primary_ctx::retain(handle) }
        };
        retain()
            .map(|context| Self { number, context: context as usize })
            .map_err(|error| failed(number, error))
    }

    /// Works in the GPU's context, and leaves the thread's own as it was.
    pub(super) fn within<T>(self, work: impl FnOnce() -> Result<T, DriverError>) -> Result<T, RuntimeError> {
        let all = || {
            let before = result::ctx::get_current()?;
            // SAFETY: the context was retained and is never released.
            unsafe { result::ctx::set_current(self.context as sys::CUcontext)? };
            let done = work();
            // SAFETY: it was the thread's context before, or there was none.
            unsafe { result::ctx::set_current(before.unwrap_or(std::ptr::null_mut()))? };
            done
        };
        all().map_err(|error| failed(self.number, error))
    }
}

fn failed(number: u32, error: DriverError) -> RuntimeError {
    let device = Device::Cuda(number);
    let words = format!("CUDA's driver says {error:?}");
    match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => RuntimeError::OutOfMemory(format!("{device}: {words}")),
        _ => RuntimeError::Device { device, problem: CudaProblem::Other(words) },
    }
}

/// Copies a tensor's elements to where they lie on the GPU of the thread. They are there when the GPU was
/// [waited for](wait): ONNX Runtime's stream would not wait for them.
pub(super) fn copy_in<T>(to: Place, from: &[T]) -> Result<(), DriverError> {
    // SAFETY: the tensor is as large as the elements, and nothing computes on it now.
    unsafe { result::memcpy_htod_sync(to.0 as sys::CUdeviceptr, from) }
}

/// Copies a tensor's elements from where they lie on the GPU of the thread.
pub(super) fn copy_out<T>(to: &mut [T], from: Place) -> Result<(), DriverError> {
    // SAFETY: the tensor is as large as the elements, and nothing computes on it now.
    unsafe { result::memcpy_dtoh_sync(to, from.0 as sys::CUdeviceptr) }
}

/// Copies bytes from one place on the GPU of the thread to another, as [`copy_in`] does.
pub(super) fn copy_over(to: Place, from: Place, bytes: usize) -> Result<(), DriverError> {
    // SAFETY: both tensors are as large, and nothing computes on them now.
    unsafe { result::memcpy_dtod_sync(to.0 as sys::CUdeviceptr, from.0 as sys::CUdeviceptr, bytes) }
}

/// Waits for all computations and copies on the GPU of the thread.
pub(super) fn wait() -> Result<(), DriverError> {
    result::ctx::synchronize()
}

// === impl GpuMemory ===

impl GpuMemory {
    /// Of a GPU that was [checked](super::Runtime::check).
    ///
    /// # Errors
    /// If the driver fails.
    pub fn of(gpu: u32) -> Result<Self, RuntimeError> {
        let (free, total) = Gpu::new(gpu)?.within(result::mem_get_info)?;
        Ok(Self { free, total })
    }
}

// === impl GpuBlock ===

impl GpuBlock {
    /// Takes memory. What is in it is not defined.
    pub(super) fn new(gpu: u32, bytes: usize) -> Result<Self, RuntimeError> {
        let gpu = Gpu::new(gpu)?;
        // SAFETY: the block is written before anything reads it, and freed once, when it is dropped.
        let at = gpu.within(|| unsafe { result::malloc_sync(bytes) })?;
        Ok(Self { gpu, at, bytes })
    }

    /// Where it begins, on the GPU.
    pub(super) fn at(&self) -> usize {
        self.at as usize
    }

    /// Copies bytes between addresses of the GPU, of this block or of another. Computations that were begun before are
    /// waited for.
    pub(super) fn copy(&self, to: usize, from: usize, bytes: usize) -> Result<(), RuntimeError> {
        let _beside_others = beside_others();
        self.gpu.within(|| {
            wait()?;
            copy_over(Place(to as *mut c_void), Place(from as *mut c_void), bytes)?;
            wait()
        })
    }

    /// Copies bytes into it, from an offset on.
    ///
    /// # Panics
    /// If they do not fit.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), RuntimeError> {
        assert!(offset + bytes.len() <= self.bytes, "invariant: what is written fits into the block");
        let to = self.at + offset as sys::CUdeviceptr;
        self.gpu.within(|| {
            // SAFETY: the bytes are inside the block, as was just checked.
            unsafe { result::memcpy_htod_sync(to, bytes)? };
            wait()
        })
    }
}

impl Drop for GpuBlock {
    fn drop(&mut self) {
        let _beside_others = beside_others();
        // SAFETY: the block was taken by `new` and nothing reads it any more. At the end of the process the driver may be
        // gone already, and with it the memory.
        drop(self.gpu.within(|| unsafe { result::free_sync(self.at) }));
    }
}
