//! How many images are fetched at once: as few as keep the decoders supplied, more while they wait, fewer while the store struggles.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests at once to begin with.
const FIRST: usize = 8;
/// Never fewer.
const LEAST: usize = 2;

/// A limit that moves: up by one for each image that finds the decoders waiting, down to half for one that the store failed to give.
#[derive(Clone)]
pub struct FetchLimit {
    free: Arc<Semaphore>,
    limit: Arc<AtomicUsize>,
    most: usize,
}

/// A place among the requests.
#[must_use]
pub struct Place {
    permit: Option<OwnedSemaphorePermit>,
    limit: FetchLimit,
}

impl FetchLimit {
    /// At most so many at once.
    pub fn new(most: usize) -> Self {
        let first = FIRST.min(most);
        Self { free: Arc::new(Semaphore::new(first)), limit: Arc::new(AtomicUsize::new(first)), most }
    }

    /// A place, at once or when one becomes free.
    pub async fn place(&self) -> Place {
        // Closed never: it lives as long as the limit.
        Place { permit: Arc::clone(&self.free).acquire_owned().await.ok(), limit: self.clone() }
    }

    /// The limit as it is now.
    pub fn now(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    fn change(&self, to: impl Fn(usize) -> usize) -> (usize, usize) {
        let bounded = |now: usize| to(now).clamp(LEAST.min(self.most), self.most);
        let before = self.limit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(bounded(now)));
        // The closure always gives a value.
        let before = before.unwrap_or_else(|now| now);
        let after = bounded(before);
        metrics::gauge!("perito_fetch_concurrency_limit").set(after as f64);
        (before, after)
    }
}

impl Place {
    /// The image came. `starved`: the decoders have nothing to do.
    pub fn succeeded(self, starved: bool) {
        if starved {
            let (before, after) = self.limit.change(|now| now + 1);
            self.limit.free.add_permits(after - before);
        }
    }

    /// The store failed, all its second chances included.
    pub fn failed(mut self) {
        let (before, after) = self.limit.change(|now| now / 2);
        let mut surplus = before - after;
        if surplus > 0
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
            surplus -= 1;
        }
        // Those in use are not taken away: then the limit is above its aim until the next failure.
        let forgotten = self.limit.free.forget_permits(surplus);
        self.limit.limit.fetch_add(surplus - forgotten, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_grows_while_decoders_starve_and_halves_when_the_store_fails() {
        let limit = FetchLimit::new(10);
        assert_eq!(limit.now(), 8);
        limit.place().await.succeeded(false);
        assert_eq!(limit.now(), 8);
        for _ in 0..5 {
            limit.place().await.succeeded(true);
        }
        assert_eq!((limit.now(), limit.free.available_permits()), (10, 10), "no more than allowed");
        limit.place().await.failed();
        assert_eq!((limit.now(), limit.free.available_permits()), (5, 5));
        let held = [limit.place().await, limit.place().await, limit.place().await, limit.place().await];
        limit.place().await.failed();
        assert_eq!((limit.now(), limit.free.available_permits()), (4, 0), "four are in use, and two was the aim");
        drop(held);
        for _ in 0..5 {
            limit.place().await.failed();
        }
        assert_eq!((limit.now(), limit.free.available_permits()), (2, 2), "never fewer");
    }
}
