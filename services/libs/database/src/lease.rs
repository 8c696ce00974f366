//! Claim, heartbeat, release and failure of a task: what a worker may do while it holds a lease, and only then.

use std::time::Duration;

use chrono::NaiveDate;
use perito_domain::{
    lifecycle::{JobKind, TaskEvent, TaskState},
    poison::is_suspect,
    retry::{Again, ErrorClass, Trouble},
    spec::JobSpec,
};
use sqlx::{PgConnection, postgres::types::PgInterval};
use uuid::Uuid;

use crate::{
    Database, ImageObject, Model,
    datasets::stored,
    error::{During, Error, ErrorKind, Result},
    models,
};

/// The right to work on a task, as long as it is renewed. Only a claim makes one.
#[derive(Debug)]
pub struct Lease {
    task_id: Uuid,
    job_id: Uuid,
    attempt: i32,
}

impl Lease {
    pub(crate) fn new(task_id: Uuid, job_id: Uuid, attempt: i32) -> Self {
        Self { task_id, job_id, attempt }
    }

    /// The task.
    pub fn task_id(&self) -> Uuid {
        self.task_id
    }

    /// Its job.
    pub fn job_id(&self) -> Uuid {
        self.job_id
    }

    /// The fencing token.
    pub fn attempt(&self) -> i32 {
        self.attempt
    }

    pub(crate) fn stale(&self) -> Error {
        Error::stale(self.task_id, self.attempt)
    }
}

/// A task to work on.
#[derive(Debug)]
pub struct ClaimedTask {
    /// The right to work on it.
    pub lease: Lease,
    /// Its kind.
    pub kind: JobKind,
    /// What its job is to do.
    pub spec: JobSpec,
    /// The model to score or measure with, or to start training from.
    pub model: Option<Model>,
    /// The dataset to train or measure on.
    pub dataset_id: Option<i64>,
    /// The day of the run: where its predictions go.
    pub run_date: NaiveDate,
    /// The shard of a scoring task, in order of ids.
    pub images: Vec<ImageObject>,
}

/// What came of a claim.
#[derive(Debug)]
pub enum Claim {
    /// The task is the caller's.
    Claimed(Box<ClaimedTask>),
    /// There is nothing to do; the message can go.
    Dropped(DropReason),
}

/// Why a message leads to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The task has ended.
    Finished,
    /// Another worker holds it.
    Held,
    /// It waits for its dispatch, as after a failure, or its job is paused.
    NotYet,
    /// It was taken back after this message was sent, or ran since; if it waits, another message is for it.
    Overtaken,
    /// It may be what crashes workers, and this worker has another such task in hand: it was taken back, and comes again soon.
    Suspect,
    /// There is no such task.
    Unknown,
}

impl DropReason {
    /// The reason's name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Held => "held",
            Self::NotYet => "not_yet",
            Self::Overtaken => "overtaken",
            Self::Suspect => "suspect",
            Self::Unknown => "unknown",
        }
    }
}

/// What became of a task that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// It runs again after its backoff.
    Retried,
    /// It has failed for good.
    Failed,
}

