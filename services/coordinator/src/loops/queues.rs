//! What the broker holds, as the message reaper of this process saw it last: for whoever asks, without asking the broker again.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use perito_domain::lifecycle::JobKind;
use tokio::time::Instant;

/// What is older than this is not known any more.
const FRESH: Duration = Duration::from_secs(30);

/// The last sight of the queues. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Queues(Arc<Mutex<Option<(Instant, Depths)>>>);

/// How many messages wait.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Depths {
    /// For a worker, by kind.
    pub(crate) ready: Vec<(JobKind, u64)>,
    /// For a person.
    pub(crate) dead_letters: u64,
}

impl Depths {
    /// Messages of a kind that wait for a worker.
    pub(crate) fn ready(&self, kind: JobKind) -> Option<u64> {
        self.ready.iter().find(|(of, _)| *of == kind).map(|(_, ready)| *ready)
    }
}

impl Queues {
    /// Remembers what was seen just now.
    pub(crate) fn saw(&self, depths: Depths) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), depths));
    }

    /// What is there, as far as it is known: nothing when the broker has been away.
    pub(crate) fn recent(&self) -> Option<Depths> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, depths)| depths.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_long_ago_is_not_known() {
        let queues = Queues::default();
        assert_eq!(queues.recent(), None);
        let depths = Depths { ready: vec![(JobKind::Score, 3)], dead_letters: 1 };
        queues.clone().saw(depths.clone());
        assert_eq!(queues.recent(), Some(depths));
        assert_eq!(queues.recent().and_then(|depths| depths.ready(JobKind::Train)), None);
        tokio::time::advance(FRESH).await;
        assert_eq!(queues.recent(), None);
    }
}
