//! How schedules fire. Whatever makes a run holds the schedule's row while it does; run and job are made in one transaction, and the
//! key (schedule, time) lets neither be made twice.

use chrono::{DateTime, Utc};
use perito_domain::{
    lifecycle::JobState,
    names::Name,
    schedule::{
        DeadlineAction, DeadlineOutcome, FiredBy, OverlapPolicy, RunOutcome, ScheduleSpec, State, Verdict, decide,
        decision, next_due,
    },
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Database, NewJob,
    datasets::stored,
    error::{During, Error, ErrorKind, Result},
    jobs::{cancel_tasks, end_job, insert_job},
    schedules::{lock_schedule, stored_spec},
};

/// A run that has just been decided.
#[derive(Debug, Clone, PartialEq)]
pub struct FiredRun {
    /// The schedule's name.
    pub schedule: Name,
    /// The fire time.
    pub fire_at: DateTime<Utc>,
    /// When its job was due, with jitter.
    pub due_at: DateTime<Utc>,
    /// What it came from.
    pub fired_by: FiredBy,
    /// What became of it.
    pub outcome: RunOutcome,
    /// Why nothing was submitted.
    pub reason: Option<&'static str>,
    /// The job that was submitted.
    pub job_id: Option<Uuid>,
    /// Jobs that were cancelled for it.
    pub cancelled: Vec<Uuid>,
}

/// What a look at a schedule came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Fired {
    /// The runs that were decided.
    pub runs: Vec<FiredRun>,
    /// Every fire time up to here is decided.
    pub decided_until: DateTime<Utc>,
    /// When there is something to decide again.
    pub next_due: Option<DateTime<Utc>>,
    /// The clock stands before what was decided last.
    pub clock_went_back: bool,
}

/// What was found at a deadline.
#[derive(Debug, Clone, PartialEq)]
pub struct SettledDeadline {
    /// The schedule's name.
    pub schedule: Name,
    /// The fire time.
    pub fire_at: DateTime<Utc>,
    /// When the job had to be done.
    pub deadline_at: DateTime<Utc>,
    /// The job, if it was submitted at all.
    pub job_id: Option<Uuid>,
    /// Whether it was done.
    pub outcome: DeadlineOutcome,
    /// Whether the job was cancelled.
    pub cancelled: bool,
}

/// A fire time of a backfill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// The fire time.
    pub fire_at: DateTime<Utc>,
    /// Whether it gets a run. The others have one already.
    pub new: bool,
    /// The job that it has had.
    pub job_id: Option<Uuid>,
}

/// A schedule whose row this transaction holds.
struct Held<'a> {
    tx: &'a mut PgConnection,
    id: i64,
    spec: ScheduleSpec,
    now: DateTime<Utc>,
    traceparent: &'a str,
}

/// A run to record.
struct NewRun {
    fire_at: DateTime<Utc>,
    due_at: DateTime<Utc>,
    fired_by: FiredBy,
    verdict: Verdict,
}

