//! The specification of a training job.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    augment::{Augment, Mix},
    error::{SpecError, in_range},
    loss::Loss,
    optimizer::{Optimizer, Schedule},
};
use crate::{
    names::{DatasetRef, ModelRef, Name},
    preprocessing::{self, Preprocessing},
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

text_enum! {
    /// The numbers that convolutions are computed in while training. Weights, statistics, the head and the loss are of 32 bits in any
    /// case, and so are measuring and scoring.
    Precision ("precision") {
        /// 32 bits.
        Float32 = "float32",
        /// 16 bits with the range of 32 (Kalamkar et al., 2019): faster where the processor has instructions for it (AMX, AVX512_BF16,
        /// tensor cores), slower elsewhere.
        Bfloat16 = "bfloat16",
    }
}

/// Trains a model on a dataset's `training` split and registers the epoch with the best macro F1 on `validation`.
///
/// A field that the user leaves out comes from the preset that the specification names (`"preset": "cnn-best"`), or from the
/// architecture's `-seed` preset.
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
    /// The version of the preprocessing contract: 1 decodes photographs exactly, 2 and 3 large JPEGs at a reduced scale, 3 several
    /// times as fast (see [`crate::preprocessing::Preprocessing`]). Specifications from before there was a choice mean 1.
    #[serde(default = "exact")]
    pub preprocessing_version: u32,
    /// Probability, 0 to 0.95, that a feature before the head is dropped in training (Srivastava et al., 2014).
    pub dropout: f64,
    /// The last stage that stays as it is: it and all before it run in evaluation mode without gradients. None when absent.
    pub freeze: Option<Stage>,
    /// The last stage whose batch norms keep their running statistics, as pretrained weights need where batches are small, while
    /// its weights may still learn. None when absent; stages that `freeze` names keep theirs in any case.
    pub freeze_statistics: Option<Stage>,
    /// Factors on the learning rate, stage by stage: `{"layer3": 0.1}`. Stages that are not named, and the head, have 1.
    pub learning_rate_scales: BTreeMap<Stage, f64>,
    /// Whether the last batch norm of each residual block that starts from random weights begins at zero, so that the block begins
    /// as its shortcut alone (Goyal et al., 2017; torchvision's `zero_init_residual`).
    pub zero_init_residual: bool,
    /// Passes over the training split.
    pub epochs: u32,
    /// Images in one optimiser step, 2 to 1024 (batch norm needs two).
    pub batch_size: u32,
    /// The numbers that convolutions are computed in.
    pub precision: Precision,
    /// How gradients become steps.
    pub optimizer: Optimizer,
    /// How the learning rate changes from epoch to epoch.
    pub schedule: Schedule,
    /// How predictions are held against labels.
    pub loss: Loss,
    /// Random changes of training images, one by one.
    pub augment: Augment,
    /// Random mixtures of the images of a batch.
    pub mix: Mix,
    /// Decay of the exponential moving average of the weights that is measured and registered in place of the weights themselves,
    /// 0 (none) to 0.9999. In step n the decay is min(decay, (1 + n) / (10 + n)), so that a short run forgets where it began.
    pub ema_decay: f64,
    /// The share of the epochs, 0 to 0.99, after which the equal mean of the weights after each further step is measured and
    /// registered in place of the moving average (stochastic weight averaging, Izmailov et al., 2018). Steps should stay large from
    /// there on, as with a constant schedule, so that there is something to average. None when absent.
    pub swa_start: Option<f64>,
    /// Epochs without a better macro F1 on the validation split after which training ends. None: it runs all epochs.
    pub early_stopping: Option<u32>,
    /// Whether the model predicts the mean of the probabilities of an image and its mirror image, in validation and in scoring.
    pub test_time_flip: bool,
    /// Seed of everything random.
    pub seed: u64,
}

fn exact() -> u32 {
    preprocessing::EXACT
}

