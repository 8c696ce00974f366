//! One task from claim to settlement, whatever its kind.

use std::{sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use perito_database::{AfterFailure, Claim, ClaimedTask, Error as DatabaseError};
use perito_domain::{
    lifecycle::JobKind,
    message::TaskMessage,
    retry::{ErrorClass, TASK_BACKOFF},
    stages::Stage,
};
use tokio::time::{Instant, timeout};

use crate::{error::TaskError, evaluate, leases::LeaseGuard, score, service::Context, sweep, train};

/// The largest shard's rows take a second or two.
pub(crate) const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);

/// How a task's work ended when nothing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its results are in Postgres.
    Committed,
    /// It stopped half way because the process is shutting down.
    Interrupted,
}

/// Claims the task that a message hints at, waiting out a database that cannot be reached. `None`: nothing to do here.
///
/// # Errors
/// What the database says that waiting does not mend, and anything once the process is shutting down.
pub async fn claim(context: &Context, message: &TaskMessage) -> Result<Option<LeaseGuard>, DatabaseError> {
    let mut failures = 0;
    loop {
        let claimed_at = Instant::now();
        // What comes later than that is worth nothing any more.
        match within(context.leases.duration(), "claim the task", context.together.claim(message)).await {
            Ok(Claim::Claimed(task)) => return Ok(Some(context.leases.hold(*task, claimed_at))),
            Ok(Claim::Dropped(reason)) => {
                metrics::counter!("perito_messages_dropped_total", "reason" => reason.as_str()).increment(1);
                tracing::debug!(task.id = %message.task_id, reason = reason.as_str(), "message dropped");
                return Ok(None);
            }
            Err(error) if error.class() == ErrorClass::Transient && !context.shutdown.soft().is_cancelled() => {
                failures += 1;
                let wait = TASK_BACKOFF.delay(failures, &mut rand::rng());
                tracing::warn!(error = %error, retry.seconds = wait.as_secs_f64(), "claim failed");
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = context.shutdown.soft().cancelled() => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Runs a claimed task to its end and settles it. Nothing is left to do for the caller but to acknowledge the message.
pub async fn execute(context: &Context, guard: LeaseGuard) {
    let task = Arc::clone(guard.task());
    let started = Instant::now();
    metrics::gauge!("perito_tasks_in_progress", "kind" => task.kind.as_str()).increment(1.0);
    let outcome = tokio::select! {
        // Work that is done is done: with the commit the task is nobody's any more, and the next heartbeat says so.
        biased;
        outcome = work(context, &task) => Some(outcome),
        () = guard.lost().cancelled() => None,
        () = context.shutdown.hard().cancelled() => Some(Ok(Ending::Interrupted)),
    };
    metrics::gauge!("perito_tasks_in_progress", "kind" => task.kind.as_str()).decrement(1.0);
    let settled = match outcome {
        None => "lost",
        Some(outcome) => settle(context, &task, outcome).await,
    };
    drop(guard);
    metrics::counter!("perito_task_attempts_total", "kind" => task.kind.as_str(), "outcome" => settled).increment(1);
    tracing::info!(
        task.outcome = settled,
        task.seconds = started.elapsed().as_secs_f64(),
        images = task.images.len(),
        "task ended"
    );
    if matches!(task.kind, JobKind::Train | JobKind::Sweep) {
        tokio::select! {
            () = context.shutdown.hard().cancelled() => {}
            () = train::leftovers::remove(context) => {}
        }
    }
}

async fn work(context: &Context, task: &Arc<ClaimedTask>) -> Result<Ending, TaskError> {
    match task.kind {
        JobKind::Score => {
            let in_hand = context.stall_clock.task();
            let result = Arc::new(score::run(context, task, &in_hand).await?);
            let _working = context.stall_clock.working(Stage::Write);
            commit(|| context.together.commit((Arc::clone(task), Arc::clone(&result)))).await?;
            Ok(Ending::Committed)
        }
        JobKind::Train => train::run(context, task).await,
        JobKind::Evaluate => evaluate::run(context, task).await,
        JobKind::Sweep => sweep::run(context, task).await,
    }
}

/// Commits with retries: what a task has computed is worth waiting for. The fence makes a repetition harmless, and a lost lease
/// stops the waiting.
///
/// # Errors
/// The last error, when it is permanent or the retries are used up.
pub async fn commit<T, F: Future<Output = Result<T, DatabaseError>>>(
    attempt: impl FnMut() -> F,
) -> Result<T, DatabaseError> {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .with_max_times(12)
        .with_jitter();
    let mut attempt = attempt;
    (move || within(COMMIT_TIMEOUT, "commit", attempt()))
        .retry(backoff)
        .when(|error: &DatabaseError| error.class() == ErrorClass::Transient)
        .notify(|error, wait| {
            tracing::warn!(error = %error, retry.seconds = wait.as_secs_f64(), "commit failed");
        })
        .await
}

/// A connection may fall silent without an end, and nothing below has a clock of its own.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    answer: impl Future<Output = Result<T, DatabaseError>>,
) -> Result<T, DatabaseError> {
    timeout(limit, answer).await.unwrap_or_else(|_| Err(DatabaseError::silent(what, limit)))
}

async fn settle(context: &Context, task: &ClaimedTask, outcome: Result<Ending, TaskError>) -> &'static str {
    let database = &context.database;
    let settled = match outcome {
        Ok(Ending::Committed) => return "succeeded",
        Ok(Ending::Interrupted) => commit(|| database.release(&task.lease)).await.map(|()| "released"),
        Err(error) if error.is_stale() => return "lost",
        Err(error) => {
            let class = error.class();
            let text = error.to_string();
            tracing::warn!(error = %text, error.class = class.as_str(), task.attempt = task.lease.attempt(), "task failed");
            let wait = TASK_BACKOFF.delay(task.lease.attempt().unsigned_abs(), &mut rand::rng());
            commit(|| database.fail(&task.lease, class, &text, wait)).await.map(|after| match after {
                AfterFailure::Retried => "retried",
                AfterFailure::Failed => "failed",
            })
        }
    };
    match settled {
        Ok(settled) => settled,
        Err(error) if error.kind() == perito_database::ErrorKind::StaleAttempt => "lost",
        Err(error) => {
            // Its lease runs out, and the reaper does what could not be said here.
            tracing::error!(error = %error, "settling a task failed");
            "unsettled"
        }
    }
}
