//! The specification of a training job.

use serde::{Deserialize, Serialize};

use super::error::{SpecError, in_range};
use crate::{
    names::{DatasetRef, ModelRef, Name},
    text_enum::text_enum,
};

text_enum! {
    /// The networks that can be trained.
    Architecture ("architecture") {
        /// Four blocks of 3x3 convolution, batch norm, ReLU and 2x2 max pooling, then two fully connected layers.
        Cnn4 = "cnn4",
        /// torchvision's ResNet18 (He et al., 2015) with dropout before the head.
        Resnet18 = "resnet18",
    }
}

text_enum! {
    /// A part of a network, in forward order: freezing a stage freezes all stages before it too.
    Stage ("stage") {
        /// `conv1` and `bn1` of a ResNet.
        Stem = "stem",
        /// `layer1` of a ResNet, or the first block of `cnn4`.
        Layer1 = "layer1",
        /// `layer2`, or the second block.
        Layer2 = "layer2",
        /// `layer3`, or the third block.
        Layer3 = "layer3",
        /// `layer4`, or the fourth block: only the head is trained.
        Layer4 = "layer4",
    }
}

/// Trains a model on a dataset's `training` split and registers the epoch with the best macro F1 on `validation`.
///
/// A field that the user leaves out comes from the architecture's preset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// The name under which the result is registered, as its next version.
    pub model: Name,
    /// The dataset.
    pub dataset: DatasetRef,
    /// The network.
    pub architecture: Architecture,
    /// A registered model of the same architecture whose weights training starts from; random ones when absent.
    pub weights: Option<ModelRef>,
    /// Side of the square input in pixels, 32 to 1024.
    pub image_size: u32,
    /// Probability, 0 to 0.95, that a feature before the head is dropped in training (Srivastava et al., 2014).
    pub dropout: f64,
    /// The last stage that stays as it is: it and all before it run in evaluation mode without gradients. None when absent.
    pub freeze: Option<Stage>,
    /// Passes over the training split.
    pub epochs: u32,
    /// Images in one optimiser step, 2 to 1024 (batch norm needs two).
    pub batch_size: u32,
    /// How gradients become steps.
    pub optimizer: Optimizer,
    /// How the learning rate changes from epoch to epoch.
    pub schedule: Schedule,
    /// Random changes of training images.
    pub augment: Augment,
    /// Seed of everything random.
    pub seed: u64,
}

/// How gradients become steps. Definitions and defaults are `torch.optim`'s.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Optimizer {
    /// Stochastic gradient descent, `torch.optim.SGD` with `dampening=0`.
    Sgd {
        /// Step size.
        learning_rate: f64,
        /// Share of the last step that is kept, 0 to 1.
        #[serde(default)]
        momentum: f64,
        /// L2 penalty added to the gradient.
        #[serde(default)]
        weight_decay: f64,
        /// Nesterov's momentum.
        #[serde(default)]
        nesterov: bool,
    },
    /// `torch.optim.Adam` (Kingma and Ba, 2014), weight decay as an L2 penalty.
    Adam {
        /// Step size.
        learning_rate: f64,
        /// Decay rates of the two moments.
        #[serde(default = "default_betas")]
        betas: [f64; 2],
        /// Added to the denominator.
        #[serde(default = "default_epsilon")]
        epsilon: f64,
        /// L2 penalty added to the gradient.
        #[serde(default)]
        weight_decay: f64,
    },
    /// `torch.optim.AdamW` (Loshchilov and Hutter, 2017), weight decay apart from the gradient.
    Adamw {
        /// Step size.
        learning_rate: f64,
        /// Decay rates of the two moments.
        #[serde(default = "default_betas")]
        betas: [f64; 2],
        /// Added to the denominator.
        #[serde(default = "default_epsilon")]
        epsilon: f64,
        /// Share of each weight that is taken away in a step of size 1.
        #[serde(default = "default_weight_decay")]
        weight_decay: f64,
    },
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn default_epsilon() -> f64 {
    1e-8
}

fn default_weight_decay() -> f64 {
    0.01
}