impl TrainSpec {
    /// The contract from bytes to the model's input, as it is recorded with the model.
    pub fn preprocessing(&self) -> Preprocessing {
        Preprocessing {
            version: self.preprocessing_version,
            test_time_flip: self.test_time_flip,
            ..Preprocessing::imagenet(self.image_size)
        }
    }

    /// The first epoch, from 1, with stochastic weight averaging.
    pub fn swa_epoch(&self) -> Option<u32> {
        self.swa_start.map(|share| (share * f64::from(self.epochs)) as u32 + 1)
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        in_range("image_size", self.image_size, 32, 1024)?;
        preprocessing::check_version(self.preprocessing_version)
            .map_err(|error| SpecError::invalid("preprocessing_version", error.to_string()))?;
        in_range("dropout", self.dropout, 0.0, 0.95)?;
        in_range("epochs", self.epochs, 1, 10_000)?;
        in_range("batch_size", self.batch_size, 2, 1024)?;
        if self.architecture == Architecture::Cnn4 && self.freeze == Some(Stage::Stem) {
            return Err(SpecError::invalid("freeze", "cnn4 has no stem: its stages are layer1 to layer4"));
        }
        if let (Some(stage), None) = (self.freeze.max(self.freeze_statistics), &self.weights) {
            let problem = format!(
                "{stage} is to stay as it is, which needs weights to start from: name a registered model with `weights` (perito model \
                 import registers one), or set this to null"
            );
            return Err(SpecError::invalid(
                if self.freeze.is_some() { "freeze" } else { "freeze_statistics" },
                problem,
            ));
        }
        self.optimizer.validate()?;
        self.schedule.validate(self.epochs, self.optimizer.learning_rate())?;
        if self.architecture == Architecture::Cnn4 {
            let no_stem = "cnn4 has no stem: its stages are layer1 to layer4";
            if self.freeze_statistics == Some(Stage::Stem) {
                return Err(SpecError::invalid("freeze_statistics", no_stem));
            }
            if self.learning_rate_scales.contains_key(&Stage::Stem) {
                return Err(SpecError::invalid("learning_rate_scales.stem", no_stem));
            }
            if self.zero_init_residual {
                return Err(SpecError::invalid("zero_init_residual", "cnn4 has no residual blocks"));
            }
        }
        for (stage, &scale) in &self.learning_rate_scales {
            in_range(&format!("learning_rate_scales.{stage}"), scale, f64::MIN_POSITIVE, 100.0)?;
            if self.freeze.is_some_and(|frozen| *stage <= frozen) {
                return Err(SpecError::invalid(&format!("learning_rate_scales.{stage}"), "the stage is frozen"));
            }
        }
        self.loss.validate()?;
        self.augment.validate(self.image_size)?;
        self.mix.validate()?;
        in_range("ema_decay", self.ema_decay, 0.0, 0.9999)?;
        self.swa_start.map_or(Ok(()), |start| in_range("swa_start", start, 0.0, 0.99))?;
        self.early_stopping.map_or(Ok(()), |epochs| in_range("early_stopping", epochs, 1, 10_000))
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
        let resnet = parse(json!({"architecture": "resnet18", "weights": "imagenet"})).unwrap();
        assert_eq!((resnet.dropout, resnet.freeze), (0.6, Some(Stage::Layer3)));
        assert_eq!(resnet.schedule, Schedule::Constant {});
    }

    #[test]
    fn new_specifications_decode_at_a_reduced_scale_and_old_ones_go_on_exactly() {
        let new = parse(json!({"test_time_flip": true})).unwrap();
        assert_eq!((new.preprocessing().version, new.preprocessing().test_time_flip), (preprocessing::NEWEST, true));
        let mut stored = serde_json::to_value(&new).unwrap();
        stored.as_object_mut().unwrap().remove("preprocessing_version");
        let old: TrainSpec = serde_json::from_value(stored).unwrap();
        assert_eq!(old.preprocessing().version, preprocessing::EXACT);
        assert_eq!(parse(json!({"preprocessing_version": 1})).unwrap().preprocessing().version, preprocessing::EXACT);
    }

