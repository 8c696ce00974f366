//! Classification metrics with scikit-learn's definitions.
//!
//! | module | holds |
//! |---|---|
//! | here | what follows from the confusion matrix |
//! | [`probability`] | what needs the probabilities: log loss, calibration error, ROC AUC |
//! | [`bootstrap`] | confidence intervals |
//! | [`mcnemar`] | whether two models differ by more than chance |
//!
//! A precision, recall or F1 whose denominator is zero is 0 (`zero_division=0`). Macro F1 is the mean of the classes' F1,
//! not the F1 of the mean precision and recall.

pub mod bootstrap;
pub mod mcnemar;
pub mod probability;

use serde::{Deserialize, Serialize};

pub use bootstrap::Interval;

use crate::severity::{CLASSES, Severity};

/// Counts of images by actual class (row) and predicted class (column).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConfusionMatrix {
    /// `counts[actual][predicted]`.
    pub counts: [[u64; CLASSES]; CLASSES],
}

/// One class's figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Of the images predicted to be of this class, the share that are.
    pub precision: f64,
    /// Of the images of this class, the share that were predicted so.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// How many images are of this class.
    pub support: u64,
}

/// A mean over classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Average {
    /// Mean precision.
    pub precision: f64,
    /// Mean recall.
    pub recall: f64,
    /// Mean F1.
    pub f1: f64,
}

/// Every figure of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// How many images were evaluated.
    pub images: u64,
    /// Share of images whose predicted class is the actual one.
    pub accuracy: f64,
    /// Each class's figures, by class index.
    pub classes: [ClassMetrics; CLASSES],
    /// Mean over classes, each class alike.
    pub macro_average: Average,
    /// Mean over classes, weighted by support.
    pub weighted_average: Average,
    /// The counts that all of these follow from.
    pub confusion: ConfusionMatrix,
}

/// What a measurement says beyond its confusion matrix.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Certainty {
    /// Mean cross-entropy, in nats: see [`probability::log_loss`].
    pub log_loss: f64,
    /// Expected calibration error of the top label: see [`probability::calibration_error`].
    pub calibration_error: f64,
    /// Each class's area under the ROC curve against the others: see [`probability::roc_auc`].
    pub roc_auc: [Option<f64>; CLASSES],
    /// 95 % confidence interval of the accuracy: see [`bootstrap`].
    pub accuracy: Interval,
    /// 95 % confidence interval of the macro F1.
    pub macro_f1: Interval,
}

/// Every metric of images with their actual classes and the probabilities that a model gave.
pub fn measure(scored: &[(Severity, [f32; CLASSES])]) -> (Metrics, Certainty) {
    let mut confusion = ConfusionMatrix::default();
    for (actual, probabilities) in scored {
        confusion.add(*actual, Severity::most_likely(probabilities));
    }
    let (accuracy, macro_f1) = bootstrap::intervals(&confusion);
    let certainty = Certainty {
        log_loss: probability::log_loss(scored),
        calibration_error: probability::calibration_error(scored),
        roc_auc: Severity::ALL.map(|class| probability::roc_auc(scored, class)),
        accuracy,
        macro_f1,
    };
    (confusion.metrics(), certainty)
}

impl ConfusionMatrix {
    /// Counts one image.
    pub fn add(&mut self, actual: Severity, predicted: Severity) {
        self.counts[actual.index()][predicted.index()] += 1;
    }

    /// How many images were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// How many images were predicted correctly.
    pub fn correct(&self) -> u64 {
        (0..CLASSES).map(|class| self.counts[class][class]).sum()
    }

    fn class(&self, class: usize) -> ClassMetrics {
        let hits = self.counts[class][class];
        let predicted: u64 = self.counts.iter().map(|row| row[class]).sum();
        let support: u64 = self.counts[class].iter().sum();
        ClassMetrics {
            precision: ratio(hits, predicted),
            recall: ratio(hits, support),
            // Equal to the harmonic mean, and defined when one of its terms is not.
            f1: ratio(2 * hits, predicted + support),
            support,
        }
    }

    /// All metrics of these counts.
    pub fn metrics(&self) -> Metrics {
        let classes = std::array::from_fn(|class| self.class(class));
        let support = classes.map(|class| class.support as f64);
        Metrics {
            images: self.total(),
            accuracy: ratio(self.correct(), self.total()),
            macro_average: average(&classes, [1.0; CLASSES]),
            weighted_average: average(&classes, support),
            classes,
            confusion: *self,
        }
    }
}

