//! Submitting, showing, listing and cancelling jobs.

use chrono::{DateTime, Utc};
use perito_domain::{
    Severity,
    lifecycle::{JobKind, JobState, TaskEvent},
    metrics::{Certainty, ConfusionMatrix, Interval, Metrics},
    names::{ModelRef, ModelSelector},
    schedule::DeadlineOutcome,
    spec::JobSpec,
};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Database, EpochRow,
    datasets::stored,
    error::{During, Error, ErrorKind, Result},
};

/// A job to submit.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// A UUID of version 7.
    pub id: Uuid,
    /// What to do.
    pub spec: JobSpec,
    /// 0 to 9; higher is dispatched first.
    pub priority: u8,
    /// Submitting again with the same key gives the same job.
    pub idempotency_key: Option<String>,
    /// W3C traceparent of the request; may be empty.
    pub traceparent: String,
}

/// What came of a submission.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// The job: a new one, or the one that has the key.
    pub job: Job,
    /// Whether it is new.
    pub created: bool,
}

/// A job, with its counters as they are now.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// Its kind.
    pub kind: JobKind,
    /// Where it is.
    pub state: JobState,
    /// What to do, completed with defaults.
    pub spec: Value,
    /// 0 to 9.
    pub priority: i16,
    /// The most tasks that are dispatched or running at once; none: as many as there is room for.
    pub concurrency: Option<i32>,
    /// Since when it is paused.
    pub paused_at: Option<DateTime<Utc>>,
    /// The model it uses or made, `name@version`, once resolved.
    pub model: Option<String>,
    /// The dataset it uses, `name@version`, once resolved.
    pub dataset: Option<String>,
    /// Images selected; none before planning.
    pub images_total: Option<i64>,
    /// Images that have a score.
    pub images_scored: i64,
    /// Images that could not be scored.
    pub images_failed: i64,
    /// Tasks by state: runnable, dispatched, running, succeeded, failed, cancelled.
    pub tasks: [i64; 6],
    /// Epochs that a training job has done.
    pub epochs_done: i64,
    /// Why it failed, why it is not planned yet, or what cancelled it.
    pub error: Option<String>,
    /// The schedule that submitted it, if one did.
    pub schedule: Option<JobSchedule>,
    /// W3C traceparent of the request that submitted it.
    pub traceparent: String,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// When its tasks were frozen.
    pub planned_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// What a job was submitted by.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSchedule {
    /// The schedule's name.
    pub name: String,
    /// The fire time.
    pub fire_at: DateTime<Utc>,
    /// When the job has to be done.
    pub deadline_at: Option<DateTime<Utc>>,
    /// What was found then.
    pub deadline_outcome: Option<DeadlineOutcome>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only in this state.
    pub state: Option<JobState>,
    /// Only of this kind.
    pub kind: Option<JobKind>,
    /// Only those that are paused, or that are not.
    pub paused: Option<bool>,
    /// Only those that use or made this model: its name or version as resolved, or the reference as it was submitted.
    pub model: Option<ModelRef>,
    /// Only those submitted since.
    pub since: Option<DateTime<Utc>>,
    /// Only those older than this one, for the next page.
    pub before: Option<Uuid>,
    /// At most so many.
    pub limit: i64,
}

struct JobRow {
    id: Uuid,
    kind: String,
    state: String,
    spec: Value,
    priority: i16,
    concurrency: Option<i32>,
    paused_at: Option<DateTime<Utc>>,
    model: Option<String>,
    dataset: Option<String>,
    images_total: Option<i64>,
    images_scored: i64,
    images_failed: i64,
    tasks: Vec<i64>,
    epochs_done: i64,
    error: Option<String>,
    schedule: Option<String>,
    fire_at: Option<DateTime<Utc>>,
    deadline_at: Option<DateTime<Utc>>,
    deadline_outcome: Option<String>,
    traceparent: String,
    created_at: DateTime<Utc>,
    planned_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

impl TryFrom<JobRow> for Job {
    type Error = Error;

