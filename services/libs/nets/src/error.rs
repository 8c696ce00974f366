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
    /// The network's output is no number any more, because its weights are none or grew out of bounds.
    #[error(
        "image {image} of the batch has the logits {logits:?}: the weights are not those of a network that has learned"
    )]
    Output {
        /// The image's place in the batch.
        image: usize,
        /// What came out.
        logits: [f32; 3],
    },
    /// The caller's images or labels do not fit.
    #[error("{0}")]
    Input(String),
    /// libtorch failed.
    #[error("libtorch: {0}")]
    Torch(String),
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, NetError>;

impl NetError {
    /// Whether trying again can help: when memory was short, or a GPU fell over.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Torch(message) if ["memory", "CUDA", "cuDNN", "CUBLAS"].iter().any(|word| message.contains(word)) => {
                ErrorClass::Transient
            }
            _ => ErrorClass::Permanent,
        }
    }
}

impl From<tch::TchError> for NetError {
    fn from(error: tch::TchError) -> Self {
        // After the first line comes a stack trace of C++.
        let message = error.to_string();
        Self::Torch(message.lines().next().unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn libtorchs_errors_are_one_line_and_only_those_of_resources_are_transient() {
        let error = tch::Tensor::f_from_slice(&[1.0_f32, 2.0]).unwrap().f_reshape([3]).unwrap_err();
        let error = NetError::from(error);
        assert!(error.to_string().contains("shape") && !error.to_string().contains('\n'), "{error}");
        assert_eq!(error.class(), ErrorClass::Permanent);
        let memory = NetError::Torch("CUDA out of memory. Tried to allocate 2.00 GiB".to_owned());
        assert_eq!(memory.class(), ErrorClass::Transient);
    }
}
