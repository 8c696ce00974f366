//! Initial weights from a seed.

use perito_domain::{
    parameters::{Parameter, Role},
    random::{Purpose, rng},
    spec::Architecture,
};
use rand_distr::{Distribution, Normal, Uniform};

use crate::{
    device::Device,
    error::{NetError, Result},
    network::Topology,
    weights::{Tensors, table, tensor},
};

/// First values, a function of the seed alone: each tensor draws from a stream of its own, numbered by its place in the table.
///
/// The distributions are PyTorch's. `cnn4`: `nn.Conv2d` and `nn.Linear` (`kaiming_uniform_(a=sqrt(5))`, so uniform within
/// 1/sqrt(fan in)). `resnet18`: torchvision's (`kaiming_normal_(mode="fan_out")` for convolutions), the head as `nn.Linear`.
pub(crate) fn initial(topology: &Topology, seed: u64, device: Device) -> Result<Tensors> {
    table(topology)
        .into_iter()
        .enumerate()
        .map(|(index, parameter)| {
            let values = draw(topology.architecture, &parameter, seed, index as u64)?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
            let tensor = tensor(&bytes, &parameter.shape, device)?;
            Ok((parameter.name, tensor))
        })
        .collect()
}

/// Makes residual blocks that start from random weights begin as their shortcut alone: the weight of their last batch norm becomes
/// 0 (Goyal et al., 2017, section 5.1; torchvision's `zero_init_residual`).
pub(crate) fn zero_residuals(tensors: &mut Tensors, random: &[String]) -> Result<()> {
    for block in random.iter().filter_map(|name| name.strip_suffix(".conv2.weight")) {
        if let Some(weight) = tensors.get_mut(&format!("{block}.bn2.weight")) {
            let _ = weight.f_zero_()?;
        }
    }
    Ok(())
}

fn draw(architecture: Architecture, parameter: &Parameter, seed: u64, index: u64) -> Result<Vec<f32>> {
    let Parameter { name, shape, role, .. } = parameter;
    let count: usize = shape.iter().product();
    let mut rng = rng(seed, Purpose::Weights, 0, index);
    let impossible = || NetError::Weights(format!("tensor {name} of the shape {shape:?} cannot be initialised"));
    let fan_in = match *role {
        Role::NormWeight | Role::RunningVariance => return Ok(vec![1.0; count]),
        Role::NormBias | Role::RunningMean => return Ok(vec![0.0; count]),
        Role::Convolution if architecture == Architecture::Resnet18 => {
            let fan_out = shape[0] * shape[2..].iter().product::<usize>();
            let normal = Normal::new(0.0, (2.0 / fan_out as f32).sqrt()).map_err(|_| impossible())?;
            return Ok(normal.sample_iter(&mut rng).take(count).collect());
        }
        Role::Convolution | Role::Linear => shape[1..].iter().product(),
        Role::Bias { fan_in } => fan_in,
    };
    let bound = (fan_in as f32).sqrt().recip();
    let uniform = Uniform::new(-bound, bound).map_err(|_| impossible())?;
    Ok(uniform.sample_iter(&mut rng).take(count).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tch::Kind;

    /// Reference: the definitions of `kaiming_normal_(mode="fan_out")` and `kaiming_uniform_(a=sqrt(5))`.
    #[test]
    fn values_are_spread_as_pytorch_spreads_them() {
        let cpu = Device(tch::Device::Cpu);
        let topology = |architecture| Topology { architecture, image_size: 64, dropout: 0.0 };
        let normal = |fan_out: f64| ((2.0 / fan_out).sqrt(), f64::INFINITY);
        let uniform = |fan_in: f64| (1.0 / (3.0 * fan_in).sqrt(), 1.0 / fan_in.sqrt());
        for (architecture, name, (deviation, largest)) in [
            (Architecture::Resnet18, "conv1.weight", normal(64.0 * 49.0)),
            (Architecture::Resnet18, "layer3.0.conv2.weight", normal(256.0 * 9.0)),
            (Architecture::Resnet18, "layer3.0.downsample.0.weight", normal(256.0)),
            (Architecture::Resnet18, "fc.weight", uniform(512.0)),
            (Architecture::Cnn4, "layer3.conv.weight", uniform(64.0 * 9.0)),
            (Architecture::Cnn4, "layer4.conv.bias", uniform(128.0 * 9.0)),
            (Architecture::Cnn4, "fc1.weight", uniform(256.0 * 16.0)),
        ] {
            let tensors = initial(&topology(architecture), 3, cpu).unwrap();
            let tensor = &tensors[name];
            let actual = tensor.std(true).double_value(&[]);
            assert!((actual / deviation - 1.0).abs() < 0.08, "{name}: {actual} is not {deviation}");
            assert!(tensor.abs().max().double_value(&[]) <= largest * 1.000_001, "{name}");
            assert!(tensor.mean(Kind::Float).double_value(&[]).abs() < 0.15 * deviation, "{name}");
        }
    }
}
