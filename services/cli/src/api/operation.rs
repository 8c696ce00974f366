//! How things stand: workers, queues, settings.

use chrono::{DateTime, Utc};
use perito_domain::lifecycle::JobState;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{Api, ApiError, ImageCounts, Repeat, Result};

/// The workers.
#[derive(Debug, Clone, Deserialize)]
pub struct WorkerList {
    /// By name.
    pub workers: Vec<Worker>,
}

/// A worker.
#[derive(Debug, Clone, Deserialize)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// What it is at: idle, busy, draining, drained or silent.
    pub state: String,
    /// The release.
    pub version: String,
    /// What it computes on.
    pub device: String,
    /// The kinds of task that it takes.
    pub kinds: Vec<String>,
    /// When the process began.
    pub started_at: DateTime<Utc>,
    /// When it was heard of last.
    pub heartbeat_at: DateTime<Utc>,
    /// The tasks in its hands.
    pub running: Vec<RunningTask>,
}

/// Whether a coordinator can do its work.
#[derive(Debug, Clone, Deserialize)]
pub struct Readiness {
    /// Whether it can.
    pub ready: bool,
    /// What does not work, and why.
    pub failed: std::collections::BTreeMap<String, String>,
}

/// A task in a worker's hands.
#[derive(Debug, Clone, Deserialize)]
pub struct RunningTask {
    /// Its job.
    pub job_id: Uuid,
    /// Its kind.
    pub kind: String,
    /// Since how many seconds.
    pub seconds: f64,
}

/// How things stand.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// Open tasks, by kind.
    pub queues: Vec<Queue>,
    /// Messages that nobody could read, if that is known.
    pub dead_letters: Option<u64>,
    /// Jobs that have not ended.
    pub jobs: OpenJobs,
    /// Images scored.
    pub images_per_second: Throughput,
    /// Workers by what they are at.
    pub workers: WorkerCounts,
    /// The scoring job that ended last.
    pub last_scoring_run: Option<ScoringRun>,
}

/// Open tasks of one kind.
#[derive(Debug, Clone, Deserialize)]
pub struct Queue {
    /// The kind.
    pub kind: String,
    /// Tasks that wait for the dispatcher.
    pub runnable: u64,
    /// Tasks that wait for a worker.
    pub dispatched: u64,
    /// Tasks that workers have.
    pub running: u64,
    /// The oldest runnable task's wait.
    pub oldest_runnable_seconds: Option<f64>,
    /// The oldest running task's age.
    pub oldest_running_seconds: Option<f64>,
    /// Messages in the broker, if that is known.
    pub ready: Option<u64>,
}

/// Jobs that have not ended.
#[derive(Debug, Clone, Copy, Deserialize)]
#[expect(missing_docs, reason = "named after the states")]
pub struct OpenJobs {
    pub queued: u64,
    pub running: u64,
    pub paused: u64,
}

/// Images per second.
#[derive(Debug, Clone, Copy, Deserialize)]
#[expect(missing_docs, reason = "named after the time that has passed")]
pub struct Throughput {
    pub minute: f64,
    pub five_minutes: f64,
    pub fifteen_minutes: f64,
}

/// Workers by what they are at.
#[derive(Debug, Clone, Copy, Deserialize)]
#[expect(missing_docs, reason = "named after the states")]
pub struct WorkerCounts {
    pub idle: u64,
    pub busy: u64,
    pub draining: u64,
    pub drained: u64,
    pub silent: u64,
}

/// A scoring job that has ended.
#[derive(Debug, Clone, Deserialize)]
pub struct ScoringRun {
    /// The job.
    pub job_id: Uuid,
    /// How it ended.
    pub state: JobState,
    /// The model version.
    pub model: Option<String>,
    /// Its images.
    pub images: ImageCounts,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// From submission to end.
    pub seconds: Option<f64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What may be changed while everything runs.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// The confidence from which a single photograph decides about its claim.
    pub claim_confidence: f64,
    /// When a setting was last changed.
    pub updated_at: DateTime<Utc>,
}

impl Api {
    /// The workers.
    ///
    /// # Errors
    /// [`super::ApiError`].
    pub async fn workers(&self) -> Result<WorkerList> {
        self.send(self.request(Method::GET, &["workers"], Repeat::Safe)).await
    }

    /// Lets a worker take nothing new, or take tasks again.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is none.
    pub async fn drain(&self, worker: &str, drain: bool) -> Result<Worker> {
        let action = if drain { "drain" } else { "undrain" };
        self.send(self.request(Method::POST, &["workers", worker, action], Repeat::Safe)).await
    }

    /// How things stand.
    ///
    /// # Errors
    /// [`super::ApiError`].
    pub async fn status(&self) -> Result<Status> {
        self.send(self.request(Method::GET, &["status"], Repeat::Safe)).await
    }

    /// The settings.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn settings(&self) -> Result<Settings> {
        self.send(self.request(Method::GET, &["settings"], Repeat::Safe)).await
    }

    /// Changes the confidence from which a single photograph decides about its claim.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn set_claim_confidence(&self, confidence: f64) -> Result<Settings> {
        let body = json!({ "claim_confidence": confidence });
        self.send(self.request(Method::PUT, &["settings"], Repeat::Safe).with(body)).await
    }

    /// Whether the coordinator can do its work, and if not, why: one attempt, for whoever looks for a fault.
    ///
    /// # Errors
    /// [`super::ApiError`] when nothing that speaks for a coordinator answers.
    pub async fn readiness(&self) -> std::result::Result<Readiness, ApiError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("readyz");
        }
        let asked = async { self.http.get(url.clone()).send().await?.text().await };
        let text = asked.await.map_err(|error| ApiError::unreachable(&self.base, &error))?;
        serde_json::from_str(&text).map_err(|error| ApiError::Unexpected {
            url: url.to_string(),
            detail: format!("not a coordinator's answer: {error}"),
        })
    }
}
