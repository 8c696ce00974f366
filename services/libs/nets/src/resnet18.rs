//! `resnet18`: torchvision's `resnet18` (He et al., "Deep Residual Learning for Image Recognition", 2015) with dropout before the
//! head.

use perito_domain::spec::Stage;
use tch::Tensor;

use crate::{
    error::Result,
    fused::{Geometry, Then},
    network::{Layer, Network, Pool, dropped},
};

pub(crate) const STAGES: [Stage; 5] = [Stage::Stem, Stage::Layer1, Stage::Layer2, Stage::Layer3, Stage::Layer4];

pub(crate) fn stage(network: &Network, stage: Stage, input: &Tensor, measures: bool) -> Result<Tensor> {
    if stage == Stage::Stem {
        let layer = Layer { convolution: "conv1", norm: "bn1", geometry: Geometry { stride: 2, padding: 3 }, measures };
        return network.layer_pool(&layer, input, &Pool { window: 3, geometry: Geometry { stride: 2, padding: 1 } });
    }
    let stride = if stage == Stage::Layer1 { 1 } else { 2 };
    let features = basic_block(network, &format!("{stage}.0"), input, stride, measures)?;
    basic_block(network, &format!("{stage}.1"), &features, 1, measures)
}

fn basic_block(network: &Network, name: &str, input: &Tensor, stride: i64, measures: bool) -> Result<Tensor> {
    let layer = |number: u8, input: &Tensor, stride: i64, then: Then| {
        let (convolution, norm) = (format!("{name}.conv{number}"), format!("{name}.bn{number}"));
        let geometry = Geometry { stride, padding: 1 };
        network.layer(&Layer { convolution: &convolution, norm: &norm, geometry, measures }, input, then)
    };
    let hidden = layer(1, input, stride, Then::Relu)?;
    // The first block of layer2 to layer4 halves the picture: its shortcut must too.
    let shortcut = if stride == 1 {
        input.shallow_clone()
    } else {
        let (convolution, norm) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
        let geometry = Geometry { stride, padding: 0 };
        network.layer(&Layer { convolution: &convolution, norm: &norm, geometry, measures }, input, Then::Nothing)?
    };
    layer(2, &hidden, 1, Then::AddRelu(shortcut))
}

pub(crate) fn head(network: &Network, features: &Tensor, dropout: Option<&Tensor>) -> Result<Tensor> {
    let pooled = features.f_adaptive_avg_pool2d([1, 1])?.f_flatten(1, -1)?;
    network.linear("fc", &dropped(pooled, dropout)?)
}
