//! Jobs whose tasks have ended, end. Only then do their results show.

use perito_domain::lifecycle::{JobKind, JobState};
use uuid::Uuid;

use crate::{
    Database,
    datasets::stored,
    error::{During, Error, ErrorKind, Result},
    jobs::{cancel_tasks, end_job},
};

/// The most jobs in one round.
const BATCH: i64 = 100;
/// A round ends with the job that brings it to so many scores: summing them up takes a while, and other jobs' ends should show.
const BATCH_SCORES: i64 = 500_000;

/// A job that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedJob {
    /// The job.
    pub id: Uuid,
    /// Its kind.
    pub kind: JobKind,
    /// How it ended.
    pub state: JobState,
    /// Images that have a score.
    pub images_scored: i64,
    /// Images that could not be scored.
    pub images_failed: i64,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl Database {
    /// Ends every running job that has a failed task, has used up its failure budget, or has only succeeded tasks; a paused one too,
    /// for what ran when it was paused may have been the last of it.
    ///
    /// What a round costs depends on how many jobs run and how many of their tasks had broken images, not on how many tasks wait.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn finish_jobs(&self) -> Result<Vec<FinishedJob>> {
        if !self.any_running(None).await? {
            return Ok(Vec::new());
        }
        let mut tx = self.begin("begin finishing").await?;
        // The end of a run writes its summaries (migrations/0011_summaries.sql), which takes longer the more scores it has.
        sqlx::query!("set local statement_timeout = '1h'").execute(&mut *tx).await.during("begin finishing")?;
        let rows = sqlx::query!(
            r#"
            with looked_at as (
                select j.id, runnable.id is not null or in_hand.id is not null as open, failed.id is not null as any_failed,
                       failed.error, broken.images,
                       case when j.kind = 'score' then (j.spec ->> 'failure_budget')::double precision end as budget
                from jobs j
                left join lateral (
                    select id from tasks where job_id = j.id and state = 'runnable' order by ordinal limit 1
                ) runnable on true
                left join lateral (
                    select id from tasks where kind = j.kind and job_id = j.id and state in ('dispatched', 'running') limit 1
                ) in_hand on true
                left join lateral (
                    select id, error from tasks where job_id = j.id and state = 'failed' order by ordinal limit 1
                ) failed on true
                cross join lateral (
                    select coalesce(sum(images_failed), 0)::bigint as images from tasks where job_id = j.id and images_failed > 0
                ) broken
                where j.state = 'running'
            )
            select j.id, j.kind, coalesce(j.images_total, 0) as "images_total!", l.images as "failed!", l.open as "open!", l.error,
                   l.budget
            from jobs j join looked_at l on l.id = j.id
            where j.state = 'running' and (not l.open or l.any_failed or l.images > l.budget * j.images_total)
            limit $1
            for no key update of j skip locked
            "#,
            BATCH
        )
        .fetch_all(&mut *tx)
        .await
        .during("find jobs that are due")?;
        let mut finished = Vec::with_capacity(rows.len());
        let mut scores = 0;
        for row in rows {
            if scores >= BATCH_SCORES {
                break;
            }
            let over_budget = row.budget.filter(|budget| row.failed as f64 > budget * row.images_total as f64);
            let error = match (row.error, over_budget) {
                (Some(error), _) => Some(error),
                (None, Some(budget)) => Some(format!(
                    "{} of {} images failed, more than the failure budget of {} % (see image_failures; a higher failure_budget in the \
                     specification allows more)",
                    row.failed,
                    row.images_total,
                    budget * 100.0
                )),
                (None, None) => None,
            };
            let state = if error.is_some() { JobState::Failed } else { JobState::Succeeded };
            if state == JobState::Succeeded && row.open {
                return Err(Error::new(ErrorKind::Internal, format!("job {} is due with open tasks", row.id)));
            }
            if state == JobState::Failed {
                cancel_tasks(&mut tx, row.id).await?;
            }
            let (images_scored, images_failed) = end_job(&mut tx, row.id, state, error.as_deref()).await?;
            scores += images_scored;
            let kind = stored(&row.kind)?;
            finished.push(FinishedJob { id: row.id, kind, state, images_scored, images_failed, error });
        }
        tx.commit().await.during("commit finished jobs")?;
        Ok(finished)
    }
}