    fn try_from(row: JobRow) -> Result<Self> {
        let tasks = row.tasks.try_into().map_err(|_| Error::new(ErrorKind::Internal, "count the job's tasks"))?;
        let deadline_outcome = row.deadline_outcome.as_deref().map(stored).transpose()?;
        let schedule = row.schedule.zip(row.fire_at).map(|(name, fire_at)| JobSchedule {
            name,
            fire_at,
            deadline_at: row.deadline_at,
            deadline_outcome,
        });
        Ok(Self {
            id: row.id,
            kind: stored(&row.kind)?,
            state: stored(&row.state)?,
            spec: row.spec,
            priority: row.priority,
            concurrency: row.concurrency,
            paused_at: row.paused_at,
            model: row.model,
            dataset: row.dataset,
            images_total: row.images_total,
            images_scored: row.images_scored,
            images_failed: row.images_failed,
            tasks,
            epochs_done: row.epochs_done,
            error: row.error,
            schedule,
            traceparent: row.traceparent,
            created_at: row.created_at,
            planned_at: row.planned_at,
            finished_at: row.finished_at,
        })
    }
}

/// The columns of a job. Counters are summed over tasks while it runs, so that no commit has to write a row that all share; when it ends
/// they are frozen.
macro_rules! select_jobs {
    ($condition:literal, $($argument:expr),*) => {
        sqlx::query_as!(
            JobRow,
            r#"select j.id, j.kind, j.state, j.spec, j.priority, j.concurrency, j.paused_at, j.traceparent, j.error, j.images_total,
                      m.name || '@' || m.version as model, d.name || '@' || d.version as dataset,
                      coalesce(j.images_scored, t.scored, 0)::bigint as "images_scored!",
                      coalesce(j.images_failed, t.failed, 0)::bigint as "images_failed!",
                      coalesce(j.task_counts, t.counts) as "tasks!",
                      (select count(*) from training_epochs e where e.job_id = j.id) as "epochs_done!",
                      s.name as "schedule?", r.fire_at as "fire_at?", r.deadline_at, r.deadline_outcome,
                      j.created_at, j.planned_at, j.finished_at
               from jobs j
               left join schedule_runs r on r.job_id = j.id
               left join schedules s on s.id = r.schedule_id
               left join models m on m.id = j.model_id
               left join datasets d on d.id = j.dataset_id
               cross join lateral (
                   select sum(images_scored) as scored, sum(images_failed) as failed,
                          array[count(*) filter (where state = 'runnable'), count(*) filter (where state = 'dispatched'),
                                count(*) filter (where state = 'running'), count(*) filter (where state = 'succeeded'),
                                count(*) filter (where state = 'failed'), count(*) filter (where state = 'cancelled')] as counts
                   from tasks where job_id = j.id and j.task_counts is null
               ) t "# + $condition,
            $($argument),*
        )
    };
}

impl Database {
    /// Submits a job. The same idempotency key with the same specification gives the job that is there.
    ///
    /// # Errors
    /// `Conflict` when the key belongs to a job with another specification.
    pub async fn submit(&self, job: &NewJob) -> Result<Submitted> {
        let mut connection = self.control.acquire().await.during("submit the job")?;
        let (inserted, spec) = insert_job(&mut connection, job).await?;
        drop(connection);
        if inserted {
            return Ok(Submitted { job: self.job(job.id).await?, created: true });
        }
        let existing = sqlx::query!("select id, spec from jobs where idempotency_key = $1", job.idempotency_key)
            .fetch_one(&self.control)
            .await
            .during("find the job with the same key")?;
        if existing.spec != spec {
            let key = job.idempotency_key.as_deref().unwrap_or_default();
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("the idempotency key {key:?} belongs to job {} with another specification", existing.id),
            ));
        }
        Ok(Submitted { job: self.job(existing.id).await?, created: false })
    }

    /// A job with its counters.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn job(&self, id: Uuid) -> Result<Job> {
        select_jobs!("where j.id = $1", id)
            .fetch_optional(&self.control)
            .await
            .during("read the job")?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no job {id}: see `perito job list`")))?
            .try_into()
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list_jobs(&self, filter: &JobFilter) -> Result<Vec<Job>> {
        // An alias may point elsewhere by now: it names the jobs that were submitted with it.
        let (name, version) = match &filter.model {
            None => (None, None),
            Some(ModelRef { selector: ModelSelector::Alias(_), .. }) => (None, None),
            Some(ModelRef { name, selector: ModelSelector::Latest }) => (Some(name.as_str()), None),
            Some(ModelRef { name, selector: ModelSelector::Version(version) }) => (Some(name.as_str()), Some(*version)),
        };
        // Ids are UUIDs of version 7: their order is that of submission.
        let rows = select_jobs!(
            "where ($1::text is null or j.state = $1) and ($2::text is null or j.kind = $2) and ($3::uuid is null or j.id < $3)
               and ($5::boolean is null or (j.paused_at is not null) = $5) and ($6::timestamptz is null or j.created_at >= $6)
               and ($7::text is null or j.spec ->> 'model' = $7 or m.name = $8 and ($9::int is null or m.version = $9))
             order by j.id desc limit $4",
            filter.state.map(JobState::as_str),
            filter.kind.map(JobKind::as_str),
            filter.before,
            filter.limit,
            filter.paused,
            filter.since,
            filter.model.as_ref().map(ToString::to_string),
            name,
            version
        )
        .fetch_all(&self.control)
        .await
        .during("list jobs")?;
        rows.into_iter().map(Job::try_from).collect()
    }

    /// The scoring job that ended last.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn last_scoring_job(&self) -> Result<Option<Job>> {
        select_jobs!("where j.kind = 'score' and j.finished_at is not null order by j.finished_at desc limit $1", 1)
            .fetch_optional(&self.control)
            .await
            .during("find the last scoring job")?
            .map(Job::try_from)
            .transpose()
    }

    /// Cancels a job that has not ended, with its tasks. What workers compute for it from now on is refused.
    ///
    /// The lock is one that foreign keys do not wait for: a commit that holds a task and is about to write rows of the job goes on.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it has ended otherwise. Cancelling twice is fine.
    pub async fn cancel(&self, id: Uuid) -> Result<Job> {
        let mut tx = self.begin("begin cancelling").await?;
        let state = sqlx::query_scalar!("select state from jobs where id = $1 for no key update", id)
            .fetch_optional(&mut *tx)
            .await
            .during("find the job")?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no job {id}: see `perito job list`")))?;
        match stored::<JobState>(&state)? {
            JobState::Queued | JobState::Running => {
                cancel_tasks(&mut tx, id).await?;
                end_job(&mut tx, id, JobState::Cancelled, None).await?;
                tx.commit().await.during("cancel the job")?;
            }
            JobState::Cancelled => {}
            ended => return Err(Error::new(ErrorKind::Conflict, format!("job {id} has {ended} already"))),
        }
        self.job(id).await
    }

    /// The epochs that a training job has done.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn training_epochs(&self, job_id: Uuid) -> Result<Vec<EpochRow>> {
        sqlx::query_as!(
            EpochRow,
            "select epoch, training_loss, training_accuracy, validation_loss, validation_accuracy, validation_macro_f1,
                    learning_rate, seconds, images_per_second, device
             from training_epochs where job_id = $1 order by epoch",
            job_id
        )
        .fetch_all(&self.control)
        .await
        .during("read the epochs")
    }

    /// What a training or evaluation job measured. A measurement of an earlier release has no more than its confusion matrix.
    ///
    /// # Errors
    /// `NotFound` when the job has measured nothing (yet).
    pub async fn evaluation(&self, job_id: Uuid) -> Result<(Metrics, Option<Certainty>)> {
        let cells = sqlx::query!(
            r#"select c.actual::text as "actual!", c.predicted::text as "predicted!", c.images
               from evaluations e join confusion_cells c on c.evaluation_id = e.id where e.job_id = $1"#,
            job_id
        )
        .fetch_all(&self.control)
        .await
        .during("read the evaluation")?;
        if cells.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, format!("job {job_id} has no evaluation (yet)")));
        }
        let mut confusion = ConfusionMatrix::default();
        for cell in cells {
            let (actual, predicted) = (stored::<Severity>(&cell.actual)?, stored::<Severity>(&cell.predicted)?);
            confusion.counts[actual.index()][predicted.index()] = cell.images.unsigned_abs();
        }
        Ok((confusion.metrics(), self.certainty(job_id).await?))
    }
}