    #[test]
    fn weight_averaging_starts_after_its_share_of_the_epochs() {
        let epoch = |more| parse(more).unwrap().swa_epoch();
        assert_eq!(epoch(json!({"epochs": 20, "swa_start": 0.4})), Some(9));
        assert_eq!(epoch(json!({"epochs": 1, "swa_start": 0.4})), Some(1));
        assert_eq!(epoch(json!({"epochs": 20, "swa_start": 0.0})), Some(1));
        assert_eq!(epoch(json!({"epochs": 20})), None);
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
            (json!({"preprocessing_version": 0}), "preprocessing_version"),
            (json!({"preprocessing_version": 4}), "preprocessing_version"),
            (json!({"epochs": 0}), "epochs"),
            (json!({"batch_size": 1}), "batch_size"),
            (json!({"dropout": 1.0}), "dropout"),
            (json!({"freeze": "stem"}), "freeze"),
            (json!({"freeze": "layer9"}), "freeze"),
            (json!({"freeze": "layer1"}), "freeze"),
            (json!({"freeze_statistics": "layer1"}), "freeze_statistics"),
            (json!({"optimizer": {"learning_rate": -1.0}}), "optimizer.learning_rate"),
            (
                json!({"optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0, "nesterov": true}}),
                "optimizer.nesterov",
            ),
            (json!({"optimizer": {"name": "adam", "learning_rate": 0.1, "betas": [0.9, 1.0]}}), "optimizer.betas"),
            (json!({"schedule": {"name": "cosine", "warmup_epochs": 50}}), "schedule.warmup_epochs"),
            (json!({"augment": {"perspective": {"probability": 1.5}}}), "augment.perspective.probability"),
            (json!({"schedule": {"name": "plateau", "factor": 1.5}}), "schedule.factor"),
            (json!({"freeze_statistics": "stem"}), "freeze_statistics"),
            (json!({"zero_init_residual": true}), "zero_init_residual"),
            (json!({"learning_rate_scales": {"stem": 0.1}}), "learning_rate_scales.stem"),
            (json!({"learning_rate_scales": {"layer2": 0.0}}), "learning_rate_scales.layer2"),
            (
                json!({"freeze": "layer2", "weights": "w", "learning_rate_scales": {"layer2": 0.1}}),
                "learning_rate_scales.layer2",
            ),
            (json!({"loss": {"label_smoothing": 1.0}}), "loss.label_smoothing"),
            (json!({"loss": {"class_weights": [1, -1, 1]}}), "loss.class_weights"),
            (json!({"loss": {"class_weights": [1, 1]}}), "loss.class_weights"),
            (json!({"augment": {"crop": {"from": 100}}}), "augment.crop.from"),
            (json!({"augment": {"crop": {"from": 256, "scale": [0.9, 0.5]}}}), "augment.crop.scale"),
            (json!({"augment": {"crop": {"from": 256, "ratio": [0.0, 1.0]}}}), "augment.crop.ratio"),
            (json!({"augment": {"erasing": {"probability": 2}}}), "augment.erasing.probability"),
            (json!({"mix": {"probability": 0.5}}), "mix.probability"),
            (json!({"mix": {"mixup": -1.0}}), "mix.mixup"),
            (json!({"ema_decay": 1.0}), "ema_decay"),
            (json!({"swa_start": 1.0}), "swa_start"),
            (json!({"swa_start": -0.1}), "swa_start"),
            (json!({"early_stopping": 0}), "early_stopping"),
            (json!({"precision": "float8"}), "precision"),
            (json!({"epochs": "many"}), "epochs"),
        ] {
            match parse(extra).unwrap_err() {
                SpecError::Invalid { field: named, problem } => assert_eq!(named, field, "{problem}"),
                other => panic!("{other}"),
            }
        }
    }
}
