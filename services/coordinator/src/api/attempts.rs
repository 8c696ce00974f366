//! What became of each attempt on a job's tasks.

use axum::extract::State;
use chrono::{DateTime, Utc};
use perito_database::AttemptFilter;
use perito_domain::limits::MAX_PAGE;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    App,
    extract::{Path, Query},
    problem::Problem,
    refusals,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list_attempts))
}

/// One claim of a task by a worker.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "task_id": "0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e12", "task": 3, "images": 500, "attempt": 1, "worker": "gpu-1-4711",
    "started_at": "2026-10-01T02:00:01Z", "ended_at": "2026-10-01T02:00:31Z", "outcome": "expired", "error_class": "silent",
    "error": "attempt 1 by worker gpu-1-4711: the worker went silent, and its lease ran out",
}))]
pub(crate) struct Attempt {
    /// The task.
    task_id: Uuid,
    /// The task's number within its job, from 0.
    task: i32,
    /// How many images the task has.
    images: i32,
    /// The attempt's number: it goes up with each claim, and when a task is taken back.
    attempt: i32,
    /// The worker's name.
    worker: String,
    /// When it began.
    started_at: DateTime<Utc>,
    /// When it ended; null: it runs.
    ended_at: Option<DateTime<Utc>>,
    /// succeeded, retried, failed, released, expired or cancelled; null: it runs.
    outcome: Option<String>,
    /// transient, permanent, silent, outage or shutdown; null when nothing went wrong.
    error_class: Option<String>,
    /// What went wrong.
    error: Option<String>,
}

/// The attempts on a job's tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptList {
    /// Those that began last first.
    attempts: Vec<Attempt>,
}

/// Which attempts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListAttempts {
    /// Only attempts on the task with this number.
    task: Option<i32>,
    /// Only those that did not succeed.
    #[serde(default)]
    #[param(default = false)]
    lost: bool,
    /// The most that are listed.
    #[serde(default = "default_limit")]
    #[param(default = 50, minimum = 1, maximum = 500)]
    limit: u16,
}

fn default_limit() -> u16 {
    50
}

/// List what became of each attempt on a job's tasks, those that began last first.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/attempts",
    tag = "jobs",
    params(("id" = Uuid, Path, description = "The job"), ListAttempts),
    responses((status = 200, description = "The attempts", body = AttemptList), refusals::NotFound, refusals::Any),
)]
async fn list_attempts(
    State(app): State<App>,
    Path(id): Path<Uuid>,
    Query(query): Query<ListAttempts>,
) -> Result<axum::Json<AttemptList>, Problem> {
    if !(1..=MAX_PAGE).contains(&query.limit) {
        return Err(Problem::invalid_field("limit", format!("is {}: expected 1 to {MAX_PAGE}", query.limit)));
    }
    let filter = AttemptFilter { task: query.task, lost: query.lost, limit: query.limit.into() };
    let attempts = app.database.attempts(id, filter).await?.into_iter().map(|row| Attempt {
        task_id: row.task_id,
        task: row.task,
        images: row.images,
        attempt: row.attempt,
        worker: row.worker,
        started_at: row.started_at,
        ended_at: row.ended_at,
        outcome: row.outcome,
        error_class: row.error_class,
        error: row.error,
    });
    Ok(axum::Json(AttemptList { attempts: attempts.collect() }))
}
