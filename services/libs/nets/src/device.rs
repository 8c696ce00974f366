//! CPU or a GPU, chosen once at start.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::{NetError, Result};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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

impl fmt::Display for DeviceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl TryFrom<String> for DeviceRequest {
    type Error = NetError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<DeviceRequest> for String {
    fn from(request: DeviceRequest) -> Self {
        request.to_string()
    }
}

impl DeviceRequest {
    /// Finds the device.
    ///
    /// # Errors
    /// When it was asked for by name and is absent, or when CUDA got lost on the way from the libtorch that this was compiled
    /// against to the one that runs.
    pub fn resolve(self) -> Result<Device> {
        // Set by the build script. Linkers drop libraries that look unused, and a worker that then runs on the CPU for weeks is
        // worse than one that does not start.
        if cfg!(libtorch_cuda) && self != Self::Cpu && !tch::utils::has_cudart() {
            return Err(NetError::Device(
                "this was compiled against libtorch with CUDA, but runs without: put its lib folder back where it was, \
                 or use --device cpu"
                    .to_owned(),
            ));
        }
        let gpus = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
        match self {
            Self::Auto if gpus > 0 => Ok(Device(tch::Device::Cuda(0))),
            Self::Auto | Self::Cpu => Ok(Device(tch::Device::Cpu)),
            Self::Cuda(number) if number < gpus => Ok(Device(tch::Device::Cuda(number))),
            Self::Cuda(number) if !cfg!(libtorch_cuda) => Err(NetError::Device(format!(
                "device cuda:{number} was asked for, but this was compiled against libtorch for the CPU: set LIBTORCH to a build with \
                 CUDA and compile again, or use --device cpu"
            ))),
            Self::Cuda(number) => Err(NetError::Device(format!(
                "device cuda:{number} was asked for, and libtorch sees {gpus} GPUs: check the driver (nvidia-smi) and \
                 CUDA_VISIBLE_DEVICES, or use --device cpu"
            ))),
        }
    }
}

impl Device {
    /// Whether it is a GPU.
    pub fn is_gpu(self) -> bool {
        self.gpu_index().is_some()
    }

    /// The number that CUDA gives it, if it is a GPU.
    pub fn gpu_index(self) -> Option<usize> {
        match self.0 {
            tch::Device::Cuda(number) => Some(number),
            _ => None,
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

/// How many threads one operation uses on a CPU: one at least. To be called on the thread that runs networks, before anything else.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
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

    #[test]
    fn a_request_reads_as_it_is_written() {
        for text in ["auto", "cpu", "cuda:2"] {
            assert_eq!(text.parse::<DeviceRequest>().unwrap().to_string(), text);
            let json = format!("\"{text}\"");
            assert_eq!(serde_json::to_string(&serde_json::from_str::<DeviceRequest>(&json).unwrap()).unwrap(), json);
        }
    }
}
