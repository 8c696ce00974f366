//! The presets: what a training specification means where the user said nothing.

use serde_json::{Map, Value, json};

use super::{SpecError, train::Architecture};

/// Fills a training specification from the preset of its architecture.
pub(super) fn complete(fields: Map<String, Value>) -> Result<Value, SpecError> {
    let architecture = match fields.get("architecture") {
        Some(Value::String(name)) => {
            name.parse::<Architecture>().map_err(|error| SpecError::invalid("architecture", error.to_string()))?
        }
        Some(_) => return Err(SpecError::invalid("architecture", "expected a text")),
        None => return Err(SpecError::invalid("architecture", "missing: say cnn4 or resnet18")),
    };
    let mut spec = preset(architecture);
    merge(&mut spec, Value::Object(fields));
    Ok(spec)
}

fn preset(architecture: Architecture) -> Value {
    let mut spec = json!({
        "image_size": 224,
        "batch_size": 32,
        "epochs": 50,
        "freeze": null,
        "weights": null,
        "seed": 42,
        "augment": {
            "horizontal_flip": 0.5,
            "rotation_degrees": 15.0,
            "brightness": 0.2,
            "contrast": 0.2,
            "saturation": 0.0,
            "perspective": {"distortion": 0.2, "probability": 0.5},
            "crop": null,
            "erasing": {"probability": 0.0},
        },
        "freeze_statistics": null,
        "learning_rate_scales": {},
        "zero_init_residual": false,
        "loss": {"label_smoothing": 0.0, "class_weights": null},
        "mix": {"probability": 0.0, "mixup": 0.0, "cutmix": 0.0},
        "ema_decay": 0.0,
        "early_stopping": null,
        "test_time_flip": false,
    });
    let own = match architecture {
        Architecture::Cnn4 => json!({
            "dropout": 0.5,
            "optimizer": {"name": "sgd", "learning_rate": 0.0005, "momentum": 0.9},
            "schedule": {"name": "step", "epochs": 20, "gamma": 0.1},
        }),
        Architecture::Resnet18 => json!({
            "dropout": 0.6,
            "freeze": "layer3",
            "optimizer": {"name": "adam", "learning_rate": 0.001},
            "schedule": {"name": "constant"},
        }),
    };
    merge(&mut spec, own);
    spec
}

/// Lays `over` onto `base`, object by object. Two objects with different `name`s are different things (an `adam` on an
/// `sgd`): the upper one replaces the lower one whole.
fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over))
            if over.get("name").is_none_or(|name| base.get("name").is_none_or(|below| below == name)) =>
        {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}
