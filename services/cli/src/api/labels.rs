//! What adjusters decided.

use chrono::{DateTime, Utc};
use perito_domain::Severity;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Api, Frozen, Repeat, Result};

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

impl Api {
    /// Records or checks a batch of labels.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn record_labels(&self, labels: &[Label], bad_rows: BadRows) -> Result<LabelsRecorded> {
        let body = json!({ "labels": labels, "bad_rows": bad_rows });
        self.send(self.request(Method::POST, &["labels"], Repeat::Safe).with(body)).await
    }

    /// Freezes labels as a dataset.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn dataset_from_labels(&self, selection: &FromLabels) -> Result<Frozen> {
        // The same labels again are the same version.
        self.send(self.request(Method::POST, &["labels", "datasets"], Repeat::Safe).with(json!(selection))).await
    }
}