impl Optimizer {
    /// The step size before any schedule.
    pub fn learning_rate(&self) -> f64 {
        match self {
            Self::Sgd { learning_rate, .. } | Self::Adam { learning_rate, .. } | Self::Adamw { learning_rate, .. } => {
                *learning_rate
            }
        }
    }
}

/// How the learning rate changes from epoch to epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Schedule {
    /// It does not.
    Constant {},
    /// Multiplied by `gamma` every `epochs` epochs: `StepLR`.
    Step {
        /// Epochs between changes.
        epochs: u32,
        /// The factor.
        gamma: f64,
    },
    /// Rises linearly over `warmup_epochs`, then falls along half a cosine towards `minimum`: `CosineAnnealingLR`.
    Cosine {
        /// Epochs of linear rise.
        #[serde(default)]
        warmup_epochs: u32,
        /// The learning rate that an epoch after the last would have.
        #[serde(default)]
        minimum: f64,
    },
}

/// Random changes of training images, with torchvision's sampling ranges. All zero: none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Probability of a mirror image: `RandomHorizontalFlip(p)`.
    pub horizontal_flip: f64,
    /// Rotation by an angle drawn from plus or minus this many degrees: `RandomRotation`, filled with black.
    pub rotation_degrees: f64,
    /// Brightness factor drawn from 1 plus or minus this: `ColorJitter(brightness)`.
    pub brightness: f64,
    /// Contrast factor drawn from 1 plus or minus this: `ColorJitter(contrast)`.
    pub contrast: f64,
    /// Saturation factor drawn from 1 plus or minus this: `ColorJitter(saturation)`.
    pub saturation: f64,
    /// Random perspective: `RandomPerspective`.
    pub perspective: Perspective,
}

/// `RandomPerspective(distortion_scale, p)`, bilinear, filled with black.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Perspective {
    /// How far corners move, as a share of half the side, 0 to 1.
    pub distortion: f64,
    /// Probability that they move at all.
    pub probability: f64,
}

impl TrainSpec {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        in_range("image_size", self.image_size, 32, 1024)?;
        in_range("dropout", self.dropout, 0.0, 0.95)?;
        in_range("epochs", self.epochs, 1, 10_000)?;
        in_range("batch_size", self.batch_size, 2, 1024)?;
        if self.architecture == Architecture::Cnn4 && self.freeze == Some(Stage::Stem) {
            return Err(SpecError::invalid("freeze", "cnn4 has no stem: its stages are layer1 to layer4"));
        }
        self.optimizer.validate()?;
        match &self.schedule {
            Schedule::Constant {} => {}
            Schedule::Step { epochs, gamma } => {
                in_range("schedule.epochs", *epochs, 1, 10_000)?;
                in_range("schedule.gamma", *gamma, 0.0, 1.0)?;
            }
            Schedule::Cosine { warmup_epochs, minimum } => {
                in_range("schedule.warmup_epochs", *warmup_epochs, 0, self.epochs.saturating_sub(1))?;
                in_range("schedule.minimum", *minimum, 0.0, self.optimizer.learning_rate())?;
            }
        }
        let augment = &self.augment;
        in_range("augment.horizontal_flip", augment.horizontal_flip, 0.0, 1.0)?;
        in_range("augment.rotation_degrees", augment.rotation_degrees, 0.0, 180.0)?;
        in_range("augment.brightness", augment.brightness, 0.0, 1.0)?;
        in_range("augment.contrast", augment.contrast, 0.0, 1.0)?;
        in_range("augment.saturation", augment.saturation, 0.0, 1.0)?;
        in_range("augment.perspective.distortion", augment.perspective.distortion, 0.0, 1.0)?;
        in_range("augment.perspective.probability", augment.perspective.probability, 0.0, 1.0)
    }
}