impl Database {
    async fn certainty(&self, job_id: Uuid) -> Result<Option<Certainty>> {
        let row = sqlx::query!(
            r#"select log_loss, calibration_error, accuracy_low, accuracy_high, macro_f1_low, macro_f1_high,
                      array(select c.roc_auc from evaluation_classes c where c.evaluation_id = e.id order by c.severity)
                          as "roc_auc!: Vec<Option<f64>>"
               from evaluations e where job_id = $1"#,
            job_id
        )
        .fetch_one(&self.control)
        .await
        .during("read the evaluation")?;
        let interval = |low: Option<f64>, high: Option<f64>| Some(Interval { low: low?, high: high? });
        let read = || {
            Some(Certainty {
                log_loss: row.log_loss?,
                calibration_error: row.calibration_error?,
                roc_auc: row.roc_auc.try_into().ok()?,
                accuracy: interval(row.accuracy_low, row.accuracy_high)?,
                macro_f1: interval(row.macro_f1_low, row.macro_f1_high)?,
            })
        };
        Ok(read())
    }
}

/// Inserts a job unless its idempotency key is taken; whether it did, and the specification as it is stored.
pub(crate) async fn insert_job(connection: &mut PgConnection, job: &NewJob) -> Result<(bool, Value)> {
    let spec = serde_json::to_value(&job.spec)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("write the specification as JSON: {error}")))?;
    let inserted = sqlx::query!(
        "insert into jobs (id, kind, spec, priority, idempotency_key, traceparent, concurrency)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (idempotency_key) do nothing",
        job.id,
        job.spec.kind().as_str(),
        spec,
        i16::from(job.priority),
        job.idempotency_key,
        job.traceparent,
        job.spec.concurrency().map(u32::cast_signed)
    )
    .execute(connection)
    .await
    .during("submit the job")?
    .rows_affected();
    Ok((inserted == 1, spec))
}

