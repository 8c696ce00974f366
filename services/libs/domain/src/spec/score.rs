//! The specification of a bulk-scoring job.

use serde::{Deserialize, Serialize};

use super::{
    Split,
    error::{SpecError, check_concurrency, in_range},
};
use crate::{
    limits::MAX_SHARD_SIZE,
    names::{DatasetRef, ModelRef},
};

/// Scores a selection of images with one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreSpec {
    /// The model; an alias is resolved when the job is planned, never later.
    pub model: ModelRef,
    /// Which images. Frozen into tasks when the job is planned.
    pub selection: Selection,
    /// Images in one task, 1 to 10,000. A task is what is lost and done again when a worker dies.
    #[serde(default = "default_shard_size")]
    pub shard_size: u32,
    /// The share of the images, 0 to 1, that may fail before the job is failed.
    #[serde(default = "default_failure_budget")]
    pub failure_budget: f64,
    /// The most tasks that workers have at once, dispatched or running; as many as there is room for when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
}

/// Which images a job scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase", deny_unknown_fields)]
pub enum Selection {
    /// Every present image of the catalogue whose key starts with a prefix.
    Prefix {
        /// The bucket.
        bucket: String,
        /// The start of the key; empty for the whole bucket.
        #[serde(default)]
        prefix: String,
    },
    /// The images of a dataset.
    Dataset {
        /// The dataset.
        dataset: DatasetRef,
        /// One split of it; all of them when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        split: Option<Split>,
    },
    /// Every present image without a label that this model version has not dealt with yet, in a finished job or a running one.
    Backlog {
        /// Only images of this bucket.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bucket: Option<String>,
        /// Only images whose key starts with this prefix.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
    },
}

fn default_shard_size() -> u32 {
    500
}

fn default_failure_budget() -> f64 {
    0.05
}

impl ScoreSpec {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        in_range("shard_size", self.shard_size, 1, MAX_SHARD_SIZE)?;
        in_range("failure_budget", self.failure_budget, 0.0, 1.0)?;
        check_concurrency(self.concurrency)?;
        if let Selection::Prefix { bucket, .. } = &self.selection
            && bucket.is_empty()
        {
            return Err(SpecError::invalid("selection.bucket", "is empty"));
        }
        Ok(())
    }
}
