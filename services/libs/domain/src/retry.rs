//! Error classes, and what follows from each: [`Trouble::policy`] is the whole retry policy of tasks. `docs/reference/retries.md` shows it, and a
//! test compares.
//!
//! Whether trying again can help is decided where an error arises: its [`ErrorClass`]. An image that cannot be scored is a result and not an
//! error: see [`crate::failure`].

use std::time::Duration;

use rand::{Rng, RngExt};

use crate::text_enum::text_enum;

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

text_enum! {
    /// What may end an attempt before its work is done; as stored in `attempts.error_class`.
    Trouble ("class of trouble") {
        /// The worker met an error that may pass.
        Transient = "transient",
        /// The worker met an error that trying again does not mend.
        Permanent = "permanent",
        /// The worker was not heard of in time: it died, hangs, or is cut off.
        Silent = "silent",
        /// The database was away when the lease ran out.
        Outage = "outage",
        /// The worker gave the task back because it was told to stop.
        Shutdown = "shutdown",
    }
}

impl From<ErrorClass> for Trouble {
    fn from(class: ErrorClass) -> Self {
        match class {
            ErrorClass::Transient => Self::Transient,
            ErrorClass::Permanent => Self::Permanent,
        }
    }
}

/// What follows from trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether the attempt counts against the task's limit of [`MAX_ATTEMPTS`].
    pub counts: bool,
    /// Whether, and when, the task is tried again while attempts are left.
    pub again: Again,
}

/// When a task is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// After a wait that grows.
    AfterBackoff(Backoff),
    /// As soon as it is dispatched.
    AtOnce,
    /// It is not.
    Never,
}

/// Attempts of one task that may count. Changing it takes a migration too: it is the default of `tasks.max_attempts`.
pub const MAX_ATTEMPTS: u32 = 5;

impl Trouble {
    /// What follows. A scoring task whose workers fall silent does not use its attempts up: see [`crate::poison`].
    pub const fn policy(self) -> Policy {
        let (counts, again) = match self {
            Self::Transient => (true, Again::AfterBackoff(TASK_BACKOFF)),
            Self::Permanent => (true, Again::Never),
            Self::Silent => (true, Again::AtOnce),
            Self::Outage | Self::Shutdown => (false, Again::AtOnce),
        };
        Policy { counts, again }
    }
}

/// Exponential backoff with equal jitter: between half and all of `base * 2^n`, never above `cap`.
///
/// Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
