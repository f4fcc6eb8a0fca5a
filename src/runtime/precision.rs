//! In which floating-point format a device computes.

use std::fmt;
use std::str::FromStr;

use super::Device;
use crate::graph::{Arithmetic, DType, Kernels};
use crate::t5::Config;

/// Elements of the widest head that attention's kernels take; heads come in eights of them.
const WIDEST_HEAD: usize = 64;

/// In which format weights and activations are kept, and matrices multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats throughout.
    F32,
    /// 32-bit floats; a GPU multiplies matrices with 10 bits of mantissa.
    Tf32,
    /// 16-bit brain floats on a GPU; a CPU, where ONNX Runtime has none, computes in f32. Statistics of norms, softmax, losses, prompts and their optimizer stay 32-bit floats.
    Bf16,
    /// On a processor products of 8-bit integers, all else in f32: weights with a scale for each output, activations with
    /// one for each row. Answers only; tuning computes in f32.
    Int8,
}

/// A precision that no precision is named by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no precision is named {0:?}; name f32, tf32, bf16 or int8")]
pub struct UnknownPrecision(String);

// === impl Precision ===

impl Precision {
    /// What a device computes in unless told otherwise.
    #[must_use]
    pub fn of(device: Device) -> Self {
        match device {
            Device::Cpu => Self::F32,
            Device::Cuda(_) => Self::Tf32,
        }
    }

    /// How graphs for a device are made.
    pub(super) fn arithmetic(self, device: Device, config: &Config) -> Arithmetic {
        match (self, device) {
            (Self::Int8, Device::Cpu) => Arithmetic { kernels: Kernels::Int8, floats: DType::F32 },
            (_, Device::Cpu) => Arithmetic::STANDARD,
            (Self::Bf16, Device::Cuda(_)) if config.d_kv.is_multiple_of(8) && config.d_kv <= WIDEST_HEAD => {
                Arithmetic { kernels: Kernels::FusedAttention, floats: DType::Bf16 }
            }
            (Self::Bf16, Device::Cuda(_)) => Arithmetic { kernels: Kernels::Fused, floats: DType::Bf16 },
            (_, Device::Cuda(_)) => Arithmetic { kernels: Kernels::Fused, floats: DType::F32 },
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, UnknownPrecision> {
        [Self::F32, Self::Tf32, Self::Bf16, Self::Int8]
            .into_iter()
            .find(|precision| precision.to_string() == name)
            .ok_or_else(|| UnknownPrecision(name.to_owned()))
    }
}
