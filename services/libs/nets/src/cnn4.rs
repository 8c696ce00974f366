//! `cnn4`: four blocks of 3x3 convolution (32, 64, 128, 256 filters), batch norm, ReLU and 2x2 max pooling; a linear layer of
//! 512 with ReLU and dropout; 3 logits.

use perito_domain::spec::Stage;
use tch::Tensor;

use crate::{
    error::Result,
    network::{Network, dropped},
};

pub(crate) const STAGES: [Stage; 4] = [Stage::Layer1, Stage::Layer2, Stage::Layer3, Stage::Layer4];

pub(crate) fn stage(network: &Network, stage: Stage, input: &Tensor, measures: bool) -> Result<Tensor> {
    let (convolution, norm) = (format!("{stage}.conv"), format!("{stage}.bn"));
    let features = network.convolution_norm(&convolution, &norm, input, 1, 1, measures)?;
    // ReLU never changes which value is the largest, so it may come after the pooling, where a quarter of the values is left.
    Ok(features.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)?.f_relu_()?)
}

pub(crate) fn head(network: &Network, features: &Tensor, dropout: Option<&Tensor>) -> Result<Tensor> {
    let hidden = network.linear("fc1", &features.f_flatten(1, -1)?)?.f_relu_()?;
    network.linear("fc2", &dropped(hidden, dropout)?)
}
