//! Takes tasks from workers that went silent: their lease has run out. They run again, or are split when workers died of them.

use std::time::Duration;

use anyhow::Context;
use perito_database::{Database, reap::Reaped};
use tokio::time::Instant;

use super::{Pace, Step, Wake};

/// The most leases that one step reaps.
const BATCH: i64 = 500;
/// How long the database has to have answered before a silent worker is taken for dead: a worker that lives reports every two seconds,
/// and needs a moment to connect again.
const SIGHT: Duration = Duration::from_secs(5);
/// A step that comes so long after the last one says nothing about the time between.
const BLINK: Duration = Duration::from_secs(5);

/// Reaps what has expired.
pub(super) struct LeaseReaper {
    database: Database,
    wake: Wake,
    /// Since when the database has been seen to answer, and when it was seen last.
    seen: Option<(Instant, Instant)>,
}

impl LeaseReaper {
    pub(super) fn new(database: Database, wake: Wake) -> Self {
        Self { database, wake, seen: None }
    }

    async fn reap(&self, now: Instant) -> perito_database::Result<Reaped> {
        match self.seen {
            Some((since, last)) if now - last < BLINK && now - since >= SIGHT => {
                self.database.reap_expired(BATCH).await
            }
            _ => self.database.reap_after_outage(BATCH).await,
        }
    }
}

impl Step for LeaseReaper {
    const NAME: &'static str = "lease_reaper";

    async fn step(&mut self) -> anyhow::Result<Pace> {
        let now = Instant::now();
        let reaped = match self.reap(now).await {
            Ok(reaped) => reaped,
            Err(error) => {
                self.seen = None;
                return Err(error).context("reap expired leases");
            }
        };
        let since = self.seen.filter(|(_, last)| now - *last < BLINK).map_or(now, |(since, _)| since);
        self.seen = Some((since, Instant::now()));
        let Reaped { returned, failed, split, given_up } = reaped;
        if reaped.total() == 0 {
            return Ok(Pace::Idle);
        }
        tracing::warn!(
            tasks.returned = returned,
            tasks.failed = failed,
            tasks.split = split,
            images.given_up = given_up,
            "leases expired"
        );
        metrics::counter!("perito_leases_expired_total").increment(reaped.total());
        metrics::counter!("perito_tasks_split_total").increment(split);
        metrics::counter!("perito_images_given_up_total").increment(given_up);
        self.wake.dispatchers();
        Ok(if reaped.total() >= BATCH.unsigned_abs() { Pace::Again } else { Pace::Idle })
    }
}
