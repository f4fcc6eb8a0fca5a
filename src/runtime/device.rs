//! Where sessions compute.

use std::fmt;
use std::str::FromStr;

use ort::ep::ArenaExtendStrategy;
use ort::session::builder::SessionBuilder;

use super::{Precision, RuntimeError};

/// A device that sessions compute on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(u32),
}

/// A device that no device is named by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no device is named {0:?}; name cpu, cuda, or cuda:N for the GPU with number N")]
pub struct UnknownDevice(String);

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

    /// Puts a session's nodes on the device. A device that cannot be used is an error, never a silent fallback.
    pub(super) fn register(
        self,
        builder: SessionBuilder,
        precision: Precision,
    ) -> Result<SessionBuilder, RuntimeError> {
        let Self::Cuda(number) = self else { return Ok(builder) };
        let provider = ort::ep::CUDA::default()
            .with_device_id(number.cast_signed())
            .with_tf32(precision == Precision::Tf32)
            .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
            .build()
            .error_on_failure();
        let reason =
            |error: String| RuntimeError::Device { device: self, reason: error.trim_end().to_owned() };
        builder.with_execution_providers([provider]).map_err(|error| reason(error.to_string()))
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

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        let number = match name {
            "cpu" => return Ok(Self::Cpu),
            "cuda" => Some(0),
            other => other.strip_prefix("cuda:").and_then(|number| number.parse().ok()),
        };
        number.map(Self::Cuda).ok_or_else(|| UnknownDevice(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_elsewhere() {
        for (name, device) in [("cpu", Device::Cpu), ("cuda", Device::Cuda(0)), ("cuda:3", Device::Cuda(3))] {
            assert_eq!(name.parse(), Ok(device));
        }
        assert_eq!(Device::Cuda(3).to_string(), "cuda:3");
        let error = "gpu".parse::<Device>().unwrap_err().to_string();
        assert!(error.contains("cuda:N"), "{error}");
    }
}
