//! Tensors by name, and what the architectures' forward passes are made of.

use std::collections::BTreeMap;

use perito_domain::spec::{Architecture, Stage};
use tch::Tensor;

use crate::{
    cnn4,
    error::{NetError, Result},
    resnet18,
};

/// What identifies a network's shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Topology {
    /// The architecture.
    pub architecture: Architecture,
    /// Side of the square input in pixels.
    pub image_size: u32,
    /// Probability that a feature before the head is dropped in training.
    pub dropout: f64,
}

/// torch.nn.BatchNorm2d's defaults.
pub(crate) const NORM_MOMENTUM: f64 = 0.1;
pub(crate) const NORM_EPSILON: f64 = 1e-5;

/// A network: its shape and its tensors, by their names in a weight file.
pub(crate) struct Network {
    pub(crate) topology: Topology,
    pub(crate) tensors: BTreeMap<String, Tensor>,
    /// Whether batch norms have been folded into the convolutions before them.
    pub(crate) folded: bool,
}

/// How a forward pass behaves.
#[derive(Clone, Copy)]
pub(crate) enum Pass {
    /// Running statistics, no dropout.
    Evaluation,
    /// Statistics of the batch, dropout; stages up to the frozen one as in evaluation, without gradients.
    Training {
        /// The last frozen stage.
        frozen: Option<Stage>,
    },
}

impl Pass {
    fn trains(self, stage: Stage) -> bool {
        match self {
            Self::Evaluation => false,
            Self::Training { frozen } => frozen.is_none_or(|frozen| stage > frozen),
        }
    }
}

impl Network {
    /// Logits (batch, 3) of normalised pixels (batch, 3, side, side).
    pub(crate) fn logits(&self, input: &Tensor, pass: Pass) -> Result<Tensor> {
        let stages: &[Stage] = match self.topology.architecture {
            Architecture::Cnn4 => &[Stage::Layer1, Stage::Layer2, Stage::Layer3, Stage::Layer4],
            Architecture::Resnet18 => &[Stage::Stem, Stage::Layer1, Stage::Layer2, Stage::Layer3, Stage::Layer4],
        };
        let mut features = input.shallow_clone();
        for &stage in stages {
            let trains = pass.trains(stage);
            let run = || match self.topology.architecture {
                Architecture::Cnn4 => cnn4::stage(self, stage, &features, trains),
                Architecture::Resnet18 => resnet18::stage(self, stage, &features, trains),
            };
            features = if trains { run()? } else { tch::no_grad(run)? };
        }
        let trains = matches!(pass, Pass::Training { .. });
        match self.topology.architecture {
            Architecture::Cnn4 => cnn4::head(self, &features, trains),
            Architecture::Resnet18 => resnet18::head(self, &features, trains),
        }
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| NetError::Weights(format!("there is no tensor {name}")))
    }

    /// A convolution and the batch norm behind it.
    pub(crate) fn convolution_norm(
        &self,
        convolution: &str,
        norm: &str,
        input: &Tensor,
        stride: i64,
        padding: i64,
        trains: bool,
    ) -> Result<Tensor> {
        let weight = self.tensor(&format!("{convolution}.weight"))?;
        let bias = self.tensors.get(&format!("{convolution}.bias"));
        let output = input.f_conv2d(weight, bias, [stride, stride], [padding, padding], [1, 1], 1)?;
        if self.folded {
            return Ok(output);
        }
        let part = |part: &str| self.tensor(&format!("{norm}.{part}"));
        Ok(output.f_batch_norm(
            Some(part("weight")?),
            Some(part("bias")?),
            Some(part("running_mean")?),
            Some(part("running_var")?),
            trains,
            NORM_MOMENTUM,
            NORM_EPSILON,
            true,
        )?)
    }

    pub(crate) fn linear(&self, name: &str, input: &Tensor) -> Result<Tensor> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        Ok(input.f_linear(weight, Some(self.tensor(&format!("{name}.bias"))?))?)
    }
}
