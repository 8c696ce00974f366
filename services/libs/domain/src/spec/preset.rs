//! The presets: what a training specification means where the user said nothing.
//!
//! Each is a documented file of its own, whole but for the model, the dataset and the weights. To add one: a file in `presets/`, and
//! a value here.

use serde_json::{Map, Value};

use super::{SpecError, train::Architecture};
use crate::text_enum::text_enum;

text_enum! {
    /// A recipe to begin with.
    Preset ("preset") {
        /// The notebook's recipe for the CNN.
        CnnSeed = "cnn-seed",
        /// The best one known for it.
        CnnBest = "cnn-best",
        /// The notebook's recipe for ResNet18.
        Resnet18Seed = "resnet18-seed",
        /// The best one known for it.
        Resnet18Best = "resnet18-best",
    }
}

impl Preset {
    /// The file, in TOML.
    pub fn text(self) -> &'static str {
        match self {
            Self::CnnSeed => include_str!("../../presets/cnn-seed.toml"),
            Self::CnnBest => include_str!("../../presets/cnn-best.toml"),
            Self::Resnet18Seed => include_str!("../../presets/resnet18-seed.toml"),
            Self::Resnet18Best => include_str!("../../presets/resnet18-best.toml"),
        }
    }

    /// What a specification of this architecture that names no preset begins with.
    fn of(architecture: Architecture) -> Self {
        match architecture {
            Architecture::Cnn4 => Self::CnnSeed,
            Architecture::Resnet18 => Self::Resnet18Seed,
        }
    }
}

/// Fills a training specification from the preset that it names, or that of its architecture.
pub(super) fn complete(mut fields: Map<String, Value>) -> Result<Value, SpecError> {
    let preset: Option<Preset> = named("preset", fields.remove("preset"))?;
    let architecture: Option<Architecture> = named("architecture", fields.get("architecture").cloned())?;
    let Some(preset) = preset.or(architecture.map(Preset::of)) else {
        return Err(SpecError::invalid("architecture", "missing: say cnn4 or resnet18, or name a preset"));
    };
    let mut spec: Value = toml::from_str(preset.text())
        .map_err(|error| SpecError::invalid("preset", format!("{preset} cannot be read: {error}")))?;
    if let Some(architecture) = architecture
        && spec["architecture"] != architecture.as_str()
    {
        return Err(SpecError::invalid(
            "architecture",
            format!("is {architecture}: the preset {preset} is not for it"),
        ));
    }
    merge(&mut spec, Value::Object(fields));
    Ok(spec)
}

fn named<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &str,
    value: Option<Value>,
) -> Result<Option<T>, SpecError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => {
            name.parse().map(Some).map_err(|error: T::Err| SpecError::invalid(field, error.to_string()))
        }
        Some(_) => Err(SpecError::invalid(field, "expected a text")),
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::spec::JobSpec;
    use serde_json::json;

    #[test]
    fn every_preset_is_whole_and_right() {
        for preset in Preset::ALL {
            let spec = json!({"kind": "train", "preset": preset, "model": "m", "dataset": "d", "weights": "imagenet"});
            let JobSpec::Train(spec) = JobSpec::parse(spec).unwrap() else { panic!("{preset}") };
            assert!(preset.as_str().starts_with(&spec.architecture.as_str()[..3]), "{preset}");
            // Nothing but what has no value is left out.
            let file: Value = toml::from_str(preset.text()).unwrap();
            for (field, value) in serde_json::to_value(&spec).unwrap().as_object().unwrap() {
                let given = ["model", "dataset", "weights"].contains(&field.as_str());
                assert!(given || value.is_null() || file.get(field).is_some(), "{preset}: {field}");
            }
        }
    }

    #[test]
    fn a_preset_for_another_network_is_refused() {
        for (spec, part) in [
            (json!({"preset": "cnn-seed", "architecture": "resnet18"}), "the preset cnn-seed is not for it"),
            (json!({"preset": "vgg-best"}), "cnn-seed, cnn-best, resnet18-seed, resnet18-best"),
            (json!({"preset": 1}), "expected a text"),
            (json!({}), "or name a preset"),
        ] {
            let refused = complete(spec.as_object().unwrap().clone()).unwrap_err().to_string();
            assert!(refused.contains(part), "{refused}");
        }
    }
}
