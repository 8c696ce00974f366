//! Ends jobs whose tasks have ended: from here on their results show.

use anyhow::Context;
use perito_database::Database;

use super::{Pace, Step};

/// Ends every job that has come to its end.
pub(super) struct Finisher {
    pub(super) database: Database,
}

impl Step for Finisher {
    const NAME: &'static str = "finisher";
    const LIMIT: std::time::Duration = super::LONG;

    async fn step(&mut self) -> anyhow::Result<Pace> {
        let finished = self.database.finish_jobs().await.context("finish jobs")?;
        for job in &finished {
            tracing::info!(
                job.id = %job.id,
                job.kind = %job.kind,
                job.state = %job.state,
                job.images_scored = job.images_scored,
                job.images_failed = job.images_failed,
                "job finished"
            );
            let labels = [("kind", job.kind.as_str()), ("state", job.state.as_str())];
            metrics::counter!("perito_jobs_finished_total", &labels).increment(1);
        }
        Ok(if finished.is_empty() { Pace::Idle } else { Pace::Busy })
    }
}