impl Database {
    /// Claims a task for the attempt that its message is for: counts it and takes a lease, in one statement.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn claim(&self, task_id: Uuid, attempt: u32, worker: &str, lease: Duration) -> Result<Claim> {
        let mut tx = self.begin("begin a claim").await?;
        let claimed = sqlx::query!(
            r#"
            with locked as (
                -- A message may arrive before its dispatch is recorded: this waits until it is, and sees it.
                select id, state, attempt from tasks where id = $1 for update
            ), claimed as (
                update tasks t
                set state = 'running', attempt = t.attempt + 1, attempts_spent = t.attempts_spent + 1, worker = $2,
                    lease_expires_at = now() + $3, started_at = now()
                from locked l, jobs j
                where t.id = l.id and l.state = any($4) and l.attempt + 1 = $5 and j.id = t.job_id and j.state = 'running' and j.paused_at is null
                returning t.id, t.job_id, t.kind, t.attempt, t.image_ids, t.parent_id is not null as is_half, t.crashes,
                          j.spec, j.model_id, j.dataset_id, j.run_date
            ), recorded as (
                insert into attempts (task_id, attempt, worker) select id, attempt, $2 from claimed
            )
            select id, job_id, kind, attempt, image_ids, is_half as "is_half!", crashes, spec, model_id, dataset_id,
                   run_date as "run_date!"
            from claimed
            "#,
            task_id,
            worker,
            interval(lease),
            &TaskEvent::Claim.sources(),
            i32::try_from(attempt).unwrap_or(i32::MAX)
        )
        .fetch_optional(&mut *tx)
        .await
        .during("claim the task")?;
        let Some(row) = claimed else {
            return why_not(&mut tx, task_id, attempt).await.map(Claim::Dropped);
        };
        if is_suspect(row.is_half, row.crashes.unsigned_abs()) && has_another_suspect(&mut tx, row.id, worker).await? {
            tx.rollback().await.during("roll the claim back")?;
            return self.put_off(row.id, attempt).await.map(|()| Claim::Dropped(DropReason::Suspect));
        }
        let model = match row.model_id {
            Some(id) => Some(models::by_id(&mut tx, id).await?),
            None => None,
        };
        let images = sqlx::query_as!(
            ImageObject,
            "select id, bucket, key, etag, size_bytes from images where id = any($1) order by id",
            &row.image_ids
        )
        .fetch_all(&mut *tx)
        .await
        .during("read the shard")?;
        let spec = JobSpec::parse(row.spec)
            .map_err(|error| Error::new(ErrorKind::Internal, format!("read the job's specification: {error}")))?;
        tx.commit().await.during("commit the claim")?;
        Ok(Claim::Claimed(Box::new(ClaimedTask {
            lease: Lease { task_id: row.id, job_id: row.job_id, attempt: row.attempt },
            kind: stored(&row.kind)?,
            spec,
            model,
            dataset_id: row.dataset_id,
            run_date: row.run_date,
            images,
        })))
    }

    /// Takes a suspect back for a moment. Its message means nothing any more.
    async fn put_off(&self, task_id: Uuid, attempt: u32) -> Result<()> {
        sqlx::query!(
            "update tasks set state = 'runnable', attempt = attempt + 1, not_before = now() + interval '1 second'
             where id = $1 and attempt + 1 = $2 and state = any($3)",
            task_id,
            i32::try_from(attempt).unwrap_or(i32::MAX),
            &TaskEvent::Recall.sources()
        )
        .execute(&self.control)
        .await
        .during("put a suspect off")?;
        Ok(())
    }

    /// Renews leases, all in one statement. The tasks that are still held; a lease that is not among them is lost.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn heartbeat(&self, leases: &[&Lease], extend: Duration) -> Result<Vec<Uuid>> {
        let tasks: Vec<_> = leases.iter().map(|lease| lease.task_id).collect();
        let attempts: Vec<_> = leases.iter().map(|lease| lease.attempt).collect();
        sqlx::query_scalar!(
            "with held as (
                 -- Who locks several tasks of a job does so in their order.
                 select t.id from unnest($1::uuid[], $2::int[]) as held(id, attempt)
                 join tasks t on t.id = held.id and t.attempt = held.attempt
                 where t.state = 'running' order by t.job_id, t.ordinal for update of t
             )
             update tasks t set lease_expires_at = now() + $3 from held where t.id = held.id
             returning t.id",
            &tasks,
            &attempts,
            interval(extend)
        )
        .fetch_all(&self.control)
        .await
        .during("renew leases")
    }

    /// Gives a task back unfinished. The attempt does not count against the limit.
    ///
    /// # Errors
    /// `StaleAttempt` when it was not the caller's any more.
    pub async fn release(&self, lease: &Lease) -> Result<()> {
        let mut tx = self.begin("begin a release").await?;
        let moved = sqlx::query!(
            "update tasks set state = 'runnable', lease_expires_at = null, attempts_spent = attempts_spent - 1, not_before = now()
             where id = $1 and attempt = $2 and state = any($3)",
            lease.task_id,
            lease.attempt,
            &TaskEvent::Release.sources()
        )
        .execute(&mut *tx)
        .await
        .during("release the task")?;
        exactly_one(moved.rows_affected(), lease)?;
        end_attempt(&mut tx, lease, "released", Some(Trouble::Shutdown), None).await?;
        tx.commit().await.during("commit the release")
    }

    /// Reports that an attempt failed. A transient error leads to another attempt after `backoff`, while attempts are left.
    ///
    /// # Errors
    /// `StaleAttempt` when it was not the caller's any more.
    pub async fn fail(&self, lease: &Lease, class: ErrorClass, error: &str, backoff: Duration) -> Result<AfterFailure> {
        let mut tx = self.begin("begin a failure").await?;
        let state = sqlx::query_scalar!(
            "update tasks
             set state = case when $4 and attempts_spent < max_attempts then 'runnable' else 'failed' end,
                 finished_at = case when $4 and attempts_spent < max_attempts then null else now() end,
                 lease_expires_at = null, not_before = now() + $5, error = $6
             where id = $1 and attempt = $2 and state = any($3)
             returning state",
            lease.task_id,
            lease.attempt,
            &TaskEvent::Fail.sources(),
            Trouble::from(class).policy().again != Again::Never,
            interval(backoff),
            error
        )
        .fetch_optional(&mut *tx)
        .await
        .during("fail the task")?
        .ok_or_else(|| lease.stale())?;
        let (after, outcome) = match stored::<TaskState>(&state)? {
            TaskState::Runnable => (AfterFailure::Retried, "retried"),
            _ => (AfterFailure::Failed, "failed"),
        };
        end_attempt(&mut tx, lease, outcome, Some(class.into()), Some(error)).await?;
        tx.commit().await.during("commit the failure")?;
        Ok(after)
    }
}

