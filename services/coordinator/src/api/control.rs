//! The operator's hands on a job: pause, resume, change, cancel.

use axum::extract::State;
use perito_database::JobChange;
use perito_domain::limits::{MAX_CONCURRENCY, MAX_PRIORITY};
use serde::{Deserialize, Deserializer};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    App,
    extract::{Json, Path, Query},
    jobs::Job,
    problem::Problem,
    refusals,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(change_job))
        .routes(routes!(pause_job))
        .routes(routes!(resume_job))
        .routes(routes!(cancel_job))
        .routes(routes!(retry_job))
}

/// What to change of a job. What is absent stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"priority": 7, "concurrency": 8}))]
pub(crate) struct ChangeJob {
    /// 0 to 9; tasks of a higher priority are dispatched first, and take the places of those that nobody has claimed.
    #[schema(maximum = 9)]
    priority: Option<u8>,
    /// The most tasks that are dispatched or running at once; null takes the limit away.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10000)]
    concurrency: Option<Option<u32>>,
}

/// Tells null from absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Change a job that has not ended: its priority, or its limit of tasks at once.
///
/// It counts for whatever no worker has claimed yet. Tasks that run go on.
#[utoipa::path(
    patch,
    path = "/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    request_body = ChangeJob,
    responses(
        (status = 200, description = "The job, changed", body = Job),
        refusals::NotFound,
        refusals::Conflict,
        refusals::Body,
        refusals::Any,
    ),
)]
async fn change_job(
    State(app): State<App>,
    Path(id): Path<Uuid>,
    Json(request): Json<ChangeJob>,
) -> Result<axum::Json<Job>, Problem> {
    if let Some(priority) = request.priority.filter(|priority| *priority > MAX_PRIORITY) {
        return Err(Problem::invalid_field("priority", format!("is {priority}: expected 0 to {MAX_PRIORITY}")));
    }
    if let Some(Some(limit)) = request.concurrency
        && !(1..=MAX_CONCURRENCY).contains(&limit)
    {
        let detail = format!("is {limit}: expected 1 to {MAX_CONCURRENCY}, or null for no limit");
        return Err(Problem::invalid_field("concurrency", detail));
    }
    let change = JobChange { priority: request.priority, concurrency: request.concurrency };
    if change == JobChange::default() {
        return Err(Problem::invalid("nothing to change: give priority, concurrency or both"));
    }
    let job = app.database.change_job(id, change).await?;
    tracing::info!(job.id = %id, job.priority = job.priority, job.concurrency = job.concurrency, "job changed");
    app.wake.dispatcher(job.kind).notify_one();
    Ok(axum::Json(job.into()))
}

/// Pause a job that has not ended.
///
/// It keeps its state and its tasks; nothing of it is planned, dispatched or claimed until it is resumed. Tasks that run go on to their
/// end; what is dispatched and unclaimed is taken back.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/pause",
    tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    responses(
        (status = 200, description = "The job, paused", body = Job),
        refusals::NotFound,
        refusals::Conflict,
        refusals::Any,
    ),
)]
async fn pause_job(State(app): State<App>, Path(id): Path<Uuid>) -> Result<axum::Json<Job>, Problem> {
    let job = app.database.pause(id).await?;
    tracing::info!(job.id = %id, "job paused");
    // Others may have its places.
    app.wake.dispatcher(job.kind).notify_one();
    Ok(axum::Json(job.into()))
}

/// Resume a paused job.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/resume",
    tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    responses(
        (status = 200, description = "The job, resumed", body = Job),
        refusals::NotFound,
        refusals::Conflict,
        refusals::Any,
    ),
)]
async fn resume_job(State(app): State<App>, Path(id): Path<Uuid>) -> Result<axum::Json<Job>, Problem> {
    let job = app.database.resume(id).await?;
    tracing::info!(job.id = %id, "job resumed");
    app.wake.planner().notify_one();
    app.wake.dispatcher(job.kind).notify_one();
    Ok(axum::Json(job.into()))
}

/// Cancel a job that has not ended.
///
/// Its open tasks are cancelled with it; a worker that holds one notices within seconds and stops.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/cancel",
    tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    responses(
        (status = 200, description = "The job, cancelled", body = Job),
        refusals::NotFound,
        refusals::Conflict,
        refusals::Any,
    ),
)]
async fn cancel_job(State(app): State<App>, Path(id): Path<Uuid>) -> Result<axum::Json<Job>, Problem> {
    let job = app.database.cancel(id).await?;
    tracing::info!(job.id = %id, "job cancelled");
    Ok(axum::Json(job.into()))
}

/// What to try again.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RetryJob {
    /// Also the images that could not be scored.
    #[serde(default)]
    #[param(default = false)]
    images: bool,
}

/// Let a failed job run again.
///
/// Its tasks that have succeeded keep their results; the others start anew, with all their attempts. A job that has not ended is left as it
/// is, so that asking twice is as good as once.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/retry",
    tag = "jobs",
    params(("id" = Uuid, Path, description = "The job"), RetryJob),
    responses(
        (status = 200, description = "The job, running", body = Job),
        refusals::NotFound,
        refusals::Conflict,
        refusals::Any,
    ),
)]
async fn retry_job(
    State(app): State<App>,
    Path(id): Path<Uuid>,
    Query(retry): Query<RetryJob>,
) -> Result<axum::Json<Job>, Problem> {
    let job = app.database.retry_job(id, retry.images).await?;
    tracing::info!(job.id = %id, retry.images = retry.images, "job runs again");
    app.wake.planner().notify_one();
    app.wake.dispatcher(job.kind).notify_one();
    Ok(axum::Json(job.into()))
}
