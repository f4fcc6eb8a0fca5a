//! Where sessions compute.

use std::fmt;
use std::path::Path;

use ort::ep::ArenaExtendStrategy;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::SessionBuilder;

use super::{CudaProblem, Precision, RuntimeError};

/// A device that sessions compute on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(u32),
}

// === impl Device ===

impl Device {
    /// The kind of the device, without the number: `cpu` or `cuda`.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
        }
    }

    /// The memory that its tensors lie in.
    pub(super) fn memory(self) -> Result<MemoryInfo<'static>, RuntimeError> {
        let (device, number) = match self {
            Self::Cpu => (AllocationDevice::CPU, 0),
            Self::Cuda(number) => (AllocationDevice::CUDA, number),
        };
        Ok(MemoryInfo::new(device, number.cast_signed(), AllocatorType::Device, MemoryType::Default)?)
    }

    /// Puts a session's nodes on the device. A device that cannot be used is an error, never a silent fallback.
    /// With `replay`, a GPU can capture runs and replay them. `library` is the ONNX Runtime in use.
    pub(super) fn register(
        self,
        builder: SessionBuilder,
        precision: Precision,
        replay: bool,
        library: &Path,
    ) -> Result<SessionBuilder, RuntimeError> {
        let Self::Cuda(number) = self else { return Ok(builder) };
        let provider = ort::ep::CUDA::default()
            .with_device_id(number.cast_signed())
            .with_tf32(precision == Precision::Tf32)
            .with_cuda_graph(replay)
            .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
            .build()
            .error_on_failure();
        builder.with_execution_providers([provider]).map_err(|error| RuntimeError::Device {
            device: self,
            problem: CudaProblem::of(error.to_string().trim_end(), library),
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}
