//! CPU or a GPU, chosen once at start.

use std::{fmt, str::FromStr};

use crate::error::{NetError, Result};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceRequest {
    /// The first GPU if libtorch sees one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

/// Where tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device(pub(crate) tch::Device);

impl FromStr for DeviceRequest {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| NetError::Device(format!("unknown device {text:?}: say auto, cpu or cuda:N"))),
        }
    }
}

impl DeviceRequest {
    /// Finds the device.
    ///
    /// # Errors
    /// When it was asked for by name and is absent. libtorch without CUDA, or linked so that CUDA got lost, sees no GPU.
    pub fn resolve(self) -> Result<Device> {
        let gpus = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
        match self {
            Self::Auto if gpus > 0 => Ok(Device(tch::Device::Cuda(0))),
            Self::Auto | Self::Cpu => Ok(Device(tch::Device::Cpu)),
            Self::Cuda(number) if number < gpus => Ok(Device(tch::Device::Cuda(number))),
            Self::Cuda(number) => Err(NetError::Device(format!(
                "device cuda:{number} was asked for, and libtorch sees {gpus} GPUs: check nvidia-smi, and that LIBTORCH was a CUDA build \
                 when this was compiled; or use --device cpu"
            ))),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            tch::Device::Cuda(number) => write!(f, "cuda:{number}"),
            _ => f.write_str("cpu"),
        }
    }
}

/// How many threads one operation uses on a CPU.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_device_is_an_error_that_names_it() {
        assert_eq!("cuda:3".parse::<DeviceRequest>().unwrap(), DeviceRequest::Cuda(3));
        let absent = DeviceRequest::Cuda(999).resolve().unwrap_err().to_string();
        assert!(absent.contains("cuda:999"), "{absent}");
        assert!("gpu".parse::<DeviceRequest>().is_err());
        assert_eq!(DeviceRequest::Cpu.resolve().unwrap().to_string(), "cpu");
    }
}
