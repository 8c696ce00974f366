//! Randomness as a function of (seed, purpose, epoch, index), never of thread timing.
//!
//! Any thread may augment any image at any time and draws the same numbers, so a training run that is stopped and
//! resumed, or decoded by more threads, sees the same pixels.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for. Streams never overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial weights.
    Weights = 1,
    /// The order of the images in an epoch.
    Shuffle = 2,
    /// The augmentation of one image.
    Augment = 3,
    /// Dropout masks.
    Dropout = 4,
    /// Bootstrap resampling of metrics.
    Bootstrap = 5,
    /// Mixtures of the images of a batch.
    Mix = 7,
    /// The trials of a random search.
    Search = 8,
    /// The parts of a cross-validation.
    Folds = 9,
    /// How long after its fire time a scheduled job is submitted.
    Jitter = 10,
    /// Synthetic photographs.
    Synthesis = 6,
}

/// The generator for one (seed, purpose, epoch, index): a ChaCha8 stream keyed by exactly these four numbers.
pub fn rng(seed: u64, purpose: Purpose, epoch: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, number) in key.chunks_exact_mut(8).zip([seed, purpose as u64, epoch, index]) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn each_coordinate_changes_the_stream_and_the_same_ones_repeat_it() {
        let draw = |seed, purpose, epoch, index| rng(seed, purpose, epoch, index).random::<u64>();
        let first = draw(1, Purpose::Augment, 2, 3);
        assert_eq!(first, draw(1, Purpose::Augment, 2, 3));
        for other in [
            draw(2, Purpose::Augment, 2, 3),
            draw(1, Purpose::Shuffle, 2, 3),
            draw(1, Purpose::Augment, 3, 3),
            draw(1, Purpose::Augment, 2, 4),
        ] {
            assert_ne!(first, other);
        }
    }
}
