//! Training and sweeps, as the OpenAPI document shows them.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

/// A training job. What is left out comes from the preset.
#[derive(ToSchema)]
pub(crate) struct TrainSpec {
    /// The name under which the result is registered, as its next version.
    #[schema(examples("severity"))]
    model: String,
    /// The dataset: `NAME` for the newest version, or `NAME@VERSION`.
    #[schema(examples("demo@1"))]
    dataset: String,
    /// The recipe to begin with; the network's `-seed` preset when absent.
    preset: Option<Preset>,
    /// The network; may be left out where a preset is named.
    architecture: Option<Architecture>,
    /// A registered model of the same architecture whose weights training starts from; random ones when absent.
    weights: Option<String>,
    /// Side of the square input in pixels.
    #[schema(default = 224, minimum = 32, maximum = 1024)]
    image_size: Option<u32>,
    /// The version of the preprocessing contract: 1 decodes photographs exactly, 2 and 3 large JPEGs at a reduced scale.
    #[schema(default = 3, minimum = 1, maximum = 3)]
    preprocessing_version: Option<u32>,
    /// Probability that a feature before the head is dropped in training. Preset: 0.5 for cnn4, 0.6 for resnet18.
    #[schema(minimum = 0, maximum = 0.95)]
    dropout: Option<f64>,
    /// The last stage that stays as it is: it and all before it. Preset: none for cnn4, layer3 for resnet18.
    freeze: Option<Stage>,
    /// Passes over the training split.
    #[schema(default = 50, minimum = 1, maximum = 10000)]
    epochs: Option<u32>,
    /// Images in one optimiser step.
    #[schema(default = 32, minimum = 2, maximum = 1024)]
    batch_size: Option<u32>,
    /// The numbers that convolutions are computed in.
    precision: Option<Precision>,
    /// How gradients become steps. Preset: sgd (0.0005, momentum 0.9) for cnn4, adam (0.001) for resnet18.
    optimizer: Option<Optimizer>,
    /// How the learning rate changes from epoch to epoch. Preset: step (20, 0.1) for cnn4, constant for resnet18.
    schedule: Option<Schedule>,
    /// The last stage whose batch norms keep their running statistics.
    freeze_statistics: Option<Stage>,
    /// Factors on the learning rate by stage.
    #[schema(examples(json!({"layer3": 0.1})))]
    learning_rate_scales: Option<BTreeMap<String, f64>>,
    /// Whether residual blocks that start from random weights begin as their shortcut alone.
    #[schema(default = false)]
    zero_init_residual: Option<bool>,
    /// How predictions are held against labels.
    loss: Option<Loss>,
    /// Random changes of training images, one by one.
    augment: Option<Augment>,
    /// Random mixtures of the images of a batch.
    mix: Option<Mix>,
    /// Decay of the moving average of the weights that is measured and registered; 0: the weights themselves.
    #[schema(default = 0.0, minimum = 0, maximum = 0.9999)]
    ema_decay: Option<f64>,
    /// The share of the epochs after which the equal mean of the weights after each step is measured and registered; absent: none.
    #[schema(minimum = 0, maximum = 0.99)]
    swa_start: Option<f64>,
    /// Epochs without a better macro F1 after which training ends; absent: never.
    #[schema(minimum = 1, maximum = 10000)]
    early_stopping: Option<u32>,
    /// Whether the model predicts the mean over an image and its mirror image.
    #[schema(default = false)]
    test_time_flip: Option<bool>,
    /// Seed of everything random.
    #[schema(default = 42)]
    seed: Option<u64>,
}

/// The networks that can be trained.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Architecture {
    Cnn4,
    Resnet18,
}

/// The numbers that convolutions are computed in while training.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    Float32,
    Bfloat16,
}

/// A part of a network, in forward order.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    Stem,
    Layer1,
    Layer2,
    Layer3,
    Layer4,
}

/// How gradients become steps, with the definitions and defaults of `torch.optim`.
#[derive(ToSchema)]
#[serde(tag = "name", rename_all = "lowercase")]
pub(crate) enum Optimizer {
    /// `torch.optim.SGD`.
    Sgd {
        learning_rate: f64,
        #[schema(default = 0.0)]
        momentum: Option<f64>,
        #[schema(default = 0.0)]
        weight_decay: Option<f64>,
        #[schema(default = false)]
        nesterov: Option<bool>,
    },
    /// `torch.optim.Adam`.
    Adam {
        learning_rate: f64,
        betas: Option<[f64; 2]>,
        #[schema(default = 1e-8)]
        epsilon: Option<f64>,
        #[schema(default = 0.0)]
        weight_decay: Option<f64>,
    },
    /// `torch.optim.AdamW`.
    Adamw {
        learning_rate: f64,
        betas: Option<[f64; 2]>,
        #[schema(default = 1e-8)]
        epsilon: Option<f64>,
        #[schema(default = 0.01)]
        weight_decay: Option<f64>,
    },
}

