//! Classification metrics from a confusion matrix, with scikit-learn's definitions.
//!
//! A precision, recall or F1 whose denominator is zero is 0 (`zero_division=0`). Macro F1 is the mean of the classes' F1,
//! not the F1 of the mean precision and recall.

use serde::{Deserialize, Serialize};

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
mod tests {
    use super::*;

    fn assert_close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-12, "{actual} is not {expected}");
    }

    /// Reference: `sklearn.metrics.classification_report` on the same counts.
    #[test]
    fn agrees_with_scikit_learn() {
        let metrics = ConfusionMatrix { counts: [[60, 15, 7], [20, 33, 22], [5, 14, 72]] }.metrics();
        assert_close(metrics.accuracy, 165.0 / 248.0);
        assert_close(metrics.classes[0].precision, 60.0 / 85.0);
        assert_close(metrics.classes[0].recall, 60.0 / 82.0);
        assert_close(metrics.classes[1].f1, 66.0 / 137.0);
        let f1 = [120.0 / 167.0, 66.0 / 137.0, 144.0 / 192.0];
        assert_close(metrics.macro_average.f1, f1.iter().sum::<f64>() / 3.0);
        assert_close(metrics.weighted_average.f1, (f1[0] * 82.0 + f1[1] * 75.0 + f1[2] * 91.0) / 248.0);
        assert_close(metrics.weighted_average.recall, metrics.accuracy);
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
