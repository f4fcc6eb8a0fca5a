//! Which devices a program is asked to compute on, and which it finds.

use std::fmt;
use std::str::FromStr;

use super::{CudaProblem, Device, Runtime, RuntimeError};

/// More GPUs than a host has.
const MANY: u32 = 64;

/// What a program's flag `--device` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU if one can be used, else the processor.
    #[default]
    Auto,
    /// These, and no others: the processor, or one or several GPUs.
    These(Vec<Device>),
    /// Every GPU of the machine.
    AllGpus,
}

/// A choice that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownDevice {
    /// No device has that name.
    #[error(
        "no device is named {0:?}; name auto, cpu, cuda (the first GPU), cuda:N for the GPU with number N, several as \
         cuda:0,cuda:1, or cuda:all"
    )]
    Name(String),
    /// A device was named twice.
    #[error("{0} is named twice; name each GPU once")]
    Twice(Device),
    /// The processor beside GPUs.
    #[error("cpu computes alone, not beside GPUs; leave it out")]
    Mixed,
}

/// The devices that a program computes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Each once, at least one; all of one kind.
    pub devices: Vec<Device>,
    /// Why these, in words for a log.
    pub reason: String,
}

// === impl DeviceChoice ===

impl DeviceChoice {
    /// Finds the devices, and proves that each of them computes.
    ///
    /// # Errors
    /// If a GPU that was asked for cannot be used. [`Auto`](Self::Auto) takes the processor then.
    pub fn find(&self, runtime: &Runtime) -> Result<Chosen, RuntimeError> {
        match self {
            Self::Auto => Ok(match runtime.quietly(|| runtime.check(Device::Cuda(0))) {
                Ok(()) => Chosen {
                    devices: vec![Device::Cuda(0)],
                    reason: "a GPU was found (--device cpu leaves it alone)".into(),
                },
                Err(error) => Chosen {
                    devices: vec![Device::Cpu],
                    reason: format!("no GPU can be used: {}", cause(&error)),
                },
            }),
            Self::These(devices) => {
                devices.iter().try_for_each(|&device| runtime.check(device))?;
                Ok(Chosen { devices: devices.clone(), reason: "asked for".into() })
            }
            Self::AllGpus => {
                runtime.check(Device::Cuda(0))?;
                let others = (1..MANY).map(Device::Cuda);
                let others = others.take_while(|&gpu| runtime.quietly(|| runtime.check(gpu)).is_ok());
                let devices: Vec<Device> = std::iter::once(Device::Cuda(0)).chain(others).collect();
                let reason = format!("every GPU was asked for, {} found", devices.len());
                Ok(Chosen { devices, reason })
            }
        }
    }
}

fn cause(error: &RuntimeError) -> String {
    match error {
        // the usual case, and no mistake
        RuntimeError::Device { problem: CudaProblem::CpuBuild { .. }, .. } => {
            "this ONNX Runtime was built without CUDA".into()
        }
        RuntimeError::Device { problem, .. } => problem.to_string(),
        other => other.to_string(),
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::These(devices) => f.write_str(&names(devices)),
            Self::AllGpus => f.write_str("cuda:all"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        match text {
            "auto" => return Ok(Self::Auto),
            "cuda:all" => return Ok(Self::AllGpus),
            _ => {}
        }
        let mut devices: Vec<Device> = Vec::new();
        for name in text.split(',') {
            let device = match name.trim() {
                "cpu" => Device::Cpu,
                "cuda" => Device::Cuda(0),
                name => {
                    let number = name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                    Device::Cuda(number.ok_or_else(|| UnknownDevice::Name(name.to_owned()))?)
                }
            };
            if devices.contains(&device) {
                return Err(UnknownDevice::Twice(device));
            }
            devices.push(device);
        }
        if devices.len() > 1 && devices.contains(&Device::Cpu) {
            return Err(UnknownDevice::Mixed);
        }
        Ok(Self::These(devices))
    }
}

/// Devices as the flag names them.
pub(super) fn names(devices: &[Device]) -> String {
    devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl Chosen {
    /// The devices as the flag names them.
    #[must_use]
    pub fn names(&self) -> String {
        names(&self.devices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_reads_as_it_is_written() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3", "cuda:1,cuda:0", "cuda:all"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        assert_eq!("cuda, cuda:1".parse::<DeviceChoice>().unwrap().to_string(), "cuda:0,cuda:1");
    }

    #[test]
    fn a_choice_that_cannot_be_meant_says_what_can_be() {
        let error = |text: &str| text.parse::<DeviceChoice>().unwrap_err().to_string();
        for text in ["gpu", "cuda:x", "cuda:0,", "", "cuda:0,cuda:all", "cuda:-1"] {
            assert!(error(text).contains("cuda:N"), "{text}");
        }
        assert!(error("cuda,cuda:0").contains("cuda:0 is named twice"));
        assert!(error("cpu,cuda:0").contains("alone"));
    }
}