fn ratio(numerator: u64, denominator: u64) -> f64 {
    if denominator == 0 { 0.0 } else { numerator as f64 / denominator as f64 }
}

fn average(classes: &[ClassMetrics; CLASSES], weights: [f64; CLASSES]) -> Average {
    let total: f64 = weights.iter().sum();
    let mean = |figure: fn(&ClassMetrics) -> f64| {
        if total == 0.0 {
            return 0.0;
        }
        classes.iter().zip(weights).map(|(class, weight)| figure(class) * weight).sum::<f64>() / total
    };
    Average { precision: mean(|class| class.precision), recall: mean(|class| class.recall), f1: mean(|class| class.f1) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn assert_close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-12, "{actual} is not {expected}");
    }

    /// Written by `tests/golden/generate.py`.
    #[derive(Deserialize)]
    struct Golden {
        actual: Vec<usize>,
        probabilities: Vec<[f32; CLASSES]>,
        confusion: [[u64; CLASSES]; CLASSES],
        accuracy: f64,
        /// Precision, recall, F1 and support of each class.
        classes: [[f64; 4]; CLASSES],
        macro_average: [f64; 3],
        weighted_average: [f64; 3],
        log_loss: f64,
        calibration_error: f64,
        roc_auc: [Option<f64>; CLASSES],
    }

    #[test]
    fn agrees_with_scikit_learn() {
        let goldens: Vec<Golden> = serde_json::from_str(include_str!("../../tests/golden/metrics.json")).unwrap();
        assert_eq!(goldens.len(), 24);
        for golden in goldens {
            let scored: Vec<_> =
                golden.actual.iter().map(|&class| Severity::ALL[class]).zip(golden.probabilities).collect();
            let (metrics, certainty) = measure(&scored);
            assert_eq!(metrics.confusion.counts, golden.confusion);
            assert_close(metrics.accuracy, golden.accuracy);
            for (class, expected) in metrics.classes.iter().zip(golden.classes) {
                let actual = [class.precision, class.recall, class.f1, class.support as f64];
                actual.into_iter().zip(expected).for_each(|(actual, expected)| assert_close(actual, expected));
            }
            for (average, expected) in
                [(metrics.macro_average, golden.macro_average), (metrics.weighted_average, golden.weighted_average)]
            {
                let actual = [average.precision, average.recall, average.f1];
                actual.into_iter().zip(expected).for_each(|(actual, expected)| assert_close(actual, expected));
            }
            // scikit-learn brings rows of 32-bit numbers, which add up to 1 within their precision, to a sum of 1.
            assert!((certainty.log_loss - golden.log_loss).abs() < 1e-6, "{} {}", certainty.log_loss, golden.log_loss);
            assert_close(certainty.calibration_error, golden.calibration_error);
            for (actual, expected) in certainty.roc_auc.into_iter().zip(golden.roc_auc) {
                assert_eq!(actual.is_some(), expected.is_some());
                assert_close(actual.unwrap_or_default(), expected.unwrap_or_default());
            }
        }
    }

    #[test]
    fn macro_f1_is_the_mean_of_the_classes_f1() {
        let metrics = ConfusionMatrix { counts: [[60, 15, 7], [20, 33, 22], [5, 14, 72]] }.metrics();
        assert_close(metrics.macro_average.f1, (120.0 / 167.0 + 66.0 / 137.0 + 144.0 / 192.0) / 3.0);
    }

    #[test]
    fn a_probability_of_zero_costs_much_and_not_everything() {
        let (_, certainty) = measure(&[(Severity::Minor, [0.0, 0.0, 1.0])]);
        assert!(certainty.log_loss > 80.0 && certainty.log_loss.is_finite());
        assert_close(certainty.calibration_error, 1.0);
        let (metrics, nothing) = measure(&[]);
        assert_eq!((metrics.images, nothing.log_loss, nothing.roc_auc), (0, 0.0, [None; CLASSES]));
    }

    #[test]
    fn zero_denominators_count_as_zero() {
        let nothing = ConfusionMatrix::default().metrics();
        assert_eq!((nothing.images, nothing.accuracy, nothing.macro_average.f1), (0, 0.0, 0.0));
        let one_class = ConfusionMatrix { counts: [[4, 0, 0], [0; 3], [0; 3]] }.metrics();
        assert_close(one_class.accuracy, 1.0);
        assert_close(one_class.macro_average.f1, 1.0 / 3.0);
        assert_close(one_class.weighted_average.f1, 1.0);
    }
}
