//! What every operation goes through: timeouts, attempts with backoff and jitter, metrics.
//!
//! The SDK's own retries are off. They end at the headers of an answer, while bodies are what stalls and breaks; one loop
//! around both, with one bound, is easier to trust than two that multiply.

use std::{
    future::{Future, IntoFuture},
    time::Duration,
};

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use backon::{ExponentialBuilder, Retryable};
use tokio::time::{Instant, timeout};

use crate::{
    client::ObjectStore,
    error::{Error, ErrorKind, Failure, Result},
};

/// The wait after the first failed attempt, doubled for each further one; up to as much again is added by chance.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait, before what is added by chance.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

impl ObjectStore {
    /// Makes attempts until one succeeds, one fails for good, or the bounds are met.
    #[tracing::instrument(name = "s3", skip_all, fields(otel.kind = "client", s3.operation = operation, s3.target = target))]
    pub(crate) async fn run<T, F>(
        &self,
        operation: &'static str,
        target: String,
        attempt: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Failure>>,
    {
        let started = Instant::now();
        let limit = self.timeouts().operation;
        let backoff = ExponentialBuilder::default()
            .with_min_delay(FIRST_WAIT)
            .with_max_delay(LONGEST_WAIT)
            .with_jitter()
            .with_max_times(self.max_attempts().saturating_sub(1) as usize);
        let mut last = String::new();
        let attempts = attempt.retry(backoff).when(|failure| failure.kind == ErrorKind::Unavailable).notify(
            |failure: &Failure, wait| {
                metrics::counter!("perito_s3_retries_total", "operation" => operation).increment(1);
                tracing::debug!(
                    s3.operation = operation,
                    s3.target = target,
                    error.message = failure.detail,
                    retry.delay_ms = wait.as_millis() as u64,
                    "attempt failed"
                );
                last.clone_from(&failure.detail);
            },
        );
        let outcome = match timeout(limit, attempts.into_future()).await {
            Ok(outcome) => outcome,
            Err(_) if last.is_empty() => Err(Failure::timeout("not done", limit)),
            Err(_) => Err(Failure::timeout(&format!("{last}; no success"), limit)),
        };
        let label = outcome.as_ref().map_or_else(|failure| failure.kind.as_str(), |_| "ok");
        metrics::histogram!("perito_s3_operation_seconds", "operation" => operation, "outcome" => label)
            .record(started.elapsed());
        outcome.map_err(|failure| Error::new(operation, target, failure))
    }

    /// The answer to one request, up to its body, in bounded time. `sent` is the size of the request's body.
    pub(crate) async fn answer<T, E>(
        &self,
        sent: usize,
        request: impl Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    ) -> std::result::Result<T, Failure>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let limit = self.timeouts().attempt + Duration::from_secs((sent >> 20) as u64);
        match timeout(limit, request).await {
            Ok(answer) => answer.map_err(Failure::from).map_err(|failure| self.name_endpoint(failure)),
            Err(_) => Err(self.name_endpoint(Failure::timeout("no answer", limit))),
        }
    }
}