impl Database {
    /// The schedules that fire, with the time up to which each is decided.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn firing_schedules(&self) -> Result<Vec<(i64, DateTime<Utc>)>> {
        let rows =
            sqlx::query!("select id, decided_until from schedules where removed_at is null and paused_at is null")
                .fetch_all(&self.control)
                .await
                .during("look for schedules")?;
        Ok(rows.into_iter().map(|row| (row.id, row.decided_until)).collect())
    }

    /// Decides about the fire times of a schedule that have come by `now`, and submits what follows. `None` when another replica
    /// is at it, or it does not fire any more.
    ///
    /// # Errors
    /// `Unavailable`, or `Internal` when the stored schedule cannot be read.
    pub async fn fire_schedule(&self, id: i64, now: DateTime<Utc>, traceparent: &str) -> Result<Option<Fired>> {
        let mut tx = self.begin("begin firing").await?;
        let Some(row) = sqlx::query!(
            "select spec, decided_until from schedules where id = $1 and removed_at is null and paused_at is null
             for update skip locked",
            id
        )
        .fetch_optional(&mut *tx)
        .await
        .during("take the schedule")?
        else {
            return Ok(None);
        };
        let mut held = Held { tx: &mut tx, id, spec: stored_spec(row.spec)?, now, traceparent };
        let mut open = held.open_jobs().await?;
        let mut state = held.state(row.decided_until, open.len()).await?;
        let decision = decide(&held.spec, &state, now);
        if decision.clock_went_back {
            held.forget_passed_ahead().await?;
        }
        let mut runs = Vec::with_capacity(decision.fires.len());
        for fire in decision.fires {
            let run =
                NewRun { fire_at: fire.fire_at, due_at: fire.due_at, fired_by: FiredBy::Clock, verdict: fire.verdict };
            runs.push(held.record(run, &mut open).await?);
        }
        if decision.decided_until != row.decided_until {
            sqlx::query!("update schedules set decided_until = $2 where id = $1", id, decision.decided_until)
                .execute(&mut *held.tx)
                .await
                .during("keep what is decided")?;
            state = held.state(decision.decided_until, open.len()).await?;
        }
        let next_due = next_due(&held.spec, &state);
        tx.commit().await.during("commit the schedule's runs")?;
        Ok(Some(Fired {
            runs,
            decided_until: decision.decided_until,
            next_due,
            clock_went_back: decision.clock_went_back,
        }))
    }

    /// Makes a run now, whether the schedule is paused or not; its overlap policy holds.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when the policy says to skip it.
    pub async fn run_schedule_now(&self, name: &Name, now: DateTime<Utc>, traceparent: &str) -> Result<FiredRun> {
        let mut tx = self.begin("begin a run").await?;
        let (id, spec) = lock_schedule(&mut tx, name).await?;
        let mut held = Held { tx: &mut tx, id, spec, now, traceparent };
        let mut open = held.open_jobs().await?;
        let waiting = held.waiting().await?;
        let verdict = decision::overlap(held.spec.overlap, open.len(), waiting);
        if verdict == Verdict::Skip {
            let policy = held.spec.overlap;
            let job = open.first().map_or_else(String::new, |job| format!(" (job {job}: `perito job cancel {job}`)"));
            let message = format!("a run of schedule {name} has not ended{job}, and its overlap policy is {policy}");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let run = NewRun { fire_at: now, due_at: now, fired_by: FiredBy::Operator, verdict };
        let fired = held.record(run, &mut open).await?;
        tx.commit().await.during("commit the run")?;
        Ok(fired)
    }

    /// Makes a run wait for each of these fire times that has none; one that had passed counts as none. With `dry_run` it only tells.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn backfill_schedule(
        &self,
        name: &Name,
        times: &[DateTime<Utc>],
        now: DateTime<Utc>,
        dry_run: bool,
    ) -> Result<Vec<Filled>> {
        let mut tx = self.begin("begin filling in").await?;
        let (id, _) = lock_schedule(&mut tx, name).await?;
        let there = sqlx::query!(
            "select fire_at, job_id from schedule_runs
             where schedule_id = $1 and fire_at = any($2) and outcome in ('submitted', 'waiting')",
            id,
            times
        )
        .fetch_all(&mut *tx)
        .await
        .during("look for runs")?;
        let filled: Vec<Filled> = times
            .iter()
            .map(|fire_at| {
                let run = there.iter().find(|run| run.fire_at == *fire_at);
                Filled { fire_at: *fire_at, new: run.is_none(), job_id: run.and_then(|run| run.job_id) }
            })
            .collect();
        if !dry_run {
            let new: Vec<_> = filled.iter().filter(|run| run.new).map(|run| run.fire_at).collect();
            sqlx::query!(
                "insert into schedule_runs (schedule_id, fire_at, fired_by, outcome, decided_at)
                 select $1, fire_at, 'backfill', 'waiting', $3 from unnest($2::timestamptz[]) as times(fire_at)
                 on conflict (schedule_id, fire_at) do update
                 set fired_by = 'backfill', outcome = 'waiting', reason = null, decided_at = $3,
                     deadline_at = null, deadline_action = null, deadline_outcome = null",
                id,
                &new,
                now
            )
            .execute(&mut *tx)
            .await
            .during("fill in runs")?;
            tx.commit().await.during("fill in runs")?;
        }
        Ok(filled)
    }

    /// Submits the next run that waits and need not any more. `None` when there is none, or another replica is at it.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn release_waiting(&self, now: DateTime<Utc>, traceparent: &str) -> Result<Option<FiredRun>> {
        let mut tx = self.begin("begin releasing").await?;
        // Those whose jobs have ended only: a schedule with a job that takes long must not hide the others.
        let Some(row) = sqlx::query!(
            "select s.id, s.spec from schedules s
             where s.removed_at is null and s.paused_at is null
               and exists (select from schedule_runs r where r.schedule_id = s.id and r.outcome = 'waiting')
               and (s.spec ->> 'overlap' = 'allow'
                    or not exists (select from jobs j join schedule_runs r on r.job_id = j.id
                                   where j.finished_at is null and r.schedule_id = s.id))
             order by s.id limit 1 for update of s skip locked"
        )
        .fetch_optional(&mut *tx)
        .await
        .during("look for runs that wait")?
        else {
            return Ok(None);
        };
        let mut held = Held { tx: &mut tx, id: row.id, spec: stored_spec(row.spec)?, now, traceparent };
        // Asked again, now that nobody else can submit: the row may have been another's a moment ago.
        if held.spec.overlap != OverlapPolicy::Allow && !held.open_jobs().await?.is_empty() {
            return Ok(None);
        }
        let Some(run) = sqlx::query!(
            "select fire_at, fired_by from schedule_runs where schedule_id = $1 and outcome = 'waiting'
             order by fired_by = 'backfill', fire_at limit 1",
            held.id
        )
        .fetch_optional(&mut *held.tx)
        .await
        .during("take a run that waits")?
        else {
            return Ok(None);
        };
        let job_id = held.submit().await?;
        let released = sqlx::query!(
            "update schedule_runs set outcome = 'submitted', job_id = $3, submitted_at = $4
             where schedule_id = $1 and fire_at = $2 and outcome = 'waiting'",
            held.id,
            run.fire_at,
            job_id,
            now
        )
        .execute(&mut *held.tx)
        .await
        .during("release the run")?
        .rows_affected();
        if released != 1 {
            return Err(Error::new(ErrorKind::Internal, "a run that waits was gone".to_owned()));
        }
        let fired = FiredRun {
            schedule: held.spec.name.clone(),
            fire_at: run.fire_at,
            due_at: held.spec.due_at(run.fire_at),
            fired_by: stored(&run.fired_by)?,
            outcome: RunOutcome::Submitted,
            reason: None,
            job_id: Some(job_id),
            cancelled: Vec::new(),
        };
        tx.commit().await.during("release the run")?;
        Ok(Some(fired))
    }

    /// Looks at a run whose deadline has come: whether its job had succeeded by then, and if not, does what the schedule said. `None`
    /// when there is none.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn settle_deadline(&self, now: DateTime<Utc>) -> Result<Option<SettledDeadline>> {
        let mut tx = self.begin("begin settling a deadline").await?;
        let Some(run) = sqlx::query!(
            r#"select r.schedule_id, r.fire_at, r.job_id, r.deadline_at as "deadline_at!", r.deadline_action as "deadline_action!",
                      r.outcome, s.name, s.spec ->> 'zone' as "zone!"
               from schedule_runs r join schedules s on s.id = r.schedule_id
               where r.deadline_at <= $1 and r.deadline_outcome is null and r.outcome in ('submitted', 'waiting')
               order by r.deadline_at limit 1 for update of r skip locked"#,
            now
        )
        .fetch_optional(&mut *tx)
        .await
        .during("look for deadlines")?
        else {
            return Ok(None);
        };
        let (open, met) = match run.job_id {
            None => (false, false),
            Some(job_id) => {
                let job = sqlx::query!("select state, finished_at from jobs where id = $1 for no key update", job_id)
                    .fetch_one(&mut *tx)
                    .await
                    .during("look at the job")?;
                let in_time = job.finished_at.is_some_and(|finished_at| finished_at <= run.deadline_at);
                (job.finished_at.is_none(), in_time && job.state == JobState::Succeeded.as_str())
            }
        };
        let action: DeadlineAction = stored(&run.deadline_action)?;
        let outcome = if met { DeadlineOutcome::Met } else { DeadlineOutcome::Missed };
        let cancels = !met && action == DeadlineAction::Cancel;
        if let Some(job_id) = run.job_id.filter(|_| cancels && open) {
            let reason =
                format!("the deadline of schedule {} ({} UTC) came", run.name, run.deadline_at.format("%F %R"));
            cancel_job(&mut tx, job_id, &reason).await?;
        }
        sqlx::query!(
            "update schedule_runs
             set deadline_outcome = $3,
                 outcome = case when $4 and outcome = 'waiting' then 'missed' else outcome end,
                 reason = case when $4 and outcome = 'waiting' then 'its deadline came while it waited' else reason end
             where schedule_id = $1 and fire_at = $2",
            run.schedule_id,
            run.fire_at,
            outcome.as_str(),
            cancels
        )
        .execute(&mut *tx)
        .await
        .during("settle the deadline")?;
        tx.commit().await.during("settle the deadline")?;
        Ok(Some(SettledDeadline {
            schedule: stored(&run.name)?,
            fire_at: run.fire_at,
            deadline_at: run.deadline_at,
            job_id: run.job_id,
            outcome,
            cancelled: cancels && open,
        }))
    }
}

