//! Freezes queued jobs into tasks.

use anyhow::Context;
use perito_database::Database;

use super::{Pace, Step, Wake};

/// Plans one job at a time, the most urgent one that no other replica is planning.
pub(super) struct Planner {
    pub(super) database: Database,
    pub(super) wake: Wake,
}

impl Step for Planner {
    const NAME: &'static str = "planner";
    const LIMIT: std::time::Duration = super::LONG;

    async fn step(&mut self) -> anyhow::Result<Pace> {
        let Some(planned) = self.database.plan_next().await.context("plan the next job")? else {
            return Ok(Pace::Idle);
        };
        let (id, kind) = (planned.job_id, planned.kind);
        if let Some(reason) = planned.refused {
            tracing::warn!(job.id = %id, job.kind = %kind, error.message = reason, "job cannot be planned: it failed");
            return Ok(Pace::Again);
        }
        if let Some(reason) = planned.deferred {
            tracing::warn!(job.id = %id, job.kind = %kind, error.message = reason, "planning failed, will be tried again");
            metrics::counter!("perito_plans_deferred_total", "kind" => kind.as_str()).increment(1);
            return Ok(Pace::Again);
        }
        let (tasks, images) = (planned.tasks, planned.images);
        tracing::info!(job.id = %id, job.kind = %kind, job.tasks = tasks, job.images = images, "job planned");
        self.wake.dispatcher(kind).notify_one();
        Ok(Pace::Again)
    }
}
