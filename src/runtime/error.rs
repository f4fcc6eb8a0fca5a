//! Why ONNX Runtime could not do what was asked.

use std::path::PathBuf;

use super::{CudaProblem, Device, LibraryNotFound, Precision};
use crate::graph::Narrow;

/// Why ONNX Runtime could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No library was found.
    #[error(transparent)]
    NotFound(#[from] LibraryNotFound),
    /// The library was found, but does not load.
    #[error("{path}: {reason}; xprompt needs ONNX Runtime 1.24 or newer, `make setup` fetches it")]
    Load {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// A second runtime was asked for with another library.
    #[error("this process already runs on {0}: one ONNX Runtime library a process")]
    AlreadyStarted(PathBuf),
    /// The memory of the machine or the GPU does not suffice. A session can be run again, with less.
    #[error(
        "out of memory; compute less at once: lower the trainer's --memory or the server's --max-batch-tokens \
         (ONNX Runtime: {0})"
    )]
    OutOfMemory(String),
    /// The device cannot be used.
    #[error("device {device} cannot be used: {problem}")]
    Device {
        /// The device.
        device: Device,
        /// Why not.
        problem: CudaProblem,
    },
    /// The device does not compute in the precision that was asked for.
    #[error(
        "--precision {precision} cannot be had on {device}; f32 is had everywhere, tf32 and f16 on a GPU (--device cuda), \
         bf16 there and on processors with AMX or AVX512-BF16, int8 on a processor (--device cpu)"
    )]
    Precision {
        /// What was asked for.
        precision: Precision,
        /// The device.
        device: Device,
    },
    /// A GPU does not hold the model.
    #[error(
        "{device}: the model in {precision} needs {needed} MiB, and {free} of {total} MiB are free; see with nvidia-smi \
         what else runs there, compute in --precision bf16 (half of f32 and tf32), or on another device"
    )]
    TooLarge {
        /// The GPU.
        device: Device,
        /// What the model was to compute in.
        precision: Precision,
        /// MiB that the weights take, and what CUDA takes.
        needed: usize,
        /// MiB that are free.
        free: usize,
        /// MiB that the GPU has.
        total: usize,
    },
    /// A result is not finite, in a precision of a small range.
    #[error(
        "{output} is not finite: the activations of this model leave the range of f16 (65,504); compute in --precision \
         bf16, which takes as little memory and has the range of f32"
    )]
    NotFinite {
        /// The output of the graph.
        output: String,
    },
    /// One of several devices failed.
    #[error("{device}: {source}")]
    On {
        /// The device.
        device: Device,
        /// What happened there.
        source: Box<Self>,
    },
    /// The weights could not be made narrow.
    #[error("{} weights: {source}", narrow.name())]
    Narrow {
        /// What they were to be.
        narrow: Narrow,
        /// Why not.
        source: std::io::Error,
    },
    /// The processor has no products of bf16.
    #[error(
        "--precision bf16: this processor multiplies no bf16 (it has neither AVX512-BF16 nor AMX); compute in f32, or in \
         int8, which is faster"
    )]
    NoBf16,
    /// There is no memory for the weights.
    #[error("no memory for the weights: {0}")]
    Memory(std::io::Error),
    /// ONNX Runtime refused a model or failed in a run.
    #[error("ONNX Runtime: {0}")]
    Ort(String),
    /// The runtime returned something else than the graph says: a mistake of this program.
    #[error("output {0} is missing or of another type")]
    Output(String),
}

/// Parts of messages that tell of a failed allocation. ONNX Runtime has no code for it.
const OUT_OF_MEMORY: [&str; 8] = [
    // its arenas, on any device
    "Failed to allocate memory for requested buffer",
    "is smaller than requested bytes",
    // the C++ library
    "bad_alloc",
    "bad allocation",
    // the system, when a file is mapped
    "Cannot allocate memory",
    // CUDA, cuBLAS and cuDNN
    "out of memory",
    "ALLOC_FAILED",
    "ALLOCATION_FAILED",
];

// === impl RuntimeError ===

impl RuntimeError {
    /// The same with the name of the device where it happened.
    #[must_use]
    pub fn on(self, device: Device) -> Self {
        Self::On { device, source: Box::new(self) }
    }

    /// What ONNX Runtime said, if memory was short.
    #[must_use]
    pub fn out_of_memory(&self) -> Option<String> {
        match self {
            Self::OutOfMemory(reason) => Some(reason.clone()),
            Self::On { device, source } => source.out_of_memory().map(|reason| format!("{device}: {reason}")),
            _ => None,
        }
    }

    fn of(message: String) -> Self {
        if OUT_OF_MEMORY.iter().any(|part| message.contains(part)) {
            Self::OutOfMemory(message)
        } else {
            Self::Ort(message)
        }
    }
}

impl From<ort::Error> for RuntimeError {
    fn from(error: ort::Error) -> Self {
        // some messages end with a line break
        Self::of(error.to_string().trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages as ONNX Runtime 1.24 words them (`bfc_arena.cc`, `cuda_call.cc`, the C++ library's exceptions).
    #[test]
    fn a_failed_allocation_is_told_from_other_failures() {
        for message in [
            "Non-zero status code returned while running MatMul node. Name:'m' Status Message: \
             bfc_arena.cc:359 Failed to allocate memory for requested buffer of size 8589934592",
            "bfc_arena.cc:342 Available memory of 12 is smaller than requested bytes of 1024",
            "Non-zero status code returned while running Softmax node. Name:'s' Status Message: std::bad_alloc",
            "CUDA failure 2: out of memory ; GPU=0 ; file=cuda_allocator.cc ; expr=cudaMalloc((void**)&p, size);",
            "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; expr=cublasCreate(&cublas_handle_);",
            "mmap of model.safetensors failed: errno 12: Cannot allocate memory",
        ] {
            let error = RuntimeError::of(message.into());
            assert!(matches!(error, RuntimeError::OutOfMemory(_)), "{message}");
            let words = error.to_string();
            assert!(words.contains("--memory") && words.contains(message), "{words}");
        }
        for message in [
            "Got invalid dimensions for input: tokens for the following indices index: 0 Got: 3 Expected: 4",
            "Non-zero status code returned while running Gather node. Status Message: indices element out of data \
             bounds",
        ] {
            let error = RuntimeError::of(message.into());
            assert!(matches!(error, RuntimeError::Ort(_)), "{message}");
        }
    }
}
