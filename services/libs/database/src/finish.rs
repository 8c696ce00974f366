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
    /// Ends every running job that has a failed task, has used up its failure budget, or has only succeeded tasks.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn finish_jobs(&self) -> Result<Vec<FinishedJob>> {
        let mut tx = self.begin("begin finishing").await?;
        let rows = sqlx::query!(
            r#"
            with due as (
                select j.id, t.scored, t.failed, t.open, t.error,
                       case when j.kind = 'score' then (j.spec ->> 'failure_budget')::double precision end as budget
                from jobs j
                cross join lateral (
                    select coalesce(sum(images_scored), 0)::bigint as scored, coalesce(sum(images_failed), 0)::bigint as failed,
                           count(*) filter (where state not in ('succeeded', 'failed', 'cancelled')) as open,
                           (array_agg(error order by ordinal) filter (where state = 'failed'))[1] as error,
                           bool_or(state = 'failed') as any_failed
                    from tasks where job_id = j.id
                ) t
                where j.state = 'running'
                  and (t.open = 0 or t.any_failed
                       or j.kind = 'score' and t.failed > (j.spec ->> 'failure_budget')::double precision * j.images_total)
                limit $1
            )
            select j.id, j.kind, coalesce(j.images_total, 0) as "images_total!", due.scored as "scored!", due.failed as "failed!",
                   due.open as "open!", due.error, due.budget
            from jobs j join due on due.id = j.id
            where j.state = 'running'
            for update of j skip locked
            "#,
            BATCH
        )
        .fetch_all(&mut *tx)
        .await
        .during("find jobs that are due")?;
        let mut finished = Vec::with_capacity(rows.len());
        for row in rows {
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
            if state == JobState::Succeeded && row.open > 0 {
                return Err(Error::new(ErrorKind::Internal, format!("job {} is due with open tasks", row.id)));
            }
            if state == JobState::Failed {
                cancel_tasks(&mut tx, row.id).await?;
            }
            end_job(&mut tx, row.id, state, error.as_deref()).await?;
            let kind = stored(&row.kind)?;
            finished.push(FinishedJob {
                id: row.id,
                kind,
                state,
                images_scored: row.scored,
                images_failed: row.failed,
                error,
            });
        }
        tx.commit().await.during("commit finished jobs")?;
        Ok(finished)
    }
}
