//! Fires schedules: submits their jobs, lets runs that waited begin, and looks at deadlines.

use std::collections::HashMap;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use perito_database::{Database, FiredRun};
use perito_domain::schedule::{DeadlineOutcome, RunOutcome};
use perito_runtime::trace;
use tracing::Instrument;

use super::{Pace, Step, Wake};

/// The most runs that are released, and deadlines that are looked at, in one step.
const BATCH: usize = 100;

/// The scheduler of one replica. Nothing but the database decides: what it remembers only saves it from asking.
pub struct Scheduler {
    database: Database,
    wake: Wake,
    /// By schedule: up to when it is decided, and when there is something to decide again.
    remembered: HashMap<i64, (DateTime<Utc>, Option<DateTime<Utc>>)>,
}

impl Scheduler {
    /// A scheduler that has looked at nothing yet.
    pub fn new(database: Database, wake: Wake) -> Self {
        Self { database, wake, remembered: HashMap::new() }
    }

    /// Does everything that has come by `now`; whether that was anything.
    ///
    /// # Errors
    /// When the database does not answer, or a schedule in it cannot be read; the others are looked at all the same.
    pub async fn round(&mut self, now: DateTime<Utc>) -> anyhow::Result<bool> {
        let mut busy = self.settle_deadlines(now).await?;
        let firing = self.database.firing_schedules().await.context("look for schedules")?;
        self.remembered.retain(|id, _| firing.iter().any(|(firing, _)| firing == id));
        let mut failed = None;
        for (id, decided_until) in firing {
            if self.has_nothing_due(id, decided_until, now) {
                continue;
            }
            match self.fire(id, now).await {
                Ok(fired) => busy |= fired,
                Err(error) => failed = Some(error),
            }
        }
        busy |= self.release(now).await?;
        failed.map_or(Ok(busy), Err)
    }

    fn has_nothing_due(&self, id: i64, decided_until: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        self.remembered.get(&id).is_some_and(|(until, next)| {
            *until == decided_until && now >= decided_until && next.is_none_or(|next| next > now)
        })
    }

    async fn fire(&mut self, id: i64, now: DateTime<Utc>) -> anyhow::Result<bool> {
        let span = tracing::info_span!("schedule.fire");
        async {
            let fired = self.database.fire_schedule(id, now, &trace::current_traceparent()).await;
            let Some(fired) = fired.with_context(|| format!("fire schedule number {id}"))? else { return Ok(false) };
            if fired.clock_went_back {
                tracing::warn!(schedule.id = id, clock = %now, "the clock went back: what has fired does not fire again");
            }
            self.remembered.insert(id, (fired.decided_until, fired.next_due));
            fired.runs.iter().for_each(|run| self.tell(run, now));
            Ok(!fired.runs.is_empty())
        }
        .instrument(span)
        .await
    }

    async fn release(&self, now: DateTime<Utc>) -> anyhow::Result<bool> {
        let mut busy = false;
        for _ in 0..BATCH {
            let span = tracing::info_span!("schedule.release");
            let released = async {
                let released = self.database.release_waiting(now, &trace::current_traceparent()).await;
                released.context("release runs that wait").inspect(|run| run.iter().for_each(|run| self.tell(run, now)))
            };
            if released.instrument(span).await?.is_none() {
                break;
            }
            busy = true;
        }
        Ok(busy)
    }

    async fn settle_deadlines(&self, now: DateTime<Utc>) -> anyhow::Result<bool> {
        let mut busy = false;
        for _ in 0..BATCH {
            let Some(settled) = self.database.settle_deadline(now).await.context("look at deadlines")? else { break };
            busy = true;
            if settled.outcome == DeadlineOutcome::Missed {
                let job = settled.job_id.map(tracing::field::display);
                tracing::error!(
                    schedule.name = %settled.schedule,
                    run.fire_at = %settled.fire_at,
                    run.deadline_at = %settled.deadline_at,
                    job.id = job,
                    job.cancelled = settled.cancelled,
                    "deadline missed"
                );
            }
            let labels = [("schedule", settled.schedule.to_string()), ("outcome", settled.outcome.to_string())];
            metrics::counter!("perito_schedule_deadlines_total", &labels).increment(1);
        }
        Ok(busy)
    }

    /// One line, and the measurements, for each run that was decided.
    fn tell(&self, run: &FiredRun, now: DateTime<Utc>) {
        let (schedule, fire_at, fired_by) = (&run.schedule, run.fire_at, run.fired_by);
        let labels = [("schedule", schedule.to_string()), ("outcome", run.outcome.to_string())];
        metrics::counter!("perito_schedule_runs_total", &labels).increment(1);
        match run.job_id {
            Some(job) => {
                let late = (now - run.due_at).max(TimeDelta::zero()).as_seconds_f64();
                metrics::histogram!("perito_schedule_lateness_seconds", "schedule" => schedule.to_string())
                    .record(late);
                let cancelled = run.cancelled.len();
                tracing::info!(schedule.name = %schedule, run.fire_at = %fire_at, run.fired_by = %fired_by, run.late_seconds = late,
                    job.id = %job, jobs.cancelled = cancelled, "schedule fired");
                self.wake.planner().notify_one();
            }
            None => {
                let (outcome, reason) = (run.outcome, run.reason.unwrap_or_default());
                let message = "schedule did not fire";
                if outcome == RunOutcome::Missed {
                    tracing::warn!(schedule.name = %schedule, run.fire_at = %fire_at, run.outcome = %outcome, run.reason = reason, message);
                } else {
                    tracing::info!(schedule.name = %schedule, run.fire_at = %fire_at, run.outcome = %outcome, run.reason = reason, message);
                }
            }
        }
    }
}

impl Step for Scheduler {
    const NAME: &'static str = "scheduler";

    async fn step(&mut self) -> anyhow::Result<Pace> {
        // Postgres's clock, and no other: replicas whose clocks differ must not argue.
        let now = self.database.now().await.context("read the clock")?;
        Ok(if self.round(now).await? { Pace::Busy } else { Pace::Idle })
    }
}