/// Cancels every open task of a job and ends the attempts on them.
pub(crate) async fn cancel_tasks(tx: &mut PgConnection, job_id: Uuid) -> Result<()> {
    sqlx::query!(
        "with open as (
             -- Who locks several tasks of a job does so in their order.
             select id from tasks where job_id = $1 and state = any($2) order by ordinal for update
         ), ended as (
             update tasks t set state = 'cancelled', lease_expires_at = null, finished_at = now()
             from open where t.id = open.id and t.state = any($2)
             returning t.id, t.attempt
         )
         update attempts a set ended_at = now(), outcome = 'cancelled'
         from ended where a.task_id = ended.id and a.attempt = ended.attempt and a.ended_at is null",
        job_id,
        &TaskEvent::Cancel.sources()
    )
    .execute(tx)
    .await
    .during("cancel the job's tasks")?;
    Ok(())
}

/// Ends a job that is locked, and freezes its counters. How many images were scored, and how many failed.
pub(crate) async fn end_job(
    tx: &mut PgConnection,
    id: Uuid,
    state: JobState,
    error: Option<&str>,
) -> Result<(i64, i64)> {
    let ended = sqlx::query!(
        r#"update jobs j set state = $2, error = $3, finished_at = now(), paused_at = null, images_scored = t.scored,
                             images_failed = t.failed, task_counts = t.counts
         from (select coalesce(sum(images_scored), 0) as scored, coalesce(sum(images_failed), 0) as failed,
                      array[count(*) filter (where state = 'runnable'), count(*) filter (where state = 'dispatched'),
                            count(*) filter (where state = 'running'), count(*) filter (where state = 'succeeded'),
                            count(*) filter (where state = 'failed'), count(*) filter (where state = 'cancelled')] as counts
               from tasks where job_id = $1) t
         where j.id = $1 and j.state in ('queued', 'running')
         returning j.images_scored as "scored!", j.images_failed as "failed!""#,
        id,
        state.as_str(),
        error
    )
    .fetch_optional(tx)
    .await
    .during("end the job")?;
    match ended {
        Some(row) => Ok((row.scored, row.failed)),
        None => Err(Error::new(ErrorKind::Conflict, format!("job {id} has ended already"))),
    }
}
