//! Networks on libtorch: the only crate that names `tch`. Bytes in, numbers out; no I/O.
//!
//! | module | holds |
//! |---|---|
//! | [`device`] | CPU or a GPU, chosen once at start |
//! | [`network`] | tensors by name, and the forward pass of each architecture |
//! | [`cnn4`], [`resnet18`] | the architectures, as functions of named tensors |
//! | [`weights`] | safetensors in and out, checked; initial weights from a seed |
//! | [`batch`] | 8-bit pixels to normalised tensors, on the device |
//! | [`engine`] | inference |
//! | [`trainer`], [`optimizer`], [`schedule`] | training |
//!
//! Everything here runs on the one thread that the caller keeps for it: tensors can move between threads, but cannot be shared.
//!
//! To add an architecture: its tensors in `perito_domain::parameters`, a module with its forward pass, an arm in [`network`].

mod batch;
mod cnn4;
pub mod device;
pub mod engine;
mod error;
mod network;
mod optimizer;
mod resnet18;
pub mod schedule;
pub mod trainer;
mod weights;

pub use device::{Device, DeviceRequest, set_threads};
pub use engine::Engine;
pub use error::{NetError, Result};
pub use network::Topology;
pub use schedule::learning_rate;
pub use trainer::{StepOutcome, Trainer};

/// The version of libtorch that this was compiled against.
pub fn libtorch_version() -> &'static str {
    env!("PERITO_LIBTORCH_VERSION")
}