/// How the learning rate changes from epoch to epoch.
#[derive(ToSchema)]
#[serde(tag = "name", rename_all = "lowercase")]
pub(crate) enum Schedule {
    /// It does not.
    Constant {},
    /// Multiplied by `gamma` every `epochs` epochs.
    Step { epochs: u32, gamma: f64 },
    /// Rises linearly over `warmup_epochs`, then falls along half a cosine to `minimum`.
    Cosine { warmup_epochs: Option<u32>, minimum: Option<f64> },
    /// Multiplied by `factor` when the validation loss has not fallen for more than `patience` epochs.
    Plateau { factor: Option<f64>, patience: Option<u32>, minimum: Option<f64> },
}

/// Random changes of training images, with torchvision's sampling ranges.
#[derive(ToSchema)]
pub(crate) struct Augment {
    crop: Option<Crop>,
    #[schema(default = 0.5, minimum = 0, maximum = 1)]
    horizontal_flip: Option<f64>,
    #[schema(default = 15.0, minimum = 0, maximum = 180)]
    rotation_degrees: Option<f64>,
    #[schema(default = 0.2, minimum = 0, maximum = 1)]
    brightness: Option<f64>,
    #[schema(default = 0.2, minimum = 0, maximum = 1)]
    contrast: Option<f64>,
    #[schema(default = 0.0, minimum = 0, maximum = 1)]
    saturation: Option<f64>,
    perspective: Option<Perspective>,
    erasing: Option<Erasing>,
}

/// Random perspective.
#[derive(ToSchema)]
pub(crate) struct Perspective {
    #[schema(default = 0.2, minimum = 0, maximum = 1)]
    distortion: Option<f64>,
    #[schema(default = 0.5, minimum = 0, maximum = 1)]
    probability: Option<f64>,
}

/// A random part of a larger square, resized to the network's input.
#[derive(ToSchema)]
pub(crate) struct Crop {
    /// Side of the larger square in pixels.
    from: u32,
    /// The part's share of the area, from and to; 0.08 to 1 when absent.
    scale: Option<[f64; 2]>,
    /// The part's width over its height, from and to; 3/4 to 4/3 when absent.
    ratio: Option<[f64; 2]>,
}

/// A random rectangle is painted over.
#[derive(ToSchema)]
pub(crate) struct Erasing {
    #[schema(default = 0.0, minimum = 0, maximum = 1)]
    probability: Option<f64>,
}

/// Random mixtures of the images of a batch, labels and all.
#[derive(ToSchema)]
pub(crate) struct Mix {
    /// Probability that a batch is mixed.
    #[schema(default = 0.0, minimum = 0, maximum = 1)]
    probability: Option<f64>,
    /// `alpha` of MixUp; 0: none.
    #[schema(default = 0.0, minimum = 0, maximum = 100)]
    mixup: Option<f64>,
    /// `alpha` of CutMix; 0: none.
    #[schema(default = 0.0, minimum = 0, maximum = 100)]
    cutmix: Option<f64>,
}

/// Cross-entropy, as `torch.nn.CrossEntropyLoss`.
#[derive(ToSchema)]
pub(crate) struct Loss {
    /// Share of each label that is spread over all classes.
    #[schema(default = 0.0, minimum = 0, exclusive_maximum = 1)]
    label_smoothing: Option<f64>,
    /// `"balanced"`, or how much an image of minor, moderate and severe damage counts.
    #[schema(value_type = Option<Object>, examples("balanced", json!([1.0, 2.0, 1.0])))]
    class_weights: Option<()>,
}

/// Recipes to begin with.
#[derive(ToSchema)]
pub(crate) enum Preset {
    #[serde(rename = "cnn-seed")]
    CnnSeed,
    #[serde(rename = "cnn-best")]
    CnnBest,
    #[serde(rename = "resnet18-seed")]
    Resnet18Seed,
    #[serde(rename = "resnet18-best")]
    Resnet18Best,
}

