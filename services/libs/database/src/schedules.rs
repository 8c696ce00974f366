//! Schedules: adding, showing, pausing and removing them, and what became of their fire times. How they fire is in [`crate::fire`].

use chrono::{DateTime, Utc};
use perito_domain::{
    lifecycle::JobState,
    limits::MAX_SCHEDULES,
    names::Name,
    schedule::{DeadlineAction, DeadlineOutcome, FiredBy, RunOutcome, ScheduleSpec},
};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Database,
    datasets::stored,
    error::{During, Error, ErrorKind, Result},
};

/// A schedule, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Its number.
    pub id: i64,
    /// What was asked for, completed.
    pub spec: ScheduleSpec,
    /// Every fire time up to here has been decided.
    pub decided_until: DateTime<Utc>,
    /// Since when its fire times pass unfired.
    pub paused_at: Option<DateTime<Utc>>,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// Its jobs that have not ended.
    pub open_jobs: Vec<Uuid>,
    /// Its runs that wait for those.
    pub waiting: i64,
}

/// A fire time and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleRun {
    /// The time that the schedule names, or at which somebody asked.
    pub fire_at: DateTime<Utc>,
    /// What it came from.
    pub fired_by: FiredBy,
    /// What became of it.
    pub outcome: RunOutcome,
    /// Why nothing was submitted.
    pub reason: Option<String>,
    /// The job.
    pub job_id: Option<Uuid>,
    /// Where that is now.
    pub job_state: Option<JobState>,
    /// When it was decided what becomes of it.
    pub decided_at: DateTime<Utc>,
    /// When the job was submitted.
    pub submitted_at: Option<DateTime<Utc>>,
    /// When the job has to be done.
    pub deadline_at: Option<DateTime<Utc>>,
    /// What happens otherwise.
    pub deadline_action: Option<DeadlineAction>,
    /// What was found then.
    pub deadline_outcome: Option<DeadlineOutcome>,
}

struct ScheduleRow {
    id: i64,
    spec: Value,
    decided_until: DateTime<Utc>,
    paused_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    open_jobs: Vec<Uuid>,
    waiting: i64,
}

impl TryFrom<ScheduleRow> for Schedule {
    type Error = Error;

    fn try_from(row: ScheduleRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            spec: stored_spec(row.spec)?,
            decided_until: row.decided_until,
            paused_at: row.paused_at,
            created_at: row.created_at,
            open_jobs: row.open_jobs,
            waiting: row.waiting,
        })
    }
}

pub(crate) fn stored_spec(spec: Value) -> Result<ScheduleSpec> {
    ScheduleSpec::parse(spec)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("read a stored schedule: {error}")))
}

pub(crate) struct RunRow {
    pub(crate) fire_at: DateTime<Utc>,
    pub(crate) fired_by: String,
    pub(crate) outcome: String,
    pub(crate) reason: Option<String>,
    pub(crate) job_id: Option<Uuid>,
    pub(crate) job_state: Option<String>,
    pub(crate) decided_at: DateTime<Utc>,
    pub(crate) submitted_at: Option<DateTime<Utc>>,
    pub(crate) deadline_at: Option<DateTime<Utc>>,
    pub(crate) deadline_action: Option<String>,
    pub(crate) deadline_outcome: Option<String>,
}

impl TryFrom<RunRow> for ScheduleRun {
    type Error = Error;

    fn try_from(row: RunRow) -> Result<Self> {
        Ok(Self {
            fire_at: row.fire_at,
            fired_by: stored(&row.fired_by)?,
            outcome: stored(&row.outcome)?,
            reason: row.reason,
            job_id: row.job_id,
            job_state: row.job_state.as_deref().map(stored).transpose()?,
            decided_at: row.decided_at,
            submitted_at: row.submitted_at,
            deadline_at: row.deadline_at,
            deadline_action: row.deadline_action.as_deref().map(stored).transpose()?,
            deadline_outcome: row.deadline_outcome.as_deref().map(stored).transpose()?,
        })
    }
}

macro_rules! select_runs {
    ($condition:literal, $($argument:expr),*) => {
        sqlx::query_as!(
            RunRow,
            r#"select r.fire_at, r.fired_by, r.outcome, r.reason, r.job_id, j.state as "job_state?", r.decided_at, r.submitted_at,
                      r.deadline_at, r.deadline_action, r.deadline_outcome
               from schedule_runs r left join jobs j on j.id = r.job_id where r.schedule_id = $1 "# + $condition,
            $($argument),*
        )
    };
}

macro_rules! select_schedules {
    ($condition:literal $(, $argument:expr)*) => {
        sqlx::query_as!(
            ScheduleRow,
            r#"select s.id, s.spec, s.decided_until, s.paused_at, s.created_at,
                      array(select j.id from jobs j join schedule_runs r on r.job_id = j.id
                            where j.finished_at is null and r.schedule_id = s.id order by j.id) as "open_jobs!",
                      (select count(*) from schedule_runs r where r.schedule_id = s.id and r.outcome = 'waiting') as "waiting!"
               from schedules s where s.removed_at is null "# + $condition
            $(, $argument)*
        )
    };
}

