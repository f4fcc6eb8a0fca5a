//! In which floating-point format a device computes.

use std::fmt;
use std::str::FromStr;

use super::{Device, RuntimeError, kernels};
use crate::graph::{Arithmetic, DType, Kernels, Narrow};
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
    /// 16-bit brain floats. Statistics of norms, softmax, losses, prompts and their optimizer stay 32-bit floats. On a processor
    /// that multiplies them it is what products are of, and all else is in f32; answers only, tuning computes in f32.
    Bf16,
    /// IEEE 16-bit floats on a GPU, otherwise as bf16. Activations of many T5s leave their range, 65,504: a run whose results
    /// are not finite fails.
    F16,
    /// On a processor products of 8-bit integers, all else in f32: weights with a scale for each output, activations with
    /// one for each row. Answers only; tuning computes in f32.
    Int8,
}

/// A precision that no precision is named by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no precision is named {0:?}; name f32, tf32, bf16, f16 or int8")]
pub struct UnknownPrecision(String);

// === impl Precision ===

impl Precision {
    /// What a device computes in unless told otherwise: what gradients and importance scores want.
    #[must_use]
    pub fn of(device: Device) -> Self {
        match device {
            Device::Cpu => Self::F32,
            Device::Cuda(_) => Self::Tf32,
        }
    }

    /// The same for answers: a GPU takes half the memory and half the time for them in bf16.
    #[must_use]
    pub fn of_serving(device: Device) -> Self {
        match device {
            Device::Cpu => Self::F32,
            Device::Cuda(_) => Self::Bf16,
        }
    }

    /// The same if a device computes in it.
    ///
    /// # Errors
    /// If the device does not compute in it.
    pub fn on(self, device: Device) -> Result<Self, RuntimeError> {
        match (self, device) {
            (Self::Bf16, Device::Cpu) if !kernels::have_bf16() => Err(RuntimeError::NoBf16),
            (Self::F32 | Self::Bf16, _)
            | (Self::Tf32 | Self::F16, Device::Cuda(_))
            | (Self::Int8, Device::Cpu) => Ok(self),
            (Self::Tf32 | Self::F16, Device::Cpu) | (Self::Int8, Device::Cuda(_)) => {
                Err(RuntimeError::Precision { precision: self, device })
            }
        }
    }

    /// Whether its floats have 16 bits.
    #[must_use]
    pub fn is_half(self) -> bool {
        matches!(self, Self::Bf16 | Self::F16)
    }

    /// Whether results may leave the range of its floats where f32 would hold them.
    pub(super) fn may_overflow(self) -> bool {
        self == Self::F16
    }

    /// How graphs for a device are made.
    pub(super) fn arithmetic(self, device: Device, config: &Config) -> Arithmetic {
        let narrow = |narrow| Arithmetic { kernels: Kernels::Narrow(narrow), floats: DType::F32 };
        match (self, device) {
            (Self::Int8, Device::Cpu) => narrow(Narrow::Int8),
            (Self::Bf16, Device::Cpu) => narrow(Narrow::Bf16),
            // without wide vectors ONNX Runtime's products are faster
            (_, Device::Cpu) if kernels::are_wide() => {
                Arithmetic { kernels: Kernels::Packed, floats: DType::F32 }
            }
            (_, Device::Cpu) => Arithmetic::STANDARD,
            (Self::Bf16 | Self::F16, Device::Cuda(_)) => {
                let fits = config.d_kv.is_multiple_of(8) && config.d_kv <= WIDEST_HEAD;
                Arithmetic {
                    kernels: if fits { Kernels::FusedAttention } else { Kernels::Fused },
                    floats: if self == Self::F16 { DType::F16 } else { DType::Bf16 },
                }
            }
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
            Self::F16 => "f16",
            Self::Int8 => "int8",
        })
    }
}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, UnknownPrecision> {
        [Self::F32, Self::Tf32, Self::Bf16, Self::F16, Self::Int8]
            .into_iter()
            .find(|precision| precision.to_string() == name)
            .ok_or_else(|| UnknownPrecision(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_reads_as_it_is_written() {
        for precision in [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16, Precision::Int8] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        for name in ["", "F32", "fp32", "fp16", "int4"] {
            let error = name.parse::<Precision>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("{name:?}")) && error.contains("f32, tf32, bf16, f16 or int8"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_asked_for_is_computed_or_refused_never_something_else() {
        let gpu = Device::Cuda(1);
        assert_eq!(Precision::of(Device::Cpu).on(Device::Cpu).unwrap(), Precision::F32);
        assert_eq!(Precision::of(gpu), Precision::Tf32);
        assert_eq!(Precision::of_serving(gpu), Precision::Bf16);
        for precision in [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16] {
            assert_eq!(precision.on(gpu).unwrap(), precision);
        }
        for precision in [Precision::F32, Precision::Int8] {
            assert_eq!(precision.on(Device::Cpu).unwrap(), precision);
        }
        let error = Precision::Int8.on(gpu).unwrap_err().to_string();
        assert!(error.contains("--precision int8") && error.contains("--device cpu"), "{error}");
        if kernels::have_bf16() {
            assert_eq!(Precision::Bf16.on(Device::Cpu).unwrap(), Precision::Bf16);
        } else {
            let error = Precision::Bf16.on(Device::Cpu).unwrap_err().to_string();
            assert!(error.contains("--precision bf16") && error.contains("AVX512-BF16"), "{error}");
        }
        for precision in [Precision::Tf32, Precision::F16] {
            let error = precision.on(Device::Cpu).unwrap_err().to_string();
            assert!(
                error.contains(&format!("--precision {precision}")) && error.contains("--device cuda"),
                "{error}"
            );
        }
    }
}
