//! Jobs: what was asked for, and how far it is.

use chrono::{DateTime, SecondsFormat, Utc};
use perito_domain::{
    lifecycle::{JobKind, JobState},
    names::ModelRef,
    schedule::DeadlineOutcome,
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Api, Repeat, Result};

/// A job, as it was when asked.
#[derive(Debug, Clone, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// What it does.
    pub kind: JobKind,
    /// Where it is.
    pub state: JobState,
    /// Its specification, completed.
    pub spec: Value,
    /// 0 to 9.
    pub priority: i16,
    /// The most tasks at once.
    pub concurrency: Option<u32>,
    /// Since when it is paused.
    pub paused_at: Option<DateTime<Utc>>,
    /// The model version that it scores with, measures or has made.
    pub model: Option<String>,
    /// The dataset version that it uses.
    pub dataset: Option<String>,
    /// How far it is with its images.
    pub images: ImageCounts,
    /// How far it is with its tasks.
    pub tasks: TaskCounts,
    /// How many epochs a training job has finished.
    pub epochs_done: u64,
    /// Why it failed, or what cancelled it.
    pub error: Option<String>,
    /// The schedule that submitted it.
    pub schedule: Option<JobSchedule>,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// When its tasks were frozen.
    pub planned_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// What a job was submitted by.
#[derive(Debug, Clone, Deserialize)]
pub struct JobSchedule {
    /// The schedule's name.
    pub name: String,
    /// The fire time.
    pub fire_at: DateTime<Utc>,
    /// When the job has to have succeeded.
    pub deadline_at: Option<DateTime<Utc>>,
    /// Whether it had.
    pub deadline_outcome: Option<DeadlineOutcome>,
}

/// A job's images.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct ImageCounts {
    /// How many were selected, once the job is planned.
    pub total: Option<u64>,
    /// How many have a score.
    pub scored: u64,
    /// How many could not be scored.
    pub failed: u64,
}

/// A job's tasks, by state.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[expect(missing_docs, reason = "named after the states")]
pub struct TaskCounts {
    pub total: u64,
    pub runnable: u64,
    pub dispatched: u64,
    pub running: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub cancelled: u64,
}

/// One page of jobs.
#[derive(Debug, Clone, Deserialize)]
pub struct JobPage {
    /// The newest first.
    pub jobs: Vec<Job>,
    /// Where the next page starts.
    pub next_cursor: Option<Uuid>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobQuery {
    /// Only jobs in this state.
    pub state: Option<JobState>,
    /// Only jobs of this kind.
    pub kind: Option<JobKind>,
    /// Only jobs that are paused.
    pub paused: bool,
    /// Only jobs of this model.
    pub model: Option<ModelRef>,
    /// Only jobs submitted since.
    pub since: Option<DateTime<Utc>>,
    /// The length of the page.
    pub limit: Option<u16>,
    /// Where the page starts.
    pub cursor: Option<Uuid>,
}

/// What can be done to a job that has not ended. Doing it twice is as good as once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It ends now.
    Cancel,
    /// Nothing of it starts any more.
    Pause,
    /// It goes on.
    Resume,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

impl Api {
    /// Submits a job. The key makes it safe to send again.
    ///
    /// # Errors
    /// [`super::ApiError`], `Refused` when the key was used for another specification.
    pub async fn submit(&self, spec: &Value, priority: Option<u8>, key: &str) -> Result<Job> {
        let mut body = json!({ "spec": spec });
        if let Some(priority) = priority {
            body["priority"] = priority.into();
        }
        let mut request = self.request(Method::POST, &["jobs"], Repeat::Safe).with(body);
        request.idempotency_key = Some(key.to_owned());
        self.send(request).await
    }

    /// One page of jobs, the newest first.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn jobs(&self, query: &JobQuery) -> Result<JobPage> {
        let mut request = self.request(Method::GET, &["jobs"], Repeat::Safe);
        {
            let mut pairs = request.url.query_pairs_mut();
            let text = |value: Option<String>, name| value.map(|value| (name, value));
            pairs.extend_pairs(
                [
                    text(query.state.map(|state| state.to_string()), "state"),
                    text(query.kind.map(|kind| kind.to_string()), "kind"),
                    text(query.paused.then(|| "true".to_owned()), "paused"),
                    text(query.model.as_ref().map(ToString::to_string), "model"),
                    text(query.since.map(|since| since.to_rfc3339_opts(SecondsFormat::Secs, true)), "since"),
                    text(query.limit.map(|limit| limit.to_string()), "limit"),
                    text(query.cursor.map(|cursor| cursor.to_string()), "cursor"),
                ]
                .into_iter()
                .flatten(),
            );
        }
        self.send(request).await
    }

    /// A job.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is none.
    pub async fn job(&self, id: Uuid) -> Result<Job> {
        self.send(self.request(Method::GET, &["jobs", &id.to_string()], Repeat::Safe)).await
    }

    /// Cancels, pauses or resumes a job.
    ///
    /// # Errors
    /// [`super::ApiError`], `Refused` when it has ended.
    pub async fn act(&self, id: Uuid, action: Action) -> Result<Job> {
        self.send(self.request(Method::POST, &["jobs", &id.to_string(), action.as_str()], Repeat::Safe)).await
    }

    /// Changes fields of a job that has not ended.
    ///
    /// # Errors
    /// [`super::ApiError`], `Refused` when it has ended.
    pub async fn change(&self, id: Uuid, fields: &Map<String, Value>) -> Result<Job> {
        self.send(self.request(Method::PATCH, &["jobs", &id.to_string()], Repeat::Safe).with(json!(fields))).await
    }
}