impl Database {
    /// Postgres's clock: the one that schedules go by, since it is the same for all replicas.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn now(&self) -> Result<DateTime<Utc>> {
        sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
            .fetch_one(&self.control)
            .await
            .during("read the clock")
    }

    /// Adds a schedule, whose first fire time is after `now`. The same schedule again gives the one that is there; the flag
    /// tells whether it is new.
    ///
    /// # Errors
    /// `Conflict` when one with this name asks for something else, or there are [`MAX_SCHEDULES`].
    pub async fn add_schedule(&self, spec: &ScheduleSpec, now: DateTime<Utc>) -> Result<(Schedule, bool)> {
        let value = spec
            .to_value()
            .map_err(|error| Error::new(ErrorKind::Internal, format!("write the schedule as JSON: {error}")))?;
        let name = spec.name.as_str();
        let inserted = sqlx::query!(
            "insert into schedules (name, spec, decided_until)
             select $1, $2, $3 where (select count(*) from schedules where removed_at is null) < $4
             on conflict (name) where removed_at is null do nothing",
            name,
            value,
            now,
            MAX_SCHEDULES
        )
        .execute(&self.control)
        .await
        .during("add the schedule")?
        .rows_affected();
        let schedule = match self.schedule(&spec.name).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let message = format!("there are {MAX_SCHEDULES} schedules already: remove some first");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            schedule => schedule?,
        };
        if inserted == 0 && schedule.spec != *spec {
            let message = format!(
                "there is a schedule {name} that asks for something else: `perito schedule remove {name}` first, or choose another name"
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        Ok((schedule, inserted == 1))
    }

    /// Every schedule, by name.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn schedules(&self) -> Result<Vec<Schedule>> {
        let rows = select_schedules!("order by s.name").fetch_all(&self.control).await.during("list schedules")?;
        rows.into_iter().map(Schedule::try_from).collect()
    }

    /// A schedule.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn schedule(&self, name: &Name) -> Result<Schedule> {
        select_schedules!("and s.name = $1", name.as_str())
            .fetch_optional(&self.control)
            .await
            .during("read the schedule")?
            .ok_or_else(|| no_schedule(name))?
            .try_into()
    }

    /// The runs of a schedule, the newest fire time first, at most `limit` of those before `before`.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn schedule_runs(
        &self,
        schedule_id: i64,
        before: Option<DateTime<Utc>>,
        limit: i64,
    ) -> Result<Vec<ScheduleRun>> {
        let rows = select_runs!(
            "and ($2::timestamptz is null or r.fire_at < $2) order by r.fire_at desc limit $3",
            schedule_id,
            before,
            limit
        )
        .fetch_all(&self.control)
        .await
        .during("list the schedule's runs")?;
        rows.into_iter().map(ScheduleRun::try_from).collect()
    }

    /// What became of a fire time.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn schedule_run(&self, schedule_id: i64, fire_at: DateTime<Utc>) -> Result<ScheduleRun> {
        select_runs!("and r.fire_at = $2", schedule_id, fire_at)
            .fetch_one(&self.control)
            .await
            .during("read the run")?
            .try_into()
    }

    /// Lets the fire times of a schedule pass unfired from now on. Pausing twice is fine.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn pause_schedule(&self, name: &Name, now: DateTime<Utc>) -> Result<Schedule> {
        sqlx::query!(
            "update schedules set paused_at = coalesce(paused_at, $2) where name = $1 and removed_at is null",
            name.as_str(),
            now
        )
        .execute(&self.control)
        .await
        .during("pause the schedule")?;
        self.schedule(name).await
    }

    /// Lets a paused schedule fire again, from its first fire time after `now`.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn resume_schedule(&self, name: &Name, now: DateTime<Utc>) -> Result<Schedule> {
        sqlx::query!(
            "update schedules set paused_at = null, decided_until = $2
             where name = $1 and removed_at is null and paused_at is not null",
            name.as_str(),
            now
        )
        .execute(&self.control)
        .await
        .during("resume the schedule")?;
        self.schedule(name).await
    }

    /// Removes a schedule. Its runs stay for analysts, its jobs go on, what waited passes. Gives what it was.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn remove_schedule(&self, name: &Name, now: DateTime<Utc>) -> Result<Schedule> {
        let removed = self.schedule(name).await?;
        let mut tx = self.begin("begin removing").await?;
        lock_schedule(&mut tx, name).await?;
        sqlx::query!("update schedules set removed_at = $2 where id = $1", removed.id, now)
            .execute(&mut *tx)
            .await
            .during("remove the schedule")?;
        sqlx::query!(
            "update schedule_runs set outcome = 'skipped', reason = 'the schedule was removed'
             where schedule_id = $1 and outcome = 'waiting'",
            removed.id
        )
        .execute(&mut *tx)
        .await
        .during("drop the runs that wait")?;
        tx.commit().await.during("remove the schedule")?;
        Ok(removed)
    }
}

/// Takes a schedule's row, whoever has it first; its id and its specification.
pub(crate) async fn lock_schedule(tx: &mut PgConnection, name: &Name) -> Result<(i64, ScheduleSpec)> {
    let row =
        sqlx::query!("select id, spec from schedules where name = $1 and removed_at is null for update", name.as_str())
            .fetch_optional(tx)
            .await
            .during("find the schedule")?
            .ok_or_else(|| no_schedule(name))?;
    Ok((row.id, stored_spec(row.spec)?))
}

fn no_schedule(name: &Name) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no schedule {name}: see `perito schedule list`"))
}
