//! `resnet18`: torchvision's `resnet18` (He et al., "Deep Residual Learning for Image Recognition", 2015) with dropout before the
//! head.

use perito_domain::spec::Stage;
use tch::Tensor;

use crate::{error::Result, network::Network};

pub(crate) fn stage(network: &Network, stage: Stage, input: &Tensor, trains: bool) -> Result<Tensor> {
    if stage == Stage::Stem {
        let features = network.convolution_norm("conv1", "bn1", input, 2, 3, trains)?.f_relu_()?;
        return Ok(features.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?);
    }
    let stride = if stage == Stage::Layer1 { 1 } else { 2 };
    let features = basic_block(network, &format!("{stage}.0"), input, stride, trains)?;
    basic_block(network, &format!("{stage}.1"), &features, 1, trains)
}

fn basic_block(network: &Network, name: &str, input: &Tensor, stride: i64, trains: bool) -> Result<Tensor> {
    let layer = |number: u8, input: &Tensor, stride: i64| {
        let (convolution, norm) = (format!("{name}.conv{number}"), format!("{name}.bn{number}"));
        network.convolution_norm(&convolution, &norm, input, stride, 1, trains)
    };
    let hidden = layer(1, input, stride)?.f_relu_()?;
    let output = layer(2, &hidden, 1)?;
    // The first block of layer2 to layer4 halves the picture: its shortcut must too.
    let shortcut = if stride == 1 {
        input.shallow_clone()
    } else {
        let (convolution, norm) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
        network.convolution_norm(&convolution, &norm, input, stride, 0, trains)?
    };
    Ok(output.f_add(&shortcut)?.f_relu_()?)
}

pub(crate) fn head(network: &Network, features: &Tensor, trains: bool) -> Result<Tensor> {
    let pooled = features.f_adaptive_avg_pool2d([1, 1])?.f_flatten(1, -1)?;
    network.linear("fc", &pooled.f_dropout(network.topology.dropout, trains)?)
}
