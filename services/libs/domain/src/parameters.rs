//! Every tensor of each network: its name, shape and part. One table serves the network itself, its initial weights, and the check
//! of a weight file by programs that do not link libtorch.
//!
//! Names are torchvision's for `resnet18` (`torchvision.models.resnet18().state_dict()`, without `num_batches_tracked`). Those of
//! `cnn4` are `layer1.conv`, `layer1.bn` to `layer4`, then `fc1` and `fc2`.

use crate::{
    severity::CLASSES,
    spec::{Architecture, Stage},
};

/// What a tensor is for, which decides its first value and whether training changes it by gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Weight of a convolution: out, in, height, width.
    Convolution,
    /// Weight of a linear layer: out, in.
    Linear,
    /// Bias of a convolution or a linear layer whose outputs each see this many inputs.
    Bias {
        /// The number of inputs.
        fan_in: usize,
    },
    /// Scale of a batch norm.
    NormWeight,
    /// Offset of a batch norm.
    NormBias,
    /// Running mean of a batch norm: a buffer.
    RunningMean,
    /// Running variance of a batch norm: a buffer.
    RunningVariance,
}

impl Role {
    /// Whether training changes it by gradients.
    pub fn is_trained(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVariance)
    }
}

/// One tensor of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in a weight file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// The stage that it belongs to; `None` for the head.
    pub stage: Option<Stage>,
}

/// Filters of the four convolutions of `cnn4`.
pub const CNN4_FILTERS: [usize; 4] = [32, 64, 128, 256];
/// Width of the hidden linear layer of `cnn4`.
pub const CNN4_HIDDEN: usize = 512;
/// Channels of the four layers of `resnet18`.
pub const RESNET18_CHANNELS: [usize; 4] = [64, 128, 256, 512];

const STAGES: [Stage; 4] = [Stage::Layer1, Stage::Layer2, Stage::Layer3, Stage::Layer4];

/// The name of the last linear layer, whose outputs are the logits.
pub fn head(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Cnn4 => "fc2",
        Architecture::Resnet18 => "fc",
    }
}

/// All tensors of a network, in forward order. `image_size` matters to `cnn4` only, whose first linear layer sees every position.
pub fn parameters(architecture: Architecture, image_size: u32) -> Vec<Parameter> {
    let mut table = Table::default();
    match architecture {
        Architecture::Cnn4 => cnn4(&mut table, image_size as usize),
        Architecture::Resnet18 => resnet18(&mut table),
    }
    table.0
}

fn cnn4(table: &mut Table, image_size: usize) {
    let mut channels = 3;
    for (stage, filters) in STAGES.into_iter().zip(CNN4_FILTERS) {
        table.convolution(&format!("{stage}.conv"), filters, channels, 3, true, stage);
        table.norm(&format!("{stage}.bn"), filters, stage);
        channels = filters;
    }
    // Four times halved by pooling, rounded down each time.
    let side = image_size >> 4;
    table.linear("fc1", CNN4_HIDDEN, channels * side * side);
    table.linear("fc2", CLASSES, CNN4_HIDDEN);
}

fn resnet18(table: &mut Table) {
    table.convolution("conv1", RESNET18_CHANNELS[0], 3, 7, false, Stage::Stem);
    table.norm("bn1", RESNET18_CHANNELS[0], Stage::Stem);
    let mut inputs = RESNET18_CHANNELS[0];
    for (stage, channels) in STAGES.into_iter().zip(RESNET18_CHANNELS) {
        for block in 0..2 {
            let block_inputs = if block == 0 { inputs } else { channels };
            for (number, inputs) in [(1, block_inputs), (2, channels)] {
                table.convolution(&format!("{stage}.{block}.conv{number}"), channels, inputs, 3, false, stage);
                table.norm(&format!("{stage}.{block}.bn{number}"), channels, stage);
            }
            if block_inputs != channels {
                table.convolution(&format!("{stage}.{block}.downsample.0"), channels, block_inputs, 1, false, stage);
                table.norm(&format!("{stage}.{block}.downsample.1"), channels, stage);
            }
        }
        inputs = channels;
    }
    table.linear("fc", CLASSES, inputs);
}

#[derive(Default)]
struct Table(Vec<Parameter>);

impl Table {
    fn add(&mut self, name: String, shape: Vec<usize>, role: Role, stage: Option<Stage>) {
        self.0.push(Parameter { name, shape, role, stage });
    }

    fn convolution(&mut self, name: &str, outputs: usize, inputs: usize, kernel: usize, bias: bool, stage: Stage) {
        self.add(format!("{name}.weight"), vec![outputs, inputs, kernel, kernel], Role::Convolution, Some(stage));
        if bias {
            let role = Role::Bias { fan_in: inputs * kernel * kernel };
            self.add(format!("{name}.bias"), vec![outputs], role, Some(stage));
        }
    }

    fn norm(&mut self, name: &str, channels: usize, stage: Stage) {
        for (part, role) in [
            ("weight", Role::NormWeight),
            ("bias", Role::NormBias),
            ("running_mean", Role::RunningMean),
            ("running_var", Role::RunningVariance),
        ] {
            self.add(format!("{name}.{part}"), vec![channels], role, Some(stage));
        }
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) {
        self.add(format!("{name}.weight"), vec![outputs, inputs], Role::Linear, None);
        self.add(format!("{name}.bias"), vec![outputs], Role::Bias { fan_in: inputs }, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trained(architecture: Architecture, image_size: u32) -> usize {
        parameters(architecture, image_size)
            .iter()
            .filter(|parameter| parameter.role.is_trained())
            .map(|parameter| parameter.shape.iter().product::<usize>())
            .sum()
    }

    #[test]
    fn resnet18_has_the_published_number_of_parameters() {
        // torchvision's 11,689,512 with 1,000 classes, whose head has 513,000; ours has 512 x 3 + 3.
        assert_eq!(trained(Architecture::Resnet18, 224), 11_689_512 - 513_000 + 1_539);
        assert_eq!(parameters(Architecture::Resnet18, 224).len(), 122 - 20);
    }

    #[test]
    fn cnn4_grows_with_the_image() {
        let convolutions = 32 * 27 + 64 * 288 + 128 * 576 + 256 * 1152;
        let biases_and_norms = 3 * (32 + 64 + 128 + 256);
        let linear = |side: usize| 512 * 256 * side * side + 512 + 512 * 3 + 3;
        assert_eq!(trained(Architecture::Cnn4, 224), convolutions + biases_and_norms + linear(14));
        assert_eq!(trained(Architecture::Cnn4, 100), convolutions + biases_and_norms + linear(6));
    }
}