/// Whether a worker has claimed another task that may be what crashes workers. Its claims of such tasks wait here for each other.
async fn has_another_suspect(tx: &mut PgConnection, task_id: Uuid, worker: &str) -> Result<bool> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('suspects'), hashtext($1))", worker)
        .execute(&mut *tx)
        .await
        .during("lock the worker's suspects")?;
    sqlx::query_scalar!(
        r#"select exists (select from tasks
                          where kind = 'score' and state = 'running' and worker = $2 and id <> $1 and lease_expires_at > now()
                            and (parent_id is not null or crashes > 0)) as "exists!""#,
        task_id,
        worker
    )
    .fetch_one(tx)
    .await
    .during("look for another suspect")
}

async fn why_not(tx: &mut PgConnection, task_id: Uuid, attempt: u32) -> Result<DropReason> {
    let task = sqlx::query!("select state, attempt from tasks where id = $1", task_id)
        .fetch_optional(tx)
        .await
        .during("look at the task")?;
    let Some(task) = task else { return Ok(DropReason::Unknown) };
    Ok(match stored::<TaskState>(&task.state)? {
        TaskState::Running => DropReason::Held,
        TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled | TaskState::Split => DropReason::Finished,
        TaskState::Runnable | TaskState::Dispatched if task.attempt.unsigned_abs() + 1 != attempt => {
            DropReason::Overtaken
        }
        TaskState::Runnable | TaskState::Dispatched => DropReason::NotYet,
    })
}

/// The fence: an attempt that moved no row has lost its task.
pub(crate) fn exactly_one(rows: u64, lease: &Lease) -> Result<()> {
    if rows == 1 { Ok(()) } else { Err(lease.stale()) }
}

pub(crate) async fn end_attempt(
    tx: &mut PgConnection,
    lease: &Lease,
    outcome: &str,
    class: Option<Trouble>,
    error: Option<&str>,
) -> Result<()> {
    sqlx::query!(
        "update attempts set ended_at = now(), outcome = $3, error = $4, error_class = $5 where task_id = $1 and attempt = $2",
        lease.task_id,
        lease.attempt,
        outcome,
        error,
        class.map(Trouble::as_str)
    )
    .execute(tx)
    .await
    .during("end the attempt")?;
    Ok(())
}

/// A duration as Postgres has it, to the microsecond.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval { months: 0, days: 0, microseconds }
}
