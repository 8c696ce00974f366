//! Error classes, and what follows from each.
//!
//! | class | examples | what follows |
//! |---|---|---|
//! | transient | S3 5xx, network, serialization failure | the task is retried with backoff while attempts are left |
//! | permanent | bad specification, missing model, NaN loss | the task, and with it the job, fails at once |
//!
//! The third class, an image that cannot be scored, is a result and not an error: see [`crate::failure`].

use std::time::Duration;

use rand::{Rng, RngExt};

/// Whether trying again can help. Decided where an error arises and carried by the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Trying again later may succeed.
    Transient,
    /// Trying again cannot succeed.
    Permanent,
}

impl ErrorClass {
    /// The class's name as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
        }
    }
}

/// Exponential backoff with equal jitter: between half and all of `base * 2^n`, never above `cap`.
///
/// Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The longest wait after the first failure.
    pub base: Duration,
    /// The longest wait after any failure.
    pub cap: Duration,
}

/// Between attempts of one task.
pub const TASK_BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) };

/// Between attempts to plan one job.
pub const PLAN_BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(300) };

impl Backoff {
    /// The wait after the `failures`-th failure in a row, counted from 1.
    pub fn delay(&self, failures: u32, rng: &mut impl Rng) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let longest = self.base.saturating_mul(1 << doublings).min(self.cap);
        longest.mul_f64(rng.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn waits_grow_to_the_cap_and_never_pass_it() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut previous_longest = Duration::ZERO;
        for failures in 1..100 {
            let longest = (0..100).map(|_| TASK_BACKOFF.delay(failures, &mut rng)).max().unwrap_or_default();
            assert!(longest <= TASK_BACKOFF.cap);
            assert!(failures > 6 || longest > previous_longest, "grows at first");
            previous_longest = longest;
        }
        assert!(previous_longest > TASK_BACKOFF.cap.mul_f64(0.9));
    }

    #[test]
    fn waits_differ_between_callers() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let first = TASK_BACKOFF.delay(5, &mut rng);
        assert!((0..10).any(|_| TASK_BACKOFF.delay(5, &mut rng) != first));
    }
}
