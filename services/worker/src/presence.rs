//! This worker in the registry: it reports that it lives, and learns whether to take new tasks and which of its tasks are its own no
//! more. That is far more often than leases are renewed, and writes one row: a cancelled job's tasks stop within seconds.

use std::{sync::Arc, time::Duration};

use perito_database::{Lease, WorkerReport};
use tokio::time::MissedTickBehavior;

use crate::service::Context;

/// Between two reports.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// Reports for ever. While the database cannot be reached everything stays as it is: the leases have their own deadline.
pub async fn report(context: Arc<Context>, report: Arc<WorkerReport>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        ticks.tick().await;
        context.stall_clock.publish();
        let tasks = context.leases.tasks();
        let leases: Vec<&Lease> = tasks.iter().map(|task| &task.lease).collect();
        match tokio::time::timeout(INTERVAL, context.database.beat(&report, &leases)).await {
            Ok(Ok(beat)) => {
                failing = false;
                context.intake.set_draining(beat.draining);
                context.leases.keep_only(&tasks, &beat.held);
            }
            outcome if failing => drop(outcome),
            Ok(Err(error)) => {
                failing = true;
                tracing::warn!(error = %error, "report to the registry failed, will go on trying");
            }
            Err(_) => {
                failing = true;
                tracing::warn!(
                    timeout.seconds = INTERVAL.as_secs_f64(),
                    "report to the registry timed out, will go on trying"
                );
            }
        }
    }
}

/// Takes this worker out of the registry. If that fails the coordinator forgets it after a while.
pub async fn leave(context: &Context, report: &WorkerReport) {
    let leaving = context.database.leave(&report.name, report.instance);
    if !matches!(tokio::time::timeout(INTERVAL, leaving).await, Ok(Ok(()))) {
        tracing::debug!("left without a word to the registry");
    }
}
