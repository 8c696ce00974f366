//! Inference: batch norms folded into the convolutions before them, weights in the layout that the device is fastest with, no
//! gradients.

use std::time::{Duration, Instant};

use perito_domain::{
    parameters::{Role, parameters},
    preprocessing::Preprocessing,
    severity::CLASSES,
};
use tch::{Kind, Tensor};

use crate::{
    batch::Normalizer,
    device::Device,
    error::Result,
    fused::Fused,
    network::{Form, Network, Topology},
    output::{self, rows},
    precision::Precision,
    staging::{Staged, Staging},
    tune::best_batch_size,
    weights,
};

/// How a network is made ready. Those beside `Best` are there to be compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Preparation {
    /// What is fastest on the device: `Packed` on a CPU whose libtorch has oneDNN, else `ChannelsLast`.
    #[default]
    Best,
    /// Batch norms folded into the convolutions, each channel a plane in memory.
    Folded,
    /// Folded, with the channels of each pixel side by side in memory.
    ChannelsLast,
    /// Folded and channels-last, with weights in oneDNN's layout, and ReLU and sums fused into the convolutions.
    Packed,
}

/// How to load a network.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineOptions {
    /// How it is made ready.
    pub preparation: Preparation,
    /// The numbers that convolutions are computed in.
    pub precision: Precision,
}

/// A network that is ready to run.
pub struct Engine {
    network: Network,
    normalizer: Normalizer,
    staging: Staging,
    device: Device,
    preparation: Preparation,
    kind: Kind,
    test_time_flip: bool,
}

/// A batch that the device works on. A GPU does so while the caller goes on; a CPU has done so already.
pub struct Started {
    staged: Staged,
    logits: Vec<Tensor>,
}

impl Started {
    /// Waits for the device: the class probabilities of each image.
    ///
    /// # Errors
    /// Weights that are no numbers, or libtorch's errors.
    pub fn finish(self) -> Result<Vec<[f32; CLASSES]>> {
        let probabilities = output::probabilities(&self.logits)?;
        self.staged.done();
        Ok(probabilities)
    }
}

impl Engine {
    /// Reads a safetensors file and prepares the network as is best for the device.
    ///
    /// # Errors
    /// Names the tensor that is missing or does not fit.
    pub fn load(topology: &Topology, preprocessing: &Preprocessing, bytes: &[u8], device: Device) -> Result<Self> {
        Self::prepare(topology, preprocessing, bytes, device, EngineOptions::default())
    }

    /// Reads a safetensors file and prepares the network as told.
    ///
    /// # Errors
    /// Names the tensor that is missing or does not fit, or what the device has not got.
    pub fn prepare(
        topology: &Topology,
        preprocessing: &Preprocessing,
        bytes: &[u8],
        device: Device,
        options: EngineOptions,
    ) -> Result<Self> {
        let kind = options.precision.on(device)?;
        let tensors = weights::read(topology, bytes, device)?;
        let mut network = Network { topology: *topology, tensors, form: Form::Plain };
        let mut preparation = options.preparation;
        let mut fused = None;
        if matches!(preparation, Preparation::Best | Preparation::Packed) {
            let packs = !device.is_gpu() && tch::utils::has_mkldnn();
            fused = match Fused::new() {
                Ok(fused) if packs => Some(fused),
                // A build of libtorch without these operators still computes the same, in more passes.
                _ if preparation == Preparation::Best => None,
                Ok(_) => return Err(crate::NetError::Device(format!("{device} has no packed convolutions"))),
                Err(error) => return Err(error),
            };
            preparation = if fused.is_some() { Preparation::Packed } else { Preparation::ChannelsLast };
        }
        fold(&mut network, fused, kind, preparation != Preparation::Folded)?;
        if device.is_gpu() {
            // cuDNN tries its algorithms once for each shape; `rows_for` keeps these few.
            tch::Cuda::cudnn_set_benchmark(true);
        }
        Ok(Self {
            network,
            normalizer: Normalizer::new(topology, preprocessing, device)?,
            staging: Staging::new(preprocessing.image_size, device),
            device,
            preparation,
            kind,
            test_time_flip: preprocessing.test_time_flip,
        })
    }

    /// Side of the square input in pixels.
    pub fn side(&self) -> u32 {
        self.normalizer.side()
    }

    /// How the network was made ready: never `Best`.
    pub fn preparation(&self) -> Preparation {
        self.preparation
    }

