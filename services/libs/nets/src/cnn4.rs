//! `cnn4`: four blocks of 3x3 convolution (32, 64, 128, 256 filters), batch norm, ReLU and 2x2 max pooling; a linear layer of
//! 512 with ReLU and dropout; 3 logits.

use perito_domain::spec::Stage;
use tch::Tensor;

use crate::{
    error::Result,
    fused::Geometry,
    network::{Layer, Network, Pool, dropped},
};

pub(crate) const STAGES: [Stage; 4] = [Stage::Layer1, Stage::Layer2, Stage::Layer3, Stage::Layer4];

pub(crate) fn stage(network: &Network, stage: Stage, input: &Tensor, measures: bool) -> Result<Tensor> {
    let (convolution, norm) = (format!("{stage}.conv"), format!("{stage}.bn"));
    let layer =
        Layer { convolution: &convolution, norm: &norm, geometry: Geometry { stride: 1, padding: 1 }, measures };
    network.layer_pool(&layer, input, &Pool { window: 2, geometry: Geometry { stride: 2, padding: 0 } })
}

pub(crate) fn head(network: &Network, features: &Tensor, dropout: Option<&Tensor>) -> Result<Tensor> {
    let hidden = network.linear("fc1", &features.f_flatten(1, -1)?)?.f_relu_()?;
    network.linear("fc2", &dropped(hidden, dropout)?)
}
