//! How predictions are held against labels.

use serde::{Deserialize, Serialize};

use super::error::{SpecError, in_range};
use crate::severity::CLASSES;

/// Cross-entropy as `torch.nn.CrossEntropyLoss(weight, label_smoothing)`. Validation losses are plain cross-entropy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// Share of each label that is spread over all classes (Szegedy et al., 2015), 0 to less than 1.
    pub label_smoothing: f64,
    /// How much an image of each class counts. All the same when absent.
    pub class_weights: Option<ClassWeights>,
}

/// How much an image of each class counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected \"balanced\" or three numbers, for minor, moderate and severe")]
pub enum ClassWeights {
    /// So that all classes count the same together.
    Named(Balanced),
    /// These numbers, in the classes' order.
    Given([f64; CLASSES]),
}

/// The word `balanced`: images / (classes * images of the class), as in scikit-learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Balanced {
    /// `balanced`.
    Balanced,
}

impl ClassWeights {
    /// The weights for a training split with so many images of each class.
    pub fn values(self, images: [u64; CLASSES]) -> [f64; CLASSES] {
        match self {
            Self::Given(weights) => weights,
            Self::Named(Balanced::Balanced) => {
                let all = images.iter().sum::<u64>() as f64;
                images.map(|images| if images == 0 { 0.0 } else { all / (CLASSES as f64 * images as f64) })
            }
        }
    }
}

impl Loss {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        in_range("loss.label_smoothing", self.label_smoothing, 0.0, 1.0 - f64::EPSILON)?;
        match self.class_weights {
            Some(ClassWeights::Given(weights)) => {
                weights.iter().try_for_each(|&weight| in_range("loss.class_weights", weight, f64::MIN_POSITIVE, 1e6))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference: `sklearn.utils.class_weight.compute_class_weight("balanced")`.
    #[test]
    fn balanced_classes_count_the_same_together() {
        let balanced = ClassWeights::Named(Balanced::Balanced);
        assert_eq!(balanced.values([10, 20, 30]), [2.0, 1.0, 60.0 / 90.0]);
        assert_eq!(balanced.values([5, 0, 5]), [10.0 / 15.0, 0.0, 10.0 / 15.0]);
    }
}
