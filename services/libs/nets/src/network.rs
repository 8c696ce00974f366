//! Tensors by name, and what the architectures' forward passes are made of.

use perito_domain::spec::{Architecture, Stage};
use tch::{Kind, Tensor};

use crate::{
    cnn4,
    error::{NetError, Result},
    fused::{Fused, Geometry, Then},
    resnet18,
    weights::Tensors,
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

/// `torch.nn.BatchNorm2d`'s defaults.
const NORM_MOMENTUM: f64 = 0.1;
const NORM_EPSILON: f64 = 1e-5;

/// A network: its shape and its tensors, by their names in a weight file.
pub(crate) struct Network {
    pub(crate) topology: Topology,
    pub(crate) tensors: Tensors,
    pub(crate) form: Form,
}

/// How the convolutions and batch norms of a network are kept.
pub(crate) enum Form {
    /// As in the weight file.
    Plain,
    /// Every batch norm folded into the convolution before it.
    Folded,
    /// Folded, and fused with what follows.
    Fused(Fused),
}

/// A convolution and the batch norm behind it.
pub(crate) struct Layer<'a> {
    pub(crate) convolution: &'a str,
    pub(crate) norm: &'a str,
    pub(crate) geometry: Geometry,
    /// Whether the batch norm measures the batch.
    pub(crate) measures: bool,
}

/// A maximum over windows.
pub(crate) struct Pool {
    pub(crate) window: i64,
    pub(crate) geometry: Geometry,
}

/// How a forward pass behaves.
#[derive(Clone, Copy)]
pub(crate) enum Pass<'a> {
    /// Running statistics, no dropout, convolutions in these numbers.
    Evaluation(Kind),
    /// Statistics of the batch, dropout; stages up to the frozen one as in evaluation, without gradients.
    Training {
        /// The last frozen stage.
        frozen: Option<Stage>,
        /// The last stage whose batch norms keep their running statistics.
        frozen_statistics: Option<Stage>,
        /// The numbers that convolutions are computed in.
        kind: Kind,
        /// What the features before the head are multiplied with: 0 where dropped, see [`crate::dropout`].
        dropout: Option<&'a Tensor>,
    },
}

