//! Inference: batch norms folded into the convolutions before them, weights channels-last, no gradients.

use perito_domain::{
    parameters::{Role, parameters},
    preprocessing::Preprocessing,
    severity::CLASSES,
};
use tch::Tensor;

use crate::{
    batch::Normalizer,
    device::Device,
    error::Result,
    network::{Network, Pass, Topology},
    output::{probabilities, rows},
    weights,
};

/// A network that is ready to run.
pub struct Engine {
    network: Network,
    normalizer: Normalizer,
    test_time_flip: bool,
}

impl Engine {
    /// Reads a safetensors file and prepares the network.
    ///
    /// # Errors
    /// Names the tensor that is missing or does not fit.
    pub fn load(topology: &Topology, preprocessing: &Preprocessing, bytes: &[u8], device: Device) -> Result<Self> {
        let tensors = weights::read(topology, bytes, device)?;
        let mut network = Network { topology: *topology, tensors, folded: false };
        fold(&mut network)?;
        let normalizer = Normalizer::new(topology, preprocessing, device)?;
        Ok(Self { network, normalizer, test_time_flip: preprocessing.test_time_flip })
    }

    /// Side of the square input in pixels.
    pub fn side(&self) -> u32 {
        self.normalizer.side()
    }

    /// Logits of images, each `side * side * 3` bytes of interleaved RGB.
    ///
    /// # Errors
    /// An image of another size, weights that are no numbers, or libtorch's errors.
    pub fn logits(&self, images: &[&[u8]]) -> Result<Vec<[f32; CLASSES]>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        rows(&self.network.logits(&self.normalizer.tensor(images)?, Pass::Evaluation)?)
    }

    /// Class probabilities of images: the softmax of their logits, or with test-time flip the mean of that and the mirror image's.
    ///
    /// # Errors
    /// As for [`Self::logits`].
    pub fn probabilities(&self, images: &[&[u8]]) -> Result<Vec<[f32; CLASSES]>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        probabilities(&self.network, &self.normalizer.tensor(images)?, self.test_time_flip)
    }
}

/// Folds every batch norm into the convolution before it.
fn fold(network: &mut Network) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let topology = network.topology;
    let mut convolutions = Vec::new();
    let mut last = None;
    for parameter in parameters(topology.architecture, topology.image_size) {
        match (parameter.role, parameter.name.strip_suffix(".weight")) {
            (Role::Convolution, Some(name)) => last = Some(name.to_owned()),
            // In the table each batch norm follows its convolution.
            (Role::NormWeight, Some(norm)) => convolutions.extend(last.take().map(|name| (name, norm.to_owned()))),
            _ => {}
        }
    }
    for (convolution, norm) in convolutions {
        let (weight, bias) = network.fold(&convolution, &norm)?;
        network.tensors.insert(format!("{convolution}.weight"), channels_last(&weight)?);
        network.tensors.insert(format!("{convolution}.bias"), bias);
        for part in ["weight", "bias", "running_mean", "running_var"] {
            network.tensors.remove(&format!("{norm}.{part}"));
        }
    }
    network.folded = true;
    Ok(())
}

/// The same tensor with its channels last in memory, as the input has them.
pub(crate) fn channels_last(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
}
