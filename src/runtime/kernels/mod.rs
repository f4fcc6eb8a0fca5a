//! Kernels for the operators of [`Fused`]: on NVIDIA GPUs, and plain loops that define them on a CPU.
//!
//! `kernels.cu` is compiled to PTX by `scripts/kernels.py`; the PTX is part of the binary, and the driver compiles it for
//! its GPU when the first kernel is launched. Neither the CUDA toolkit nor NVRTC is needed.

mod cpu;
mod launch;
mod operator;

use ort::operator::OperatorDomain;
use ort::value::TensorElementType;

use super::Device;
use crate::graph::{FUSED_DOMAIN, Fused};
use cpu::CpuOperator;
use operator::CudaOperator;

/// The operators with their kernels for a device.
pub(super) fn domain(device: Device) -> Result<OperatorDomain, ort::Error> {
    let mut domain = OperatorDomain::new(FUSED_DOMAIN)?;
    for fused in Fused::ALL {
        domain = match device {
            Device::Cpu => domain.add(CpuOperator(fused))?,
            Device::Cuda(_) => domain
                .add(CudaOperator::new(fused, TensorElementType::Float32))?
                .add(CudaOperator::new(fused, TensorElementType::Bfloat16))?,
        };
    }
    Ok(domain)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    #[test]
    fn the_ptx_was_made_from_the_source_beside_it() {
        let hash = Sha256::digest(include_bytes!("kernels.cu"));
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let first = include_str!("kernels.ptx").lines().next().unwrap_or_default();
        assert!(first.ends_with(&hash), "run scripts/kernels.py: {first}");
    }
}