/// A sweep: trains one recipe for each trial, and registers the best one.
#[derive(ToSchema)]
pub(crate) struct SweepSpec {
    /// What all trials have in common.
    train: Box<TrainSpec>,
    /// What they differ in.
    search: Search,
    /// Parts of the training split for cross-validation, 2 to 20; absent: trials are measured on the validation split.
    #[schema(minimum = 2, maximum = 20)]
    folds: Option<u32>,
    /// The most runs that workers have at once, dispatched or running; no limit when absent.
    #[schema(minimum = 1, maximum = 10000)]
    concurrency: Option<u32>,
}

/// What the trials of a sweep differ in: fields of the training specification by their path.
#[derive(ToSchema)]
#[serde(tag = "name", rename_all = "lowercase")]
pub(crate) enum Search {
    /// Every combination of these values.
    Grid {
        #[schema(examples(json!({"optimizer.learning_rate": [0.001, 0.0001]})))]
        fields: BTreeMap<String, Vec<Value>>,
    },
    /// So many combinations drawn at random.
    Random {
        trials: u32,
        seed: Option<u64>,
        #[schema(examples(json!({"dropout": {"low": 0.2, "high": 0.6}, "batch_size": {"choices": [16, 32]}})))]
        fields: BTreeMap<String, Value>,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::tests::*, *};
    use perito_domain::{preprocessing, spec};
    use serde_json::json;

    #[test]
    fn the_document_shows_every_field_of_a_training_job() {
        for (optimizer, schedule) in [
            (json!({"name": "sgd", "learning_rate": 0.1}), json!({"name": "step", "epochs": 2, "gamma": 0.5})),
            (json!({"name": "adam", "learning_rate": 0.1}), json!({"name": "cosine"})),
            (json!({"name": "adamw", "learning_rate": 0.1}), json!({"name": "constant"})),
            (json!({"name": "adamw", "learning_rate": 0.1}), json!({"name": "plateau"})),
        ] {
            let spec = completed(json!({
                "kind": "train", "model": "m", "dataset": "d", "architecture": "cnn4",
                "optimizer": optimizer, "schedule": schedule, "augment": {"crop": {"from": 256}},
            }));
            let mut with_preset = fields(&spec);
            with_preset.insert("preset".to_owned());
            assert_eq!(properties(&documented::<TrainSpec>(), None), with_preset);
            assert_eq!(properties(&documented::<Loss>(), None), fields(&spec["loss"]));
            assert_eq!(properties(&documented::<Mix>(), None), fields(&spec["mix"]));
            assert_eq!(properties(&documented::<Crop>(), None), fields(&spec["augment"]["crop"]));
            assert_eq!(properties(&documented::<Erasing>(), None), fields(&spec["augment"]["erasing"]));
            assert_eq!(properties(&documented::<Augment>(), None), fields(&spec["augment"]));
            assert_eq!(properties(&documented::<Perspective>(), None), fields(&spec["augment"]["perspective"]));
            let (optimizer, schedule) = (&spec["optimizer"], &spec["schedule"]);
            let variant = Some(("name", optimizer["name"].as_str().unwrap()));
            assert_eq!(properties(&documented::<Optimizer>(), variant), fields(optimizer));
            let variant = Some(("name", schedule["name"].as_str().unwrap()));
            assert_eq!(properties(&documented::<Schedule>(), variant), fields(schedule));
        }
    }

    #[test]
    fn the_document_knows_the_newest_preprocessing() {
        let version = &documented::<TrainSpec>()["properties"]["preprocessing_version"];
        let newest = preprocessing::NEWEST;
        assert_eq!(
            (version["default"].as_u64(), version["maximum"].as_u64()),
            (Some(newest.into()), Some(newest.into())),
            "{version}"
        );
    }

    #[test]
    fn the_document_shows_every_field_of_a_sweep() {
        for search in
            [json!({"name": "grid", "fields": {"seed": [1]}}), json!({"name": "random", "trials": 1, "fields": {}})]
        {
            let train = json!({"model": "m", "dataset": "d", "architecture": "cnn4"});
            let spec = completed(json!({"kind": "sweep", "train": train, "search": search, "concurrency": 3}));
            assert_eq!(properties(&documented::<SweepSpec>(), None), fields(&spec));
            let variant = Some(("name", search["name"].as_str().unwrap()));
            assert_eq!(properties(&documented::<Search>(), variant), fields(&spec["search"]));
        }
        let names: Vec<_> = spec::Precision::ALL.iter().map(|precision| precision.as_str()).collect();
        assert_eq!(documented::<Precision>()["enum"], json!(names));
        let names: Vec<_> = spec::Preset::ALL.iter().map(|preset| preset.as_str()).collect();
        assert_eq!(documented::<Preset>()["enum"], json!(names));
    }
}
