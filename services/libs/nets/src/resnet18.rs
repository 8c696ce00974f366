//! `resnet18`: torchvision's `resnet18` (He et al., "Deep Residual Learning for Image Recognition", 2015) with dropout before the
//! head.

use perito_domain::spec::Stage;
use tch::Tensor;

use crate::{
    error::Result,
    network::{Network, dropped},
};

pub(crate) const STAGES: [Stage; 5] = [Stage::Stem, Stage::Layer1, Stage::Layer2, Stage::Layer3, Stage::Layer4];

pub(crate) fn stage(network: &Network, stage: Stage, input: &Tensor, measures: bool) -> Result<Tensor> {
    if stage == Stage::Stem {
        let features = network.convolution_norm("conv1", "bn1", input, 2, 3, measures)?;
        // ReLU after the pooling instead of before: the same result, as in cnn4, on a quarter of the values.
        return Ok(features.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?.f_relu_()?);
    }
    let stride = if stage == Stage::Layer1 { 1 } else { 2 };
    let features = basic_block(network, &format!("{stage}.0"), input, stride, measures)?;
    basic_block(network, &format!("{stage}.1"), &features, 1, measures)
}

fn basic_block(network: &Network, name: &str, input: &Tensor, stride: i64, measures: bool) -> Result<Tensor> {
    let layer = |number: u8, input: &Tensor, stride: i64| {
        let (convolution, norm) = (format!("{name}.conv{number}"), format!("{name}.bn{number}"));
        network.convolution_norm(&convolution, &norm, input, stride, 1, measures)
    };
    let hidden = layer(1, input, stride)?.f_relu_()?;
    let mut output = layer(2, &hidden, 1)?;
    // The first block of layer2 to layer4 halves the picture: its shortcut must too.
    let shortcut = if stride == 1 {
        input.shallow_clone()
    } else {
        let (convolution, norm) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
        network.convolution_norm(&convolution, &norm, input, stride, 0, measures)?
    };
    Ok(output.f_add_(&shortcut)?.f_relu_()?)
}

pub(crate) fn head(network: &Network, features: &Tensor, dropout: Option<&Tensor>) -> Result<Tensor> {
    let pooled = features.f_adaptive_avg_pool2d([1, 1])?.f_flatten(1, -1)?;
    network.linear("fc", &dropped(pooled, dropout)?)
}
