//! The numbers that convolutions are computed in when a network scores.

use std::{fmt, str::FromStr};

use tch::Kind;

use crate::{
    device::Device,
    error::{NetError, Result},
};

/// What the user asked for. Weights are stored in 32 bits and the head is computed in them in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits on a CPU, bfloat16 on a GPU.
    #[default]
    Auto,
    /// 32 bits.
    Float32,
    /// 16 bits with the range of 32 (Kalamkar et al., 2019).
    Bfloat16,
    /// IEEE 754's 16 bits, on GPUs: for those before Ampere, which have no bfloat16.
    Float16,
}

const NAMES: [(Precision, &str); 4] = [
    (Precision::Auto, "auto"),
    (Precision::Float32, "float32"),
    (Precision::Bfloat16, "bfloat16"),
    (Precision::Float16, "float16"),
];

impl Precision {
    /// The numbers on this device.
    ///
    /// # Errors
    /// When it has no instructions for them.
    pub(crate) fn on(self, device: Device) -> Result<Kind> {
        match (self, device.is_gpu()) {
            (Self::Auto, false) | (Self::Float32, _) => Ok(Kind::Float),
            (Self::Auto | Self::Bfloat16, true) => Ok(Kind::BFloat16),
            (Self::Float16, true) => Ok(Kind::Half),
            (Self::Bfloat16, false) if cpu_has_bfloat16() => Ok(Kind::BFloat16),
            (Self::Bfloat16, false) => Err(NetError::Device(
                "this processor has no instructions for bfloat16 (AVX512_BF16): use --precision float32".to_owned(),
            )),
            (Self::Float16, false) => {
                Err(NetError::Device("float16 is for GPUs: use --precision float32 or bfloat16".to_owned()))
            }
        }
    }
}

/// Whether this processor multiplies bfloat16 numbers by instructions of its own.
pub fn cpu_has_bfloat16() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    has
}

impl FromStr for Precision {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self> {
        NAMES.into_iter().find(|(_, name)| *name == text).map(|(precision, _)| precision).ok_or_else(|| {
            NetError::Device(format!("unknown precision {text:?}: say auto, float32, bfloat16 or float16"))
        })
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.into_iter().find(|(precision, _)| precision == self).map_or("auto", |(_, name)| name))
    }
}
