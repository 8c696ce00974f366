//! The operator's hands on a job that has not ended: pausing it, and changing its priority or limit.
//!
//! What workers have claimed is theirs; what is dispatched and unclaimed is taken back where the change says so, so that each change
//! counts from the next claim on.

use perito_domain::lifecycle::{JobState, TaskEvent};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Database, Job,
    datasets::stored,
    error::{During, Error, ErrorKind, Result},
};

/// What to change of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobChange {
    /// 0 to 9.
    pub priority: Option<u8>,
    /// The most tasks that are dispatched or running at once; `Some(None)` takes the limit away.
    pub concurrency: Option<Option<u32>>,
}

impl Database {
    /// Pauses a job: nothing of it is planned, dispatched or claimed until it is resumed. Tasks that run go on to their end. Pausing
    /// twice is fine.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it has ended.
    pub async fn pause(&self, id: Uuid) -> Result<Job> {
        let mut tx = self.begin("begin pausing").await?;
        lock_open(&mut tx, id).await?;
        sqlx::query!("update jobs set paused_at = coalesce(paused_at, now()) where id = $1", id)
            .execute(&mut *tx)
            .await
            .during("pause the job")?;
        recall_all_but(&mut tx, id, 0).await?;
        tx.commit().await.during("commit the pause")?;
        self.job(id).await
    }

    /// Resumes a job. Resuming one that is not paused is fine.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it has ended.
    pub async fn resume(&self, id: Uuid) -> Result<Job> {
        let mut tx = self.begin("begin resuming").await?;
        lock_open(&mut tx, id).await?;
        sqlx::query!("update jobs set paused_at = null where id = $1", id)
            .execute(&mut *tx)
            .await
            .during("resume the job")?;
        tx.commit().await.during("commit the resumption")?;
        self.job(id).await
    }

    /// Changes a job's priority or limit. What is dispatched and unclaimed is taken back: all of it when the priority changes, so that it
    /// is sent again in its new place, and what is above a lower limit.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it has ended.
    pub async fn change_job(&self, id: Uuid, change: JobChange) -> Result<Job> {
        let mut tx = self.begin("begin changing a job").await?;
        let before = lock_open(&mut tx, id).await?;
        sqlx::query!(
            "update jobs set priority = coalesce($2, priority), concurrency = case when $3 then $4 else concurrency end
             where id = $1",
            id,
            change.priority.map(i16::from),
            change.concurrency.is_some(),
            change.concurrency.flatten().map(u32::cast_signed)
        )
        .execute(&mut *tx)
        .await
        .during("change the job")?;
        if change.priority.is_some_and(|priority| i16::from(priority) != before) {
            recall_all_but(&mut tx, id, 0).await?;
        } else if let Some(Some(limit)) = change.concurrency {
            let running = sqlx::query_scalar!(
                r#"select count(*) as "running!" from tasks t join jobs j on j.id = t.job_id
                   where j.id = $1 and t.kind = j.kind and t.state = 'running'"#,
                id
            )
            .fetch_one(&mut *tx)
            .await
            .during("count what runs")?;
            recall_all_but(&mut tx, id, (i64::from(limit) - running).max(0)).await?;
        }
        tx.commit().await.during("commit the change")?;
        self.job(id).await
    }
}

/// Locks a job that has not ended; its priority. Waits for a dispatch of its tasks that is under way, so that what it dispatches is seen.
async fn lock_open(tx: &mut PgConnection, id: Uuid) -> Result<i16> {
    let job = sqlx::query!("select state, priority from jobs where id = $1 for no key update", id)
        .fetch_optional(tx)
        .await
        .during("find the job")?
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no job {id}: see `perito job list`")))?;
    match stored::<JobState>(&job.state)? {
        JobState::Queued | JobState::Running => Ok(job.priority),
        ended => Err(Error::new(ErrorKind::Conflict, format!("job {id} has {ended} already"))),
    }
}

/// Takes back a job's dispatched tasks but for the first so many. Their messages mean nothing from here on.
async fn recall_all_but(tx: &mut PgConnection, id: Uuid, keep: i64) -> Result<()> {
    sqlx::query!(
        "update tasks set state = 'runnable', attempt = attempt + 1
         where id in (select t.id from tasks t join jobs j on j.id = t.job_id
                      where j.id = $1 and t.kind = j.kind and t.state = 'dispatched' and t.state = any($3)
                      order by t.ordinal offset $2 for update of t)",
        id,
        keep,
        &TaskEvent::Recall.sources()
    )
    .execute(tx)
    .await
    .during("take back dispatched tasks")?;
    Ok(())
}
