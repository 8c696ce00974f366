//! Forgets workers that are gone: a worker that was killed cannot take itself out of the registry.

use std::time::Duration;

use anyhow::Context;
use perito_database::Database;

use super::{Pace, Step};

/// A worker that was not heard of for so long is gone.
const SILENT: Duration = Duration::from_secs(10 * 60);
/// Unless it was drained: it stays so if it comes back under its name.
const DRAINED: Duration = Duration::from_secs(24 * 3600);

/// Forgets the silent.
pub(super) struct WorkerRegistry {
    pub(super) database: Database,
}

impl Step for WorkerRegistry {
    const NAME: &'static str = "worker_registry";

    async fn step(&mut self) -> anyhow::Result<Pace> {
        let forgotten = self.database.forget_workers(SILENT, DRAINED).await.context("forget silent workers")?;
        if forgotten > 0 {
            tracing::info!(workers.forgotten = forgotten, "workers forgotten");
        }
        Ok(Pace::Idle)
    }
}
