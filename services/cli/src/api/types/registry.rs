//! The registry's memory, and what adjusters decided.

use chrono::{DateTime, Utc};
use perito_domain::{Severity, aliases::AliasAction, metrics::mcnemar::McNemarTest, spec::Split};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Evaluation;

/// The moves of a model's aliases.
#[derive(Debug, Clone, Deserialize)]
pub struct History {
    /// The newest first.
    pub moves: Vec<AliasMove>,
}

/// One move of an alias.
#[derive(Debug, Clone, Deserialize)]
pub struct AliasMove {
    /// The alias.
    pub alias: String,
    /// Why it moved.
    pub action: AliasAction,
    /// The version that held it before.
    pub from_version: Option<i32>,
    /// The version that it moved to.
    pub to_version: i32,
    /// Who moved it.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub moved_at: DateTime<Utc>,
    /// Whether it moved without the gate's consent.
    pub forced: bool,
    /// What the gate compared.
    pub check: Option<GateCheck>,
}

/// What the gate compared.
#[derive(Debug, Clone, Deserialize)]
pub struct GateCheck {
    /// The dataset version.
    pub dataset: String,
    /// The part of it.
    pub split: Split,
    /// How far below the macro F1 was allowed to be.
    pub margin: f64,
    /// Macro F1 of the version that was promoted.
    pub macro_f1: f64,
    /// Macro F1 of the version before.
    pub former_macro_f1: f64,
}

/// Two versions on the same images.
#[derive(Debug, Clone, Deserialize)]
pub struct Comparison {
    /// The one version.
    pub champion: Contender,
    /// The other one.
    pub challenger: Contender,
    /// The dataset version.
    pub dataset: String,
    /// The part of it.
    pub split: Split,
    /// How many images both graded.
    pub images: u64,
    /// How many images only one of them graded.
    pub left_out: u64,
    /// Images on which both were right.
    pub both_right: u64,
    /// Images on which only the champion was right.
    pub only_champion_right: u64,
    /// Images on which only the challenger was right.
    pub only_challenger_right: u64,
    /// Images on which both were wrong.
    pub both_wrong: u64,
    /// Whether they differ by more than chance.
    pub mcnemar: McNemar,
    /// When it was first asked for.
    pub compared_at: DateTime<Utc>,
}

/// One of the two versions of a comparison.
#[derive(Debug, Clone, Deserialize)]
pub struct Contender {
    /// The version.
    pub model: String,
    /// Its accuracy on the split.
    pub accuracy: f64,
    /// Its macro F1 on the split.
    pub macro_f1: f64,
}

/// McNemar's test.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct McNemar {
    /// The form of it.
    pub test: McNemarTest,
    /// Its statistic.
    pub statistic: f64,
    /// Its probability.
    pub p_value: f64,
}

/// Stored comparisons.
#[derive(Debug, Clone, Deserialize)]
pub struct ComparisonList {
    /// The newest first.
    pub comparisons: Vec<Comparison>,
}

/// What is known of how well a version does.
#[derive(Debug, Clone, Deserialize)]
pub struct MeasurementList {
    /// The newest one on each split of each dataset.
    pub measurements: Vec<Measurement>,
}

/// One measurement of a version.
#[derive(Debug, Clone, Deserialize)]
pub struct Measurement {
    /// The job that measured.
    pub job_id: Uuid,
    /// Its kind.
    pub measured_by: String,
    /// The dataset version.
    pub dataset: String,
    /// The digest of that dataset.
    pub dataset_digest: String,
    /// The part of it.
    pub split: Split,
    /// When the job finished.
    pub finished_at: DateTime<Utc>,
    /// The figures.
    pub evaluation: Evaluation,
}

/// A version that has been deleted.
#[derive(Debug, Clone, Deserialize)]
pub struct DeletedModel {
    /// The version.
    pub reference: String,
    /// Where its weights are: the bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// A version with the same weights file.
    pub shared_with: Option<String>,
}

/// A decision about a photograph or a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Label {
    /// The photograph's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id: Option<i64>,
    /// The photograph's bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The photograph's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The ETag of the version that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim_id: Option<String>,
    /// What was decided.
    pub severity: Severity,
    /// Who or what system says so.
    pub source: String,
    /// When it was decided.
    pub decided_at: DateTime<Utc>,
}

/// What becomes of a batch of labels with bad rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BadRows {
    /// The others are recorded.
    Skip,
    /// Nothing is recorded.
    Refuse,
    /// Nothing is recorded in any case.
    Check,
}

/// What became of a batch of labels.
#[derive(Debug, Clone, Deserialize)]
pub struct LabelsRecorded {
    /// Decisions that were not known before.
    pub new: u64,
    /// Decisions that were.
    pub known: u64,
    /// Those that cannot be right.
    pub rejected: Vec<Rejected>,
}

/// A label that cannot be right.
#[derive(Debug, Clone, Deserialize)]
pub struct Rejected {
    /// Its place in the batch.
    pub index: usize,
    /// What is wrong with it.
    pub detail: String,
}

/// A dataset to make of labels.
#[derive(Debug, Clone, Serialize)]
pub struct FromLabels {
    /// The dataset's name.
    pub name: String,
    /// The share of the claims that is for validation.
    pub validation_share: f64,
    /// The seed of the split.
    pub seed: u64,
    /// Only decisions of this source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Only decisions made at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Whether photographs take their claim's decision.
    pub claim_labels: bool,
}
