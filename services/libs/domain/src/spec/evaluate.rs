//! The specification of an evaluation job.

use serde::{Deserialize, Serialize};

use super::Split;
use crate::names::{DatasetRef, ModelRef};

/// Measures a model on one split of a labelled dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateSpec {
    /// The model; an alias is resolved when the job is planned.
    pub model: ModelRef,
    /// The dataset.
    pub dataset: DatasetRef,
    /// The split to measure on; `validation` unless told.
    #[serde(default = "validation")]
    pub split: Split,
}

fn validation() -> Split {
    Split::Validation
}
