//! After things went wrong: retries, attempts, dead letters.

use reqwest::Method;
use uuid::Uuid;

use super::{
    Api, Repeat, Result,
    types::{AttemptList, DeadLetter, DeadLetterList, Job, SettledLetters},
};

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
