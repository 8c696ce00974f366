//! What can go wrong with a network.

use perito_domain::retry::ErrorClass;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The device that was asked for is not there.
    #[error("{0}")]
    Device(String),
    /// A weight file that does not fit the network.
    #[error("weights: {0}")]
    Weights(String),
    /// A checkpoint that does not fit the run.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
    /// The loss is no number any more.
    #[error("the loss is {loss} in epoch {epoch}, step {step}: a lower learning rate may help")]
    NotFinite {
        /// The epoch, counted from 1.
        epoch: u32,
        /// The step in the epoch, counted from 0.
        step: u32,
        /// The loss.
        loss: f64,
    },
    /// The caller's images or labels do not fit.
    #[error("{0}")]
    Input(String),
    /// libtorch failed: most often out of memory.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, NetError>;

impl NetError {
    /// Whether trying again can help.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Torch(_) => ErrorClass::Transient,
            _ => ErrorClass::Permanent,
        }
    }
}
