//! The metrics of an evaluation on the wire.

use perito_domain::{Severity, metrics};
use serde::Serialize;
use utoipa::ToSchema;

use super::schema;

/// How well a model did on a labelled split. A figure whose denominator is zero is 0, as in scikit-learn.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "images": 248, "accuracy": 0.665,
    "classes": [
        {"severity": "minor", "precision": 0.706, "recall": 0.732, "f1": 0.719, "support": 82},
        {"severity": "moderate", "precision": 0.532, "recall": 0.44, "f1": 0.482, "support": 75},
        {"severity": "severe", "precision": 0.713, "recall": 0.791, "f1": 0.75, "support": 91},
    ],
    "macro_average": {"precision": 0.65, "recall": 0.654, "f1": 0.65},
    "weighted_average": {"precision": 0.656, "recall": 0.665, "f1": 0.658},
    "confusion": {"counts": [[60, 15, 7], [20, 33, 22], [5, 14, 72]]},
    "certainty": {
        "log_loss": 0.74, "calibration_error": 0.06, "roc_auc": [0.88, 0.74, 0.9],
        "accuracy": {"low": 0.605, "high": 0.722}, "macro_f1": {"low": 0.588, "high": 0.708},
    },
}))]
pub(crate) struct Evaluation {
    /// How many images were evaluated.
    images: u64,
    /// Share of images whose predicted class is the actual one.
    accuracy: f64,
    /// Each class's figures, in ascending order of damage.
    classes: Vec<ClassMetrics>,
    /// Mean over classes, each class alike. Macro F1 is the mean of the classes' F1.
    macro_average: Average,
    /// Mean over classes, weighted by support.
    weighted_average: Average,
    /// The counts that all of these follow from.
    confusion: ConfusionMatrix,
    /// What needs the probabilities. Null in measurements of earlier releases.
    certainty: Option<Certainty>,
}

/// What a measurement says beyond its confusion matrix.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Certainty {
    /// Mean cross-entropy of the labels, in nats.
    log_loss: f64,
    /// Expected calibration error of the top label, over 15 bins, 0 to 1.
    calibration_error: f64,
    /// Area under the ROC curve of each class against the others, in ascending order of damage; null where a class is absent.
    roc_auc: Vec<Option<f64>>,
    /// 95 % bootstrap interval of the accuracy.
    accuracy: Interval,
    /// 95 % bootstrap interval of the macro F1.
    macro_f1: Interval,
}

/// A 95 % confidence interval.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Interval {
    low: f64,
    high: f64,
}

/// One class's figures.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClassMetrics {
    /// The class.
    #[schema(value_type = schema::Severity)]
    severity: Severity,
    /// Of the images predicted to be of this class, the share that are.
    precision: f64,
    /// Of the images of this class, the share that were predicted so.
    recall: f64,
    /// Harmonic mean of precision and recall.
    f1: f64,
    /// How many images are of this class.
    support: u64,
}

/// A mean over classes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Average {
    precision: f64,
    recall: f64,
    f1: f64,
}

/// Counts of images by actual class (row) and predicted class (column).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConfusionMatrix {
    /// `counts[actual][predicted]`, in ascending order of damage.
    counts: Vec<Vec<u64>>,
}

impl From<metrics::Average> for Average {
    fn from(average: metrics::Average) -> Self {
        Self { precision: average.precision, recall: average.recall, f1: average.f1 }
    }
}

impl From<metrics::Interval> for Interval {
    fn from(interval: metrics::Interval) -> Self {
        Self { low: interval.low, high: interval.high }
    }
}

impl From<metrics::Certainty> for Certainty {
    fn from(certainty: metrics::Certainty) -> Self {
        Self {
            log_loss: certainty.log_loss,
            calibration_error: certainty.calibration_error,
            roc_auc: certainty.roc_auc.to_vec(),
            accuracy: certainty.accuracy.into(),
            macro_f1: certainty.macro_f1.into(),
        }
    }
}

impl From<(metrics::Metrics, Option<metrics::Certainty>)> for Evaluation {
    fn from((metrics, certainty): (metrics::Metrics, Option<metrics::Certainty>)) -> Self {
        let class = |(severity, class): (Severity, metrics::ClassMetrics)| ClassMetrics {
            severity,
            precision: class.precision,
            recall: class.recall,
            f1: class.f1,
            support: class.support,
        };
        Self {
            images: metrics.images,
            accuracy: metrics.accuracy,
            classes: Severity::ALL.into_iter().zip(metrics.classes).map(class).collect(),
            macro_average: metrics.macro_average.into(),
            weighted_average: metrics.weighted_average.into(),
            confusion: ConfusionMatrix { counts: metrics.confusion.counts.iter().map(|row| row.to_vec()).collect() },
            certainty: certainty.map(Into::into),
        }
    }
}