    /// Begins to compute the class probabilities of images, each `side * side * 3` bytes of interleaved RGB: the softmax of their
    /// logits, or with test-time flip the mean of that and the mirror image's. One image at least.
    ///
    /// # Errors
    /// An image of another size, or libtorch's errors.
    pub fn start(&self, images: &[&[u8]]) -> Result<Started> {
        let (staged, input) = self.input(images)?;
        let logits = output::logits(&self.network, &input, self.kind, self.test_time_flip)?;
        let logits = logits.into_iter().map(|logits| Ok(logits.f_narrow(0, 0, images.len() as i64)?));
        Ok(Started { staged, logits: logits.collect::<Result<_>>()? })
    }

    /// Class probabilities of images.
    ///
    /// # Errors
    /// As for [`Self::start`] and [`Started::finish`].
    pub fn probabilities(&self, images: &[&[u8]]) -> Result<Vec<[f32; CLASSES]>> {
        if images.is_empty() { Ok(Vec::new()) } else { self.start(images)?.finish() }
    }

    /// Logits of images.
    ///
    /// # Errors
    /// As for [`Self::probabilities`].
    pub fn logits(&self, images: &[&[u8]]) -> Result<Vec<[f32; CLASSES]>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let (staged, input) = self.input(images)?;
        let logits = output::logits(&self.network, &input, self.kind, false)?;
        let rows = rows(&logits[0].f_narrow(0, 0, images.len() as i64)?)?;
        staged.done();
        Ok(rows)
    }

    /// The batch size that this network is fastest with on this device, by running batches of a few sizes. No more are tried when
    /// `budget` is spent.
    ///
    /// # Errors
    /// libtorch's errors.
    pub fn measure_batch_size(&self, budget: Duration) -> Result<usize> {
        let sizes: &[usize] = if self.device.is_gpu() { &[16, 32, 64, 128, 256] } else { &[4, 8, 16, 32] };
        let side = self.side() as usize;
        let grey = vec![128; side * side * 3];
        best_batch_size(sizes, budget, |size| {
            let started = Instant::now();
            self.probabilities(&vec![grey.as_slice(); size])?;
            Ok(started.elapsed())
        })
    }

    fn input(&self, images: &[&[u8]]) -> Result<(Staged, Tensor)> {
        let _guard = tch::no_grad_guard();
        let staged = self.staging.stage(images, rows_for(images.len(), self.device))?;
        let input = self.normalizer.normalized(&staged.pixels)?;
        let planes = self.preparation == Preparation::Folded;
        Ok((staged, if planes { input.f_contiguous()? } else { input }))
    }
}

/// Rows of the batch for so many images. On a GPU a power of two, so that cuDNN's choices are made for few shapes and not anew for each
/// task's last batch; a CPU would compute what is thrown away.
fn rows_for(images: usize, device: Device) -> usize {
    if device.is_gpu() { images.next_power_of_two() } else { images }
}

/// Folds every batch norm into the convolution before it, and gives the convolutions to `fused` if there is one.
fn fold(network: &mut Network, mut fused: Option<Fused>, kind: Kind, last: bool) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let topology = network.topology;
    let mut convolutions = Vec::new();
    let mut convolution = None;
    for parameter in parameters(topology.architecture, topology.image_size) {
        match (parameter.role, parameter.name.strip_suffix(".weight")) {
            (Role::Convolution, Some(name)) => convolution = Some(name.to_owned()),
            // In the table each batch norm follows its convolution.
            (Role::NormWeight, Some(norm)) => {
                convolutions.extend(convolution.take().map(|name| (name, norm.to_owned())))
            }
            _ => {}
        }
    }
    for (convolution, norm) in convolutions {
        let (weight, bias) = network.fold(&convolution, &norm)?;
        let (weight, bias) = (weight.f_to_kind(kind)?, bias.f_to_kind(kind)?);
        let (weight_name, bias_name) = (format!("{convolution}.weight"), format!("{convolution}.bias"));
        for part in ["weight", "bias", "running_mean", "running_var"] {
            network.tensors.remove(&format!("{norm}.{part}"));
        }
        if let Some(fused) = &mut fused {
            network.tensors.remove(&weight_name);
            network.tensors.remove(&bias_name);
            fused.insert(&convolution, weight, bias);
        } else {
            network.tensors.insert(weight_name, if last { channels_last(&weight)? } else { weight });
            network.tensors.insert(bias_name, bias);
        }
    }
    network.form = fused.map_or(Form::Folded, Form::Fused);
    Ok(())
}

/// The same tensor with its channels last in memory, as the input has them.
pub(crate) fn channels_last(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_sees_few_shapes() {
        let gpu = Device(tch::Device::Cuda(0));
        assert_eq!([1, 3, 64, 65].map(|images| rows_for(images, gpu)), [1, 4, 64, 128]);
        assert_eq!(rows_for(3, Device(tch::Device::Cpu)), 3);
    }
}
