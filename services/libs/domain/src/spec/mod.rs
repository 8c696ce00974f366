//! Job specifications: what a user submits, typed and versioned.
//!
//! A specification is JSON. [`JobSpec::parse`] fills what the user left out from a preset, refuses
//! unknown fields and impossible values by name, and gives the whole, checked specification that is then stored with the job.

mod augment;
mod error;
mod evaluate;
mod loss;
mod optimizer;
mod path;
mod preset;
mod score;
mod sweep;
mod train;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use augment::{Augment, Crop, Erasing, Mix, Perspective};
pub use error::SpecError;
pub(crate) use error::in_range;
pub use evaluate::EvaluateSpec;
pub use loss::{Balanced, ClassWeights, Loss};
pub use optimizer::{Optimizer, Schedule};
pub use path::set_field;
pub use preset::Preset;
pub use score::{ScoreSpec, Selection};
pub use sweep::{Range, Search, SweepSpec, Trial};
pub use train::{Architecture, Precision, Stage, TrainSpec};

use crate::{lifecycle::JobKind, text_enum::text_enum};

/// The specification schema that this build reads.
pub const SCHEMA_VERSION: u32 = 1;

text_enum! {
    /// A part of a dataset.
    Split ("split") {
        /// What weights are fitted to.
        Training = "training",
        /// What models are chosen and judged by.
        Validation = "validation",
    }
}

/// What a job is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum JobSpec {
    /// Trains a model and registers the best one.
    Train(Box<TrainSpec>),
    /// Scores a selection of images.
    Score(ScoreSpec),
    /// Measures a model on a labelled dataset.
    Evaluate(EvaluateSpec),
    /// Trains many recipes and registers the best one.
    Sweep(Box<SweepSpec>),
}

impl JobSpec {
    /// Reads, completes and checks a specification.
    ///
    /// # Errors
    /// [`SpecError`] names the field that is unknown, missing, of the wrong type or out of range.
    pub fn parse(value: Value) -> Result<Self, SpecError> {
        let Value::Object(mut fields) = value else {
            return Err(SpecError::NotAnObject);
        };
        let kind = match fields.remove("kind") {
            Some(Value::String(kind)) => {
                kind.parse::<JobKind>().map_err(|error| SpecError::invalid("kind", error.to_string()))?
            }
            Some(_) => return Err(SpecError::invalid("kind", "expected a text")),
            None => return Err(SpecError::invalid("kind", "missing: say train, score, evaluate or sweep")),
        };
        match fields.remove("schema") {
            None => {}
            Some(version) if version == SCHEMA_VERSION => {}
            Some(version) => {
                return Err(SpecError::invalid("schema", format!("is {version}: this build reads {SCHEMA_VERSION}")));
            }
        }
        let spec = match kind {
            JobKind::Train => Self::Train(Box::new(read(preset::complete(fields)?)?)),
            JobKind::Score => Self::Score(read(Value::Object(fields))?),
            JobKind::Evaluate => Self::Evaluate(read(Value::Object(fields))?),
            JobKind::Sweep => Self::Sweep(Box::new(read(Value::Object(fields))?)),
        };
        match &spec {
            Self::Train(spec) => spec.validate()?,
            Self::Score(spec) => spec.validate()?,
            Self::Evaluate(_) => {}
            Self::Sweep(spec) => spec.validate()?,
        }
        Ok(spec)
    }

    /// The most tasks that workers may have at once, where the specification limits them.
    pub fn concurrency(&self) -> Option<u32> {
        match self {
            Self::Score(spec) => spec.concurrency,
            Self::Sweep(spec) => spec.concurrency,
            Self::Train(_) | Self::Evaluate(_) => None,
        }
    }

    /// The kind of job that this specifies.
    pub fn kind(&self) -> JobKind {
        match self {
            Self::Train(_) => JobKind::Train,
            Self::Score(_) => JobKind::Score,
            Self::Evaluate(_) => JobKind::Evaluate,
            Self::Sweep(_) => JobKind::Sweep,
        }
    }
}

/// Deserialises with the path of the offending field in the error.
pub(crate) fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, SpecError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = match error.path().to_string() {
            path if path == "." => "specification".to_owned(),
            path => path,
        };
        SpecError::Invalid { field, problem: error.into_inner().to_string() }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(value: Value) -> String {
        JobSpec::parse(value).unwrap_err().to_string()
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        let spec = json!({"kind": "score", "model": "severity", "selection": {"by": "backlog"}, "shardsize": 3});
        assert!(refusal(spec).contains("shardsize"));
        let spec =
            json!({"kind": "train", "model": "m", "dataset": "d", "architecture": "cnn4", "augment": {"flip": 1}});
        let refusal_text = refusal(spec);
        assert!(refusal_text.contains("augment") && refusal_text.contains("flip"), "{refusal_text}");
        let spec = json!({"kind": "train", "model": "m", "dataset": "d", "architecture": "cnn4",
                          "optimizer": {"name": "sgd", "lr": 0.1}});
        let refusal_text = refusal(spec);
        assert!(refusal_text.contains("optimizer") && refusal_text.contains("lr"), "{refusal_text}");
        let spec =
            json!({"kind": "score", "model": "m", "selection": {"by": "prefix", "bucket": "b", "prefix": "p", "x": 1}});
        assert!(refusal(spec).contains('x'));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        assert!(refusal(json!([])).contains("object"));
        assert!(refusal(json!({"model": "m"})).contains("kind"));
        assert!(refusal(json!({"kind": "paint"})).contains("paint"));
        assert!(refusal(json!({"kind": "score", "schema": 2})).contains("schema"));
        assert!(refusal(json!({"kind": "score", "selection": {"by": "backlog"}})).contains("model"));
        assert!(
            refusal(json!({"kind": "score", "model": "Bad Name", "selection": {"by": "backlog"}})).contains("Bad Name")
        );
        assert!(refusal(json!({"kind": "train", "model": "m", "dataset": "d"})).contains("architecture"));
    }

    #[test]
    fn a_stored_specification_reads_back_the_same() {
        for value in [
            json!({"kind": "train", "model": "m", "dataset": "d@1", "preset": "resnet18-best", "weights": "imagenet@1"}),
            json!({"kind": "score", "model": "m@production", "selection": {"by": "prefix", "bucket": "b", "prefix": "c/"}}),
            json!({"kind": "evaluate", "model": "m@3", "dataset": "d"}),
        ] {
            let spec = JobSpec::parse(value).unwrap();
            assert_eq!(JobSpec::parse(serde_json::to_value(&spec).unwrap()).unwrap(), spec);
        }
    }
}
