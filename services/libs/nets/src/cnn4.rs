//! `cnn4`: four blocks of 3x3 convolution (32, 64, 128, 256 filters), batch norm, ReLU and 2x2 max pooling; a linear layer of
//! 512 with ReLU and dropout; 3 logits.

use perito_domain::spec::Stage;
use tch::Tensor;

use crate::{error::Result, network::Network};

pub(crate) fn stage(network: &Network, stage: Stage, input: &Tensor, trains: bool) -> Result<Tensor> {
    let (convolution, norm) = (format!("{stage}.conv"), format!("{stage}.bn"));
    let features = network.convolution_norm(&convolution, &norm, input, 1, 1, trains)?.f_relu_()?;
    Ok(features.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)?)
}

pub(crate) fn head(network: &Network, features: &Tensor, trains: bool) -> Result<Tensor> {
    let hidden = network.linear("fc1", &features.f_flatten(1, -1)?)?.f_relu_()?;
    network.linear("fc2", &hidden.f_dropout(network.topology.dropout, trains)?)
}
