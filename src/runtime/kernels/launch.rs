//! The CUDA driver: loading the PTX once a GPU, and launching kernels from it.
#![expect(
    unsafe_code,
    reason = "the driver's interface takes pointers; each is said to be valid where it is passed"
)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CStr, CString, c_void};
use std::sync::{Mutex, PoisonError};

use cudarc::driver::DriverError;
use cudarc::driver::{result, sys};

/// The kernels, compiled for Ampere and newer, with the zero byte that the driver wants behind them.
const PTX: &str = concat!(include_str!("kernels.ptx"), "\0");

/// Threads of a block whose threads work on elements, or whose warps each on a row.
const BLOCK: u32 = 256;
/// Threads that work on one row.
const WARP: u32 = 32;
/// Threads of a block that works on a row, or on a tile.
const WHOLE_BLOCK: u32 = 128;
/// Threads of a block that works on a row of a vocabulary.
const WIDE_BLOCK: u32 = 1024;
/// Rows of a tile.
pub(super) const TILE: i64 = 64;

/// How many threads a launch needs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// A thread for each element, or for each group of them.
    Elements(i64),
    /// A warp for each row.
    Rows(i64),
    /// A block for each row, or for each tile.
    Blocks(i64),
    /// A wide block for each row.
    WideBlocks(i64),
}

/// The arguments of a kernel, in order.
#[derive(Debug, Default)]
pub(super) struct Arguments(Vec<Argument>);

#[derive(Debug)]
enum Argument {
    Pointer(*mut c_void),
    Int64(i64),
    Int32(i32),
}

/// Why a kernel was not launched.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaunchError {
    #[error("CUDA's driver says {0:?}")]
    Driver(DriverError),
    #[error("no CUDA context is current")]
    NoContext,
    #[error("{0} blocks are too many")]
    TooMany(i64),
}

/// Functions of the PTX by the context that it was loaded in. They live as long as the process, as contexts do.
static LOADED: Mutex<Option<HashMap<usize, Loaded>>> = Mutex::new(None);

/// The module of one context, and what was looked up in it.
struct Loaded {
    module: usize,
    functions: HashMap<CString, usize>,
}

// === impl Arguments ===

impl Arguments {
    pub(super) fn pointers<const N: usize>(&mut self, pointers: [*mut c_void; N]) -> &mut Self {
        self.0.extend(pointers.map(Argument::Pointer));
        self
    }

    pub(super) fn int64(&mut self, x: i64) -> &mut Self {
        self.0.push(Argument::Int64(x));
        self
    }

    /// A size along an axis. None that fits into a GPU's memory is too large.
    pub(super) fn int32(&mut self, x: i64) -> &mut Self {
        self.0.push(Argument::Int32(i32::try_from(x).unwrap_or(i32::MAX)));
        self
    }
}

// === impl LaunchError ===

impl From<DriverError> for LaunchError {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

/// Launches a kernel on a stream of the current context, which ONNX Runtime has made current before it computes.
pub(super) fn launch(
    name: &CStr,
    shape: Shape,
    stream: *mut c_void,
    arguments: &mut Arguments,
) -> Result<(), LaunchError> {
    let (blocks, threads) = match shape {
        Shape::Elements(elements) => (elements.div_euclid(i64::from(BLOCK)).saturating_add(1), BLOCK),
        Shape::Rows(rows) => (rows.div_euclid(i64::from(BLOCK / WARP)).saturating_add(1), BLOCK),
        Shape::Blocks(blocks) => (blocks, WHOLE_BLOCK),
        Shape::WideBlocks(blocks) => (blocks, WIDE_BLOCK),
    };
    if blocks == 0 {
        return Ok(());
    }
    let blocks = i32::try_from(blocks).map_err(|_| LaunchError::TooMany(blocks))?.cast_unsigned();
    let function = function(name)?;
    let mut pointers: Vec<*mut c_void> = arguments
        .0
        .iter_mut()
        .map(|argument| match argument {
            Argument::Pointer(pointer) => std::ptr::from_mut(pointer).cast(),
            Argument::Int64(x) => std::ptr::from_mut(x).cast(),
            Argument::Int32(x) => std::ptr::from_mut(x).cast(),
        })
        .collect();
    // SAFETY: the function is of the current context's module; the arguments are those that the kernel declares, and
    // ONNX Runtime keeps the tensors alive until the stream has passed this launch.
    unsafe {
        result::launch_kernel(
            function as sys::CUfunction,
            (blocks, 1, 1),
            (threads, 1, 1),
            0,
            stream.cast(),
            &mut pointers,
        )?;
    }
    Ok(())
}

/// A kernel in the current context, whose module is loaded the first time.
fn function(name: &CStr) -> Result<usize, LaunchError> {
    let context = result::ctx::get_current()?.ok_or(LaunchError::NoContext)? as usize;
    let mut contexts = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let contexts = contexts.get_or_insert_default();
    let loaded = match contexts.entry(context) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => {
            // SAFETY: the image is PTX text that ends with a zero byte.
            let module = unsafe { result::module::load_data(PTX.as_ptr().cast())? } as usize;
            place.insert(Loaded { module, functions: HashMap::new() })
        }
    };
    if let Some(&known) = loaded.functions.get(name) {
        return Ok(known);
    }
    // SAFETY: the module was loaded above and is never unloaded.
    let function = unsafe { result::module::get_function(loaded.module as sys::CUmodule, name.to_owned())? };
    loaded.functions.insert(name.to_owned(), function as usize);
    Ok(function as usize)
}
