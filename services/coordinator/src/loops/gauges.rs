//! Measures what waits and for how long.

use anyhow::Context;
use perito_database::Database;
use perito_domain::lifecycle::{JobKind, TaskState};

use super::{Pace, Step};

/// The states of tasks that somebody is waiting for.
const OPEN: [TaskState; 3] = [TaskState::Runnable, TaskState::Dispatched, TaskState::Running];

/// Sets the gauges of open tasks. Every replica shows the same figures: they are the database's.
pub(super) struct Gauges {
    pub(super) database: Database,
}

impl Step for Gauges {
    const NAME: &'static str = "gauges";

    async fn step(&mut self) -> anyhow::Result<Pace> {
        let counts = self.database.task_counts().await.context("count open tasks")?;
        for kind in JobKind::ALL {
            for state in OPEN {
                let count = counts.iter().find(|count| count.kind == *kind && count.state == state);
                let labels = [("kind", kind.as_str()), ("state", state.as_str())];
                metrics::gauge!("perito_tasks", &labels).set(count.map_or(0.0, |count| count.tasks as f64));
                metrics::gauge!("perito_oldest_task_seconds", &labels)
                    .set(count.map_or(0.0, |count| count.oldest_seconds));
            }
        }
        let intake = self.database.intake_counts().await.context("count the intake")?;
        metrics::gauge!("perito_intake_rows", "table" => "staging").set(intake.staged as f64);
        metrics::gauge!("perito_intake_rows", "table" => "rejected").set(intake.rejected as f64);
        Ok(Pace::Idle)
    }
}
