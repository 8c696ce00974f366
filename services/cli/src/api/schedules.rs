//! Schedules.

use chrono::{DateTime, FixedOffset, Utc};
use perito_domain::{
    lifecycle::JobState,
    names::Name,
    schedule::{Deadline, DeadlineAction, DeadlineOutcome, FiredBy, MissedPolicy, OverlapPolicy, RunOutcome},
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Api, Repeat, Result};

/// A schedule, as it was when asked.
#[derive(Debug, Clone, Deserialize)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// The expression.
    pub cron: String,
    /// The IANA time zone.
    pub zone: String,
    /// The job's specification, completed.
    pub job: Value,
    /// 0 to 9.
    pub priority: u8,
    /// What happens while a job is open.
    pub overlap: OverlapPolicy,
    /// What happens to fire times that were missed.
    pub missed: MissedPolicy,
    /// How far back they are caught up.
    pub catch_up_window_seconds: Option<u64>,
    /// Up to how many seconds after its fire time a job is submitted.
    pub jitter_seconds: u64,
    /// When a job has to be done.
    pub deadline: Option<Deadline>,
    /// Since when it is paused.
    pub paused_at: Option<DateTime<Utc>>,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// The next fire times.
    pub next_fires: Vec<FireTime>,
    /// Its jobs that have not ended.
    pub open_jobs: Vec<Uuid>,
    /// Its runs that wait for those.
    pub waiting_runs: u64,
}

/// A fire time.
#[derive(Debug, Clone, Deserialize)]
pub struct FireTime {
    /// In UTC.
    pub at: DateTime<Utc>,
    /// What clocks in the schedule's zone show then.
    pub local: DateTime<FixedOffset>,
}

/// Every schedule.
#[derive(Debug, Clone, Deserialize)]
pub struct ScheduleList {
    /// By name.
    pub schedules: Vec<Schedule>,
}

/// A fire time and what became of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Run {
    /// The time that the schedule names, or at which somebody asked.
    pub fire_at: DateTime<Utc>,
    /// The same in the schedule's zone.
    pub local_fire_at: DateTime<FixedOffset>,
    /// What it came from.
    pub fired_by: FiredBy,
    /// What became of it.
    pub outcome: RunOutcome,
    /// Why nothing was submitted.
    pub reason: Option<String>,
    /// The job.
    pub job_id: Option<Uuid>,
    /// Where that is.
    pub job_state: Option<JobState>,
    /// When the job has to be done.
    pub deadline: Option<RunDeadline>,
}

/// The deadline of a run.
#[derive(Debug, Clone, Deserialize)]
pub struct RunDeadline {
    /// When the job has to be done.
    pub at: DateTime<Utc>,
    /// What happens when it is not.
    pub action: DeadlineAction,
    /// Whether it was.
    pub outcome: Option<DeadlineOutcome>,
}

/// One page of runs.
#[derive(Debug, Clone, Deserialize)]
pub struct RunPage {
    /// The newest fire time first.
    pub runs: Vec<Run>,
    /// Where the next page starts.
    pub next_before: Option<DateTime<Utc>>,
}

/// What a backfill does.
#[derive(Debug, Clone, Deserialize)]
pub struct Backfill {
    /// Each fire time of the range.
    pub runs: Vec<BackfillRun>,
    /// How many of them get a run.
    pub new: u64,
}

/// A fire time of a backfill.
#[derive(Debug, Clone, Deserialize)]
pub struct BackfillRun {
    /// In UTC.
    pub fire_at: DateTime<Utc>,
    /// In the schedule's zone.
    pub local_fire_at: DateTime<FixedOffset>,
    /// Whether it gets a run.
    pub new: bool,
    /// The job that it has had.
    pub job_id: Option<Uuid>,
}

impl Api {
    /// Adds a schedule, or only says what would come of it.
    ///
    /// # Errors
    /// [`super::ApiError`], `Refused` when there is another one with this name.
    pub async fn add_schedule(&self, schedule: &Value, dry_run: bool) -> Result<Schedule> {
        let mut request = self.request(Method::POST, &["schedules"], Repeat::Safe).with(schedule.clone());
        request.url.query_pairs_mut().append_pair("dry_run", &dry_run.to_string());
        self.send(request).await
    }

    /// Every schedule.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn schedules(&self) -> Result<ScheduleList> {
        self.send(self.request(Method::GET, &["schedules"], Repeat::Safe)).await
    }

    /// A schedule.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is none.
    pub async fn schedule(&self, name: &Name) -> Result<Schedule> {
        self.send(self.request(Method::GET, &["schedules", name.as_str()], Repeat::Safe)).await
    }

    /// What became of a schedule's fire times, the newest first.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is no such schedule.
    pub async fn schedule_runs(&self, name: &Name, limit: u16, before: Option<DateTime<Utc>>) -> Result<RunPage> {
        let mut request = self.request(Method::GET, &["schedules", name.as_str(), "runs"], Repeat::Safe);
        request.url.query_pairs_mut().append_pair("limit", &limit.to_string());
        if let Some(before) = before {
            request.url.query_pairs_mut().append_pair("before", &before.to_rfc3339());
        }
        self.send(request).await
    }

    /// Pauses a schedule.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is none.
    pub async fn pause_schedule(&self, name: &Name) -> Result<Schedule> {
        self.send(self.request(Method::POST, &["schedules", name.as_str(), "pause"], Repeat::Safe)).await
    }

    /// Resumes a schedule.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is none.
    pub async fn resume_schedule(&self, name: &Name) -> Result<Schedule> {
        self.send(self.request(Method::POST, &["schedules", name.as_str(), "resume"], Repeat::Safe)).await
    }

    /// Runs a schedule's job now.
    ///
    /// # Errors
    /// [`super::ApiError`], `Refused` when its overlap policy says so.
    pub async fn run_schedule_now(&self, name: &Name) -> Result<Run> {
        self.send(self.request(Method::POST, &["schedules", name.as_str(), "run-now"], Repeat::Unsafe)).await
    }

    /// Fills in runs, or only says which.
    ///
    /// # Errors
    /// [`super::ApiError`], `Refused` when the range has no fire time or too many.
    pub async fn backfill_schedule(
        &self,
        name: &Name,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        dry_run: bool,
    ) -> Result<Backfill> {
        let path = ["schedules", name.as_str(), "backfill"];
        let mut request = self.request(Method::POST, &path, Repeat::Safe).with(json!({ "from": from, "to": to }));
        request.url.query_pairs_mut().append_pair("dry_run", &dry_run.to_string());
        self.send(request).await
    }

    /// Removes a schedule.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is none.
    pub async fn remove_schedule(&self, name: &Name) -> Result<Schedule> {
        self.send(self.request(Method::DELETE, &["schedules", name.as_str()], Repeat::Unsafe)).await
    }
}
