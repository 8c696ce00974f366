//! How well a model did.

use perito_domain::Severity;
use reqwest::Method;
use serde::Deserialize;
use uuid::Uuid;

use super::{Api, Repeat, Result};

/// How well a model did on a labelled split.
#[derive(Debug, Clone, Deserialize)]
pub struct Evaluation {
    /// How many images were evaluated.
    pub images: u64,
    /// Share of images that were right.
    pub accuracy: f64,
    /// Each class's figures.
    pub classes: Vec<ClassMetrics>,
    /// Mean over classes, each class alike.
    pub macro_average: Average,
    /// Mean over classes, weighted by support.
    pub weighted_average: Average,
    /// The counts that all of these follow from.
    pub confusion: Confusion,
    /// What needs the probabilities; nothing for a measurement of an earlier release.
    pub certainty: Option<Certainty>,
}

/// One class's figures.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "the usual names")]
pub struct ClassMetrics {
    pub severity: Severity,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    pub support: u64,
}

/// A mean over classes.
#[derive(Debug, Clone, Copy, Deserialize)]
#[expect(missing_docs, reason = "the usual names")]
pub struct Average {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
}

/// What a measurement says beyond its confusion matrix.
#[derive(Debug, Clone, Deserialize)]
pub struct Certainty {
    /// Mean cross-entropy, in nats.
    pub log_loss: f64,
    /// Expected calibration error.
    pub calibration_error: f64,
    /// By class; nothing where the class is absent.
    pub roc_auc: Vec<Option<f64>>,
    /// 95 % interval of the accuracy.
    pub accuracy: Interval,
    /// 95 % interval of the macro F1.
    pub macro_f1: Interval,
}

/// A 95 % confidence interval.
#[derive(Debug, Clone, Copy, Deserialize)]
#[expect(missing_docs, reason = "the usual names")]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// Counts of images by actual class (row) and predicted class (column).
#[derive(Debug, Clone, Deserialize)]
pub struct Confusion {
    /// `counts[actual][predicted]`
    pub counts: Vec<Vec<u64>>,
}

impl Api {
    /// What a training or evaluation job has measured.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when it has measured nothing.
    pub async fn evaluation(&self, id: Uuid) -> Result<Evaluation> {
        self.send(self.request(Method::GET, &["jobs", &id.to_string(), "evaluation"], Repeat::Safe)).await
    }
}
