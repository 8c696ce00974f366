//! Forgets which event of an object came last, once no earlier one can be on its way any more.

use std::time::Duration;

use anyhow::Context;
use perito_database::Database;

use super::{Pace, Step};

/// How often it looks.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);
/// Stores give up on delivering an event long before.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Objects in one transaction.
const BATCH: i64 = 10_000;

/// Forgets what is old.
pub(super) struct EventReaper {
    pub(super) database: Database,
}

impl Step for EventReaper {
    const NAME: &'static str = "event_reaper";

    async fn step(&mut self) -> anyhow::Result<Pace> {
        let forgotten = self.database.forget_events(KEPT, BATCH).await.context("forget old events")?;
        Ok(if forgotten >= BATCH.unsigned_abs() { Pace::Again } else { Pace::Idle })
    }
}
