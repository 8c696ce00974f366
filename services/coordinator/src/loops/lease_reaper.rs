//! Returns tasks whose worker has died: their lease has run out.

use anyhow::Context;
use perito_database::Database;

use super::{Pace, Step, Wake};

/// The most leases that one step reaps.
const BATCH: i64 = 500;

/// Reaps what has expired.
pub(super) struct LeaseReaper {
    pub(super) database: Database,
    pub(super) wake: Wake,
}

impl Step for LeaseReaper {
    const NAME: &'static str = "lease_reaper";

    async fn step(&mut self) -> anyhow::Result<Pace> {
        let reaped = self.database.reap_expired(BATCH).await.context("reap expired leases")?;
        let expired = reaped.returned + reaped.failed;
        if expired == 0 {
            return Ok(Pace::Idle);
        }
        tracing::warn!(tasks.returned = reaped.returned, tasks.failed = reaped.failed, "leases expired");
        metrics::counter!("perito_leases_expired_total").increment(expired);
        self.wake.dispatchers();
        Ok(if expired >= BATCH.unsigned_abs() { Pace::Again } else { Pace::Idle })
    }
}
