//! Confidence intervals by the percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).

use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution};
use serde::{Deserialize, Serialize};

use super::ConfusionMatrix;
use crate::{
    random::{Purpose, rng},
    severity::CLASSES,
};

/// How many times the images are drawn again.
const RESAMPLES: u64 = 2_000;
/// The seed of every stored interval: two measurements of the same counts have the same intervals.
const SEED: u64 = 42;

/// A 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The 2.5th percentile.
    pub low: f64,
    /// The 97.5th percentile.
    pub high: f64,
}

/// The intervals of accuracy and of macro F1, a function of the counts alone.
///
/// To draw as many images with replacement is to draw the nine counts of the confusion matrix from a multinomial distribution, which
/// costs the same for any number of images.
pub fn intervals(confusion: &ConfusionMatrix) -> (Interval, Interval) {
    let resampled = (0..RESAMPLES).map(|resample| {
        let metrics = redraw(confusion, &mut rng(SEED, Purpose::Bootstrap, 0, resample)).metrics();
        (metrics.accuracy, metrics.macro_average.f1)
    });
    let (accuracy, macro_f1): (Vec<f64>, Vec<f64>) = resampled.unzip();
    (interval(accuracy), interval(macro_f1))
}

/// One draw from the multinomial distribution, cell by cell: each is binomial given those before it.
fn redraw(confusion: &ConfusionMatrix, rng: &mut ChaCha8Rng) -> ConfusionMatrix {
    let mut drawn = ConfusionMatrix::default();
    let (mut images, mut left) = (confusion.total(), confusion.total());
    for actual in 0..CLASSES {
        for predicted in 0..CLASSES {
            let count = confusion.counts[actual][predicted];
            // A share between 0 and 1 always has a distribution; where nothing is left, nothing can be drawn.
            let share = if left == 0 { 0.0 } else { count as f64 / left as f64 };
            let cell = Binomial::new(images, share).map_or(0, |binomial| binomial.sample(rng));
            drawn.counts[actual][predicted] = cell;
            images -= cell;
            left -= count;
        }
    }
    drawn
}

fn interval(mut values: Vec<f64>) -> Interval {
    values.sort_by(f64::total_cmp);
    Interval { low: percentile(&values, 0.025), high: percentile(&values, 0.975) }
}

/// Linear interpolation between the closest ranks, numpy's default. The values are sorted, and there is one at least.
fn percentile(values: &[f64], share: f64) -> f64 {
    let rank = share * (values.len() - 1) as f64;
    let (below, above) = (values[rank.floor() as usize], values[rank.ceil() as usize]);
    below + (above - below) * rank.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_of_a_share_is_as_wide_as_the_normal_approximation() {
        for images in [100_u64, 10_000, 10_000_000] {
            let counts = [
                [images / 5, images / 20, images / 20],
                [images / 10, images / 10, images / 10],
                [0, images / 10, images * 3 / 10],
            ];
            let confusion = ConfusionMatrix { counts };
            let accuracy = confusion.metrics().accuracy;
            let (interval, macro_f1) = intervals(&confusion);
            let half = 1.96 * (accuracy * (1.0 - accuracy) / images as f64).sqrt();
            assert!(((interval.high - interval.low) / (2.0 * half) - 1.0).abs() < 0.1, "{interval:?} {half}");
            assert!(((interval.high + interval.low) / 2.0 - accuracy).abs() < 0.2 * half, "{interval:?} {accuracy}");
            assert!(
                macro_f1.low < confusion.metrics().macro_average.f1
                    && confusion.metrics().macro_average.f1 < macro_f1.high
            );
            assert_eq!(intervals(&confusion), (interval, macro_f1), "a function of the counts");
        }
    }

    #[test]
    fn certainty_and_emptiness_have_no_width() {
        let certain = ConfusionMatrix { counts: [[4, 0, 0], [0, 4, 0], [0, 0, 4]] };
        assert_eq!(intervals(&certain).0, Interval { low: 1.0, high: 1.0 });
        assert_eq!(intervals(&ConfusionMatrix::default()).0, Interval { low: 0.0, high: 0.0 });
    }
}
