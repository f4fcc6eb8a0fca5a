//! Kernels for the operators of [`Fused`]: on NVIDIA GPUs, and plain loops that define them on a CPU. Those of [`Packed`]
//! and [`NarrowOp`] are for a CPU.
//!
//! `kernels.cu`, `attention.cu` and `cached.cu` are compiled to PTX by `scripts/kernels.py`; the PTX is part of the binary, and the
//! driver compiles it for its GPU when the first kernel is launched. Neither the CUDA toolkit nor NVRTC is needed.

#[macro_use]
mod vectorized;

mod after;
mod cached;
mod context;
mod cpu;
mod launch;
mod most_likely;
mod narrow;
mod native;
mod operator;
mod packed;
mod rows;

use ort::operator::OperatorDomain;
use ort::value::TensorElementType;

use super::Device;
use crate::graph::{FUSED_DOMAIN, Fused, Narrow, NarrowOp, Packed};
use after::After;
use cpu::CpuOperator;
use most_likely::MostLikely;
use narrow::NarrowOperator;
use operator::CudaOperator;
use packed::PackedOperator;

pub(super) use native::{are_wide, have_bf16};

/// The operators with their kernels for a device.
pub(super) fn domain(device: Device) -> Result<OperatorDomain, ort::Error> {
    let mut domain = OperatorDomain::new(FUSED_DOMAIN)?;
    let elements = match device {
        Device::Cpu => &[TensorElementType::Float32][..],
        Device::Cuda(_) => {
            &[TensorElementType::Float32, TensorElementType::Bfloat16, TensorElementType::Float16]
        }
    };
    for &element in elements {
        domain = domain.add(After::new(device, element))?;
        domain = match device {
            Device::Cpu => domain.add(cached::OnCpu)?,
            Device::Cuda(_) => domain.add(cached::OnCuda(element))?,
        };
        for fused in Fused::ALL.into_iter().filter(|&fused| fused != Fused::After) {
            domain = match device {
                Device::Cpu => domain.add(CpuOperator(fused))?,
                Device::Cuda(_) => domain.add(CudaOperator::new(fused, element))?,
            };
        }
    }
    domain = domain.add(MostLikely(device))?;
    if device == Device::Cpu {
        for packed in Packed::ALL {
            domain = domain.add(PackedOperator(packed))?;
        }
        for narrow in Narrow::ALL {
            for op in NarrowOp::ALL {
                domain = domain.add(NarrowOperator(narrow, op))?;
            }
        }
    }
    Ok(domain)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    #[test]
    fn the_ptx_was_made_from_the_sources_beside_it() {
        let sources =
            [&include_bytes!("kernels.cu")[..], include_bytes!("attention.cu"), include_bytes!("cached.cu")];
        let sources = sources.concat();
        let hash = Sha256::digest(sources);
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let first = include_str!("kernels.ptx").lines().next().unwrap_or_default();
        assert!(first.ends_with(&hash), "run scripts/kernels.py: {first}");
    }
}