impl Held<'_> {
    async fn open_jobs(&mut self) -> Result<Vec<Uuid>> {
        sqlx::query_scalar!(
            "select j.id from jobs j join schedule_runs r on r.job_id = j.id
             where j.finished_at is null and r.schedule_id = $1 order by j.id",
            self.id
        )
        .fetch_all(&mut *self.tx)
        .await
        .during("look for the schedule's open jobs")
    }

    /// Runs that wait. A backfill's do not count: they come after what fires by itself.
    async fn waiting(&mut self) -> Result<usize> {
        let waiting = sqlx::query_scalar!(
            r#"select count(*) as "waiting!" from schedule_runs
               where schedule_id = $1 and outcome = 'waiting' and fired_by <> 'backfill'"#,
            self.id
        )
        .fetch_one(&mut *self.tx)
        .await
        .during("count the runs that wait")?;
        Ok(waiting.unsigned_abs() as usize)
    }

    async fn state(&mut self, decided_until: DateTime<Utc>, open: usize) -> Result<State> {
        let ahead = sqlx::query_scalar!(
            "select fire_at from schedule_runs where schedule_id = $1 and fire_at > $2",
            self.id,
            decided_until
        )
        .fetch_all(&mut *self.tx)
        .await
        .during("look for what is decided")?;
        let waiting = self.waiting().await?;
        Ok(State { decided_until, decided_ahead: ahead.into_iter().collect(), open, waiting })
    }

    async fn forget_passed_ahead(&mut self) -> Result<()> {
        sqlx::query!(
            "delete from schedule_runs where schedule_id = $1 and fire_at > $2 and outcome in ('missed', 'skipped')",
            self.id,
            self.now
        )
        .execute(&mut *self.tx)
        .await
        .during("forget what is ahead again")?;
        Ok(())
    }

    /// Does what a verdict says, and keeps the list of open jobs right.
    async fn record(&mut self, run: NewRun, open: &mut Vec<Uuid>) -> Result<FiredRun> {
        let (outcome, reason) = run.verdict.recorded();
        let mut cancelled = Vec::new();
        if run.verdict == (Verdict::Submit { cancel_open: true }) {
            for job in open.drain(..) {
                if cancel_job(&mut *self.tx, job, &format!("the next run of schedule {} began", self.spec.name)).await?
                {
                    cancelled.push(job);
                }
            }
        }
        let job_id = match outcome {
            RunOutcome::Submitted => Some(self.submit().await?),
            RunOutcome::Waiting | RunOutcome::Skipped | RunOutcome::Missed => None,
        };
        open.extend(job_id);
        let expected = matches!(outcome, RunOutcome::Submitted | RunOutcome::Waiting);
        let deadline_at = self.spec.deadline_after(run.fire_at).filter(|_| expected);
        sqlx::query!(
            "insert into schedule_runs (schedule_id, fire_at, fired_by, outcome, reason, job_id, decided_at, submitted_at,
                                        deadline_at, deadline_action)
             values ($1, $2, $3, $4, $5, $6, $7, case when $6::uuid is not null then $7::timestamptz end, $8, $9)",
            self.id,
            run.fire_at,
            run.fired_by.as_str(),
            outcome.as_str(),
            reason,
            job_id,
            self.now,
            deadline_at,
            deadline_at.and(self.spec.deadline).map(|deadline| deadline.action.as_str())
        )
        .execute(&mut *self.tx)
        .await
        .during("record the run")?;
        Ok(FiredRun {
            schedule: self.spec.name.clone(),
            fire_at: run.fire_at,
            due_at: run.due_at,
            fired_by: run.fired_by,
            outcome,
            reason,
            job_id,
            cancelled,
        })
    }

    async fn submit(&mut self) -> Result<Uuid> {
        let job = NewJob {
            id: Uuid::now_v7(),
            spec: self.spec.job.clone(),
            priority: self.spec.priority,
            idempotency_key: None,
            traceparent: self.traceparent.to_owned(),
        };
        insert_job(&mut *self.tx, &job).await?;
        Ok(job.id)
    }
}

/// Cancels a job unless it has ended meanwhile; whether it did.
async fn cancel_job(tx: &mut PgConnection, id: Uuid, reason: &str) -> Result<bool> {
    let open = sqlx::query_scalar!("select id from jobs where id = $1 and finished_at is null for no key update", id)
        .fetch_optional(&mut *tx)
        .await
        .during("take the job")?;
    if open.is_none() {
        return Ok(false);
    }
    cancel_tasks(tx, id).await?;
    end_job(tx, id, JobState::Cancelled, Some(reason)).await?;
    Ok(true)
}
