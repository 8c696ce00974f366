//! After things went wrong: retries, attempts, dead letters.

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde::Deserialize;
use uuid::Uuid;

use super::{Api, Job, Repeat, Result};

/// The attempts on a job's tasks.
#[derive(Debug, Clone, Deserialize)]
pub struct AttemptList {
    /// Those that began last first.
    pub attempts: Vec<Attempt>,
}

/// One claim of a task by a worker.
#[derive(Debug, Clone, Deserialize)]
pub struct Attempt {
    /// The task's number within its job.
    pub task: i32,
    /// How many images it has.
    pub images: i32,
    /// The attempt's number.
    pub attempt: i32,
    /// The worker's name.
    pub worker: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// What came of it.
    pub outcome: Option<String>,
    /// The class of what went wrong.
    pub error_class: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

/// Messages that nobody could act on.
#[derive(Debug, Clone, Deserialize)]
pub struct DeadLetterList {
    /// The oldest first.
    pub dead_letters: Vec<DeadLetter>,
}

/// A message that nobody could act on.
#[derive(Debug, Clone, Deserialize)]
pub struct DeadLetter {
    /// Names it.
    pub id: String,
    /// The queue in which it waits.
    pub queue: String,
    /// The queue that it came from.
    pub died_in: Option<String>,
    /// Why it left that queue.
    pub reason: Option<String>,
    /// When.
    pub died_at: Option<DateTime<Utc>>,
    /// The length of its body.
    pub bytes: usize,
    /// Why it is no task's message.
    pub problem: Option<String>,
    /// What it says, when it is a task's message.
    pub task: Option<DeadTask>,
    /// Its headers.
    pub headers: std::collections::BTreeMap<String, String>,
    /// Its body, when that is text.
    pub text: Option<String>,
    /// Its body in hexadecimal.
    pub hex: String,
    /// Whether that is only the beginning.
    pub truncated: bool,
}

/// What a task's message says.
#[derive(Debug, Clone, Deserialize)]
pub struct DeadTask {
    /// The job.
    pub job_id: Uuid,
    /// The task.
    pub task_id: Uuid,
    /// Its kind.
    pub kind: String,
    /// The attempt that it is for.
    pub attempt: u32,
}

/// What became of the dead letters with an id.
#[derive(Debug, Clone, Deserialize)]
pub struct SettledLetters {
    /// Their id.
    pub id: String,
    /// How many there were.
    pub messages: usize,
}

impl Api {
    /// Lets a failed job run again; with `images`, the images that failed too.
    ///
    /// # Errors
    /// [`super::ApiError`], `Refused` when it has not failed, or nothing of it is to be tried again.
    pub async fn retry(&self, id: Uuid, images: bool) -> Result<Job> {
        let mut request = self.request(Method::POST, &["jobs", &id.to_string(), "retry"], Repeat::Safe);
        request.url.query_pairs_mut().append_pair("images", &images.to_string());
        self.send(request).await
    }

    /// What became of each attempt on a job's tasks.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is no such job.
    pub async fn attempts(&self, id: Uuid, task: Option<i32>, lost: bool, limit: u16) -> Result<AttemptList> {
        let mut request = self.request(Method::GET, &["jobs", &id.to_string(), "attempts"], Repeat::Safe);
        {
            let mut pairs = request.url.query_pairs_mut();
            pairs.append_pair("lost", &lost.to_string()).append_pair("limit", &limit.to_string());
            if let Some(task) = task {
                pairs.append_pair("task", &task.to_string());
            }
        }
        self.send(request).await
    }

    /// Messages that nobody could act on.
    ///
    /// # Errors
    /// [`super::ApiError`].
    pub async fn dead_letters(&self, limit: u16) -> Result<DeadLetterList> {
        let mut request = self.request(Method::GET, &["dead-letters"], Repeat::Safe);
        request.url.query_pairs_mut().append_pair("limit", &limit.to_string());
        self.send(request).await
    }

    /// One of them.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is none.
    pub async fn dead_letter(&self, id: &str) -> Result<DeadLetter> {
        self.send(self.request(Method::GET, &["dead-letters", id], Repeat::Safe)).await
    }

    /// Sends it to where it came from.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is none.
    pub async fn replay_dead_letter(&self, id: &str) -> Result<SettledLetters> {
        self.send(self.request(Method::POST, &["dead-letters", id, "replay"], Repeat::Unsafe)).await
    }

    /// Drops it.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is none.
    pub async fn drop_dead_letter(&self, id: &str) -> Result<SettledLetters> {
        self.send(self.request(Method::DELETE, &["dead-letters", id], Repeat::Unsafe)).await
    }
}
