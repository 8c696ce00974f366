//! Networks on libtorch: the only crate that names `tch`. Bytes in, numbers out; no I/O.
//!
//! | module | holds |
//! |---|---|
//! | [`device`] | CPU or a GPU, chosen once at start |
//! | `network` | tensors by name, the forward pass over stages, freezing |
//! | `cnn4`, `resnet18` | the architectures, as functions of named tensors |
//! | `weights`, `initial` | safetensors in and out, checked; initial weights from a seed |
//! | `batch`, `output` | 8-bit pixels to normalised tensors, on the device; logits to numbers |
//! | [`engine`] | inference |
//! | `fused`, `staging`, `precision`, `tune` | its parts: oneDNN's convolutions, buffers to the device, numbers, batch sizes |
//! | [`trainer`] | a training run: steps, measurements |
//! | `mix`, `dropout`, `loss`, `optimizer`, `average`, `checkpoint`, [`schedule`] | its parts |
//!
//! Everything here runs on the one thread that the caller keeps for it: tensors can move between threads, but cannot be shared.
//!
//! To add an architecture: its tensors in `perito_domain::parameters`, a module with its stages and head, an arm in `network`.
//!
//! `tests/golden/generate.py` computes in PyTorch what the tests compare with.

mod average;
mod batch;
mod checkpoint;
mod cnn4;
pub mod device;
mod dropout;
pub mod engine;
mod error;
mod fused;
mod initial;
mod loss;
mod mix;
mod network;
mod optimizer;
mod output;
mod precision;
mod resnet18;
pub mod schedule;
mod staging;
pub mod trainer;
mod tune;
mod weights;

pub use device::{Device, DeviceRequest, set_threads};
pub use engine::{Engine, EngineOptions, Preparation, Started};
pub use error::{NetError, Result};
pub use network::Topology;
pub use precision::{Precision, cpu_has_bfloat16};
pub use schedule::learning_rate;
pub use trainer::{StepLoss, Trainer};
pub use weights::describe;

/// The version of libtorch that this was compiled against.
pub fn libtorch_version() -> &'static str {
    env!("PERITO_LIBTORCH_VERSION")
}