impl Network {
    /// Logits (batch, 3) of normalised pixels (batch, 3, side, side).
    pub(crate) fn logits(&self, input: &Tensor, pass: Pass<'_>) -> Result<Tensor> {
        let (stages, stage, head): (&[Stage], StageFunction, HeadFunction) = match self.topology.architecture {
            Architecture::Cnn4 => (&cnn4::STAGES, cnn4::stage, cnn4::head),
            Architecture::Resnet18 => (&resnet18::STAGES, resnet18::stage, resnet18::head),
        };
        let (Pass::Training { kind, .. } | Pass::Evaluation(kind)) = pass;
        let mut features = input.f_to_kind(kind)?;
        for &name in stages {
            let (trains, measures) = match pass {
                Pass::Evaluation(_) => (false, false),
                Pass::Training { frozen, frozen_statistics, .. } => {
                    (is_trained(Some(name), frozen), is_trained(Some(name), frozen.max(frozen_statistics)))
                }
            };
            // Nothing before a stage that does not train does either, so no gradient has to flow through it.
            let _guard = (!trains).then(tch::no_grad_guard);
            features = stage(self, name, &features, measures)?;
        }
        let features = features.f_to_kind(Kind::Float)?;
        match pass {
            Pass::Evaluation(_) => {
                let _guard = tch::no_grad_guard();
                head(self, &features, None)
            }
            Pass::Training { dropout, .. } => head(self, &features, dropout),
        }
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| NetError::Weights(format!("tensor {name} is missing")))
    }

    /// A layer and what follows it.
    pub(crate) fn layer(&self, layer: &Layer<'_>, input: &Tensor, then: Then) -> Result<Tensor> {
        if let Form::Fused(fused) = &self.form {
            return fused.convolution(layer.convolution, input, layer.geometry, then);
        }
        let mut output = self.convolution_norm(layer, input)?;
        match then {
            Then::Nothing => Ok(output),
            Then::Relu => Ok(output.f_relu_()?),
            Then::AddRelu(shortcut) => Ok(output.f_add_(&shortcut)?.f_relu_()?),
        }
    }

    /// A layer, ReLU and max pooling.
    pub(crate) fn layer_pool(&self, layer: &Layer<'_>, input: &Tensor, pool: &Pool) -> Result<Tensor> {
        let Pool { window, geometry: Geometry { stride, padding } } = *pool;
        let pooled = |features: &Tensor| {
            features.f_max_pool2d([window, window], [stride, stride], [padding, padding], [1, 1], false)
        };
        if let Form::Fused(_) = &self.form {
            return Ok(pooled(&self.layer(layer, input, Then::Relu)?)?);
        }
        // ReLU never changes which value is the largest, so where it is a pass of its own it may come after the pooling, where a
        // quarter of the values is left.
        Ok(pooled(&self.convolution_norm(layer, input)?)?.f_relu_()?)
    }

    /// A layer, with the statistics of the batch when it measures them.
    fn convolution_norm(&self, layer: &Layer<'_>, input: &Tensor) -> Result<Tensor> {
        let Layer { convolution, norm, geometry: Geometry { stride, padding }, measures } = *layer;
        let kind = input.f_kind()?;
        let convolve = |weight: &Tensor, bias: Option<&Tensor>| -> Result<Tensor> {
            let bias = bias.map(|bias| bias.f_to_kind(kind)).transpose()?;
            let weight = weight.f_to_kind(kind)?;
            Ok(input.f_conv2d(&weight, bias.as_ref(), [stride, stride], [padding, padding], [1, 1], 1)?)
        };
        let weight = self.tensor(&format!("{convolution}.weight"))?;
        let bias = self.tensors.get(&format!("{convolution}.bias"));
        if let Form::Folded = self.form {
            return convolve(weight, bias);
        }
        if !measures {
            // Gradients flow through the folding too, and a batch norm less is a pass less over the features.
            let (weight, bias) = self.fold(convolution, norm)?;
            return convolve(&weight, Some(&bias));
        }
        let part = |part: &str| self.tensor(&format!("{norm}.{part}"));
        Ok(convolve(weight, bias)?.f_batch_norm(
            Some(part("weight")?),
            Some(part("bias")?),
            Some(part("running_mean")?),
            Some(part("running_var")?),
            true,
            NORM_MOMENTUM,
            NORM_EPSILON,
            true,
        )?)
    }

    /// Weight and bias of a convolution with its batch norm folded into it: `norm(W x + b) = (g W) x + (g (b - mean) + offset)` with
    /// `g = weight / sqrt(variance + epsilon)` (Jacob et al., 2017, section 3.2).
    pub(crate) fn fold(&self, convolution: &str, norm: &str) -> Result<(Tensor, Tensor)> {
        let part = |part: &str| self.tensor(&format!("{norm}.{part}"));
        let gain = part("weight")?.f_div(&part("running_var")?.f_add_scalar(NORM_EPSILON)?.f_sqrt()?)?;
        let (mean, offset) = (part("running_mean")?, part("bias")?);
        let weight = self.tensor(&format!("{convolution}.weight"))?.f_mul(&gain.f_reshape([-1, 1, 1, 1])?)?;
        let shifted = match self.tensors.get(&format!("{convolution}.bias")) {
            Some(bias) => bias.f_sub(mean)?,
            None => mean.f_neg()?,
        };
        let bias = shifted.f_mul(&gain)?.f_add(offset)?;
        Ok((weight, bias))
    }

    pub(crate) fn linear(&self, name: &str, input: &Tensor) -> Result<Tensor> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        Ok(input.f_linear(weight, Some(self.tensor(&format!("{name}.bias"))?))?)
    }
}

type StageFunction = fn(&Network, Stage, &Tensor, bool) -> Result<Tensor>;
type HeadFunction = fn(&Network, &Tensor, Option<&Tensor>) -> Result<Tensor>;

/// Whether a stage (the head: `None`) is trained when all stages up to `frozen` stay as they are.
pub(crate) fn is_trained(stage: Option<Stage>, frozen: Option<Stage>) -> bool {
    match (stage, frozen) {
        (Some(stage), Some(frozen)) => stage > frozen,
        _ => true,
    }
}

/// Dropout with a mask that was drawn before.
pub(crate) fn dropped(features: Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    match mask {
        Some(mask) => Ok(features.f_mul(mask)?),
        None => Ok(features),
    }
}