impl Optimizer {
    fn validate(&self) -> Result<(), SpecError> {
        in_range("optimizer.learning_rate", self.learning_rate(), f64::MIN_POSITIVE, 10.0)?;
        match self {
            Self::Sgd { momentum, weight_decay, nesterov, .. } => {
                in_range("optimizer.momentum", *momentum, 0.0, 1.0)?;
                in_range("optimizer.weight_decay", *weight_decay, 0.0, 1.0)?;
                if *nesterov && *momentum == 0.0 {
                    return Err(SpecError::invalid("optimizer.nesterov", "needs a momentum above 0"));
                }
            }
            Self::Adam { betas, epsilon, weight_decay, .. } | Self::Adamw { betas, epsilon, weight_decay, .. } => {
                in_range("optimizer.betas", betas[0].max(betas[1]), 0.0, 1.0 - f64::EPSILON)?;
                in_range("optimizer.betas", betas[0].min(betas[1]), 0.0, 1.0 - f64::EPSILON)?;
                in_range("optimizer.epsilon", *epsilon, f64::MIN_POSITIVE, 1.0)?;
                in_range("optimizer.weight_decay", *weight_decay, 0.0, 1.0)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::spec::JobSpec;
    use serde_json::{Value, json};

    fn parse(extra: Value) -> Result<TrainSpec, SpecError> {
        let mut spec = json!({"kind": "train", "model": "severity", "dataset": "demo", "architecture": "cnn4"});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        match JobSpec::parse(spec)? {
            JobSpec::Train(spec) => Ok(*spec),
            other => panic!("not a training specification: {other:?}"),
        }
    }

    #[test]
    fn presets_are_the_published_recipes() {
        let cnn = parse(json!({})).unwrap();
        assert_eq!((cnn.epochs, cnn.dropout, cnn.freeze), (50, 0.5, None));
        assert_eq!(cnn.schedule, Schedule::Step { epochs: 20, gamma: 0.1 });
        let sgd = Optimizer::Sgd { learning_rate: 0.0005, momentum: 0.9, weight_decay: 0.0, nesterov: false };
        assert_eq!(cnn.optimizer, sgd);
        let resnet = parse(json!({"architecture": "resnet18"})).unwrap();
        assert_eq!((resnet.dropout, resnet.freeze), (0.6, Some(Stage::Layer3)));
        assert_eq!(resnet.schedule, Schedule::Constant {});
    }

    #[test]
    fn another_optimizer_replaces_the_presets_whole() {
        let spec = parse(json!({"optimizer": {"name": "adamw", "learning_rate": 0.01}})).unwrap();
        let Optimizer::Adamw { learning_rate, betas, weight_decay, .. } = spec.optimizer else { panic!() };
        assert_eq!((learning_rate, betas, weight_decay), (0.01, [0.9, 0.999], 0.01));
        let spec = parse(json!({"optimizer": {"learning_rate": 0.01}})).unwrap();
        let Optimizer::Sgd { learning_rate, momentum, .. } = spec.optimizer else { panic!() };
        assert_eq!((learning_rate, momentum), (0.01, 0.9), "the rest of the preset stays");
    }

    #[test]
    fn impossible_values_are_refused_by_the_fields_name() {
        for (extra, field) in [
            (json!({"image_size": 8}), "image_size"),
            (json!({"epochs": 0}), "epochs"),
            (json!({"batch_size": 1}), "batch_size"),
            (json!({"dropout": 1.0}), "dropout"),
            (json!({"freeze": "stem"}), "freeze"),
            (json!({"freeze": "layer9"}), "freeze"),
            (json!({"optimizer": {"learning_rate": -1.0}}), "optimizer.learning_rate"),
            (
                json!({"optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0, "nesterov": true}}),
                "optimizer.nesterov",
            ),
            (json!({"optimizer": {"name": "adam", "learning_rate": 0.1, "betas": [0.9, 1.0]}}), "optimizer.betas"),
            (json!({"schedule": {"name": "cosine", "warmup_epochs": 50}}), "schedule.warmup_epochs"),
            (json!({"augment": {"perspective": {"probability": 1.5}}}), "augment.perspective.probability"),
            (json!({"epochs": "many"}), "epochs"),
        ] {
            match parse(extra).unwrap_err() {
                SpecError::Invalid { field: named, problem } => assert_eq!(named, field, "{problem}"),
                other => panic!("{other}"),
            }
        }
    }
}
