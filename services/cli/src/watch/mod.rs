//! Following a job to its end, whatever happens to the connection on the way.

mod display;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use perito_domain::{
    lifecycle::{JobKind, JobState},
    retry::Backoff,
};
use uuid::Uuid;

use crate::{
    api::{Answer, Api, ApiError, Job},
    exit::JobEnded,
};
use display::Display;

/// How a job is followed.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// Between two looks.
    pub interval: Duration,
    /// Between two tries while the API is away.
    pub backoff: Backoff,
    /// How long one look may take.
    pub look: Duration,
    /// How long the API may be away.
    pub patience: Duration,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            backoff: Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(10) },
            look: Duration::from_secs(10),
            patience: Duration::from_secs(300),
        }
    }
}

impl Watch {
    /// Looks at a job until it has ended; what it came to. Progress goes to standard error.
    ///
    /// # Errors
    /// [`ApiError`] when there is no such job, or the API is away at the first look or for longer than the patience.
    pub async fn until_end(&self, api: &Api, id: Uuid) -> anyhow::Result<Answer<Job>> {
        let mut answer = api.job(id).await?;
        let mut display = Display::new(&answer.value);
        let mut epochs_shown = 0;
        loop {
            let job = &answer.value;
            display.show(job);
            if job.kind == JobKind::Train && job.epochs_done > epochs_shown {
                // Without them, the next look shows them.
                if let Ok(list) = api.epochs(id).await {
                    let new = list.value.epochs.iter().filter(|epoch| epoch.epoch > epochs_shown);
                    new.for_each(|epoch| display.epoch(job, epoch));
                    epochs_shown = list.value.epochs.last().map_or(epochs_shown, |epoch| epoch.epoch);
                }
            }
            if job.state.is_final() {
                display.end(job);
                return Ok(answer);
            }
            tokio::time::sleep(self.interval).await;
            answer = self.look(api, id, &mut display).await?;
        }
    }

    /// One look, repeated while the API is away.
    async fn look(&self, api: &Api, id: Uuid, display: &mut Display) -> anyhow::Result<Answer<Job>> {
        let began = Instant::now();
        let mut failures = 0;
        loop {
            // Half a connection can be silent for much longer.
            let looked = tokio::time::timeout(self.look, api.job(id)).await;
            match looked.unwrap_or_else(|_| Err(ApiError::silent(api.base(), self.look))) {
                Err(error) if error.is_outage() => {
                    let away = began.elapsed();
                    if away >= self.patience {
                        return Err(error).with_context(|| gave_up(id, away));
                    }
                    failures += 1;
                    display.outage(&error, self.patience);
                    tokio::time::sleep(self.backoff.delay(failures, &mut rand::rng())).await;
                }
                outcome => return Ok(outcome?),
            }
        }
    }
}

fn gave_up(id: Uuid, away: Duration) -> String {
    let seconds = away.as_secs();
    format!(
        "gave up watching after {seconds} s without the API; the job goes on: perito job watch {id} follows it again"
    )
}

/// Whether a job that has ended did so well.
///
/// # Errors
/// [`JobEnded`], which knows its exit code.
pub fn outcome(job: &Job) -> Result<(), JobEnded> {
    match job.state {
        JobState::Failed | JobState::Cancelled => {
            Err(JobEnded { id: job.id, state: job.state, reason: job.error.clone() })
        }
        JobState::Queued | JobState::Running | JobState::Succeeded => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::{Json, Router, http::StatusCode, response::IntoResponse as _};
    use serde_json::json;

    use super::*;

    /// An API that is there for one look and then not available.
    async fn fleeting() -> Api {
        let looks = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let router = Router::new().fallback(move || {
            let first = looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            let job = json!({
                "id": Uuid::nil(), "kind": "score", "state": "running", "spec": {}, "priority": 4,
                "images": {"total": 120, "scored": 44, "failed": 2}, "epochs_done": 0, "created_at": "2026-10-01T02:00:00Z",
                "tasks": {"total": 3, "runnable": 1, "dispatched": 0, "running": 1, "succeeded": 1, "failed": 0, "cancelled": 0},
            });
            let busy = (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"detail": "too many requests are in hand"})));
            async move { if first { Json(job).into_response() } else { busy.into_response() } }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Api::new(url.parse().unwrap(), None).unwrap()
    }

    #[tokio::test]
    async fn patience_has_an_end_that_says_how_to_go_on() {
        perito_runtime::install_crypto_provider();
        let tick = Duration::from_millis(10);
        let watch = Watch {
            interval: tick,
            backoff: Backoff { base: tick, cap: tick },
            look: Duration::from_millis(50),
            patience: Duration::from_millis(200),
        };
        let error = watch.until_end(&fleeting().await, Uuid::nil()).await.unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("gave up watching") && text.contains("perito job watch"), "{text}");
        assert_eq!(crate::exit::code(&error), 6);
    }
}
