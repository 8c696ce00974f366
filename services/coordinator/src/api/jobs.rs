//! Jobs: submit, list, show, and what a job has produced.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use chrono::{DateTime, Utc};
use perito_database::{EpochRow, JobFilter, NewJob};
use perito_domain::{
    lifecycle::{JobKind, JobState},
    limits::{DEFAULT_PAGE, MAX_PAGE, MAX_PRIORITY},
    names::ModelRef,
    schedule::DeadlineOutcome,
    spec::JobSpec,
    stages::{self, Stage, StageSeconds},
};
use perito_runtime::trace;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    App,
    evaluation::Evaluation,
    extract::{IdempotencyKey, Json, Path, Query},
    problem::Problem,
    refusals, schema,
};

const DEFAULT_PRIORITY: u8 = 4;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(submit_job, list_jobs))
        .routes(routes!(show_job))
        .routes(routes!(list_epochs))
        .routes(routes!(list_stages))
        .routes(routes!(show_evaluation))
}

/// A job to submit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"spec": {"kind": "score", "model": "severity@production", "selection": {"by": "backlog"}}}))]
pub(crate) struct SubmitJob {
    /// What to do.
    #[schema(value_type = schema::JobSpec)]
    spec: Value,
    /// 0 to 9; tasks of a higher priority are dispatched first.
    #[serde(default = "default_priority")]
    #[schema(default = 4, maximum = 9)]
    priority: u8,
}

fn default_priority() -> u8 {
    DEFAULT_PRIORITY
}

/// A job, as it is now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11",
    "kind": "score",
    "state": "running",
    "spec": {"kind": "score", "model": "severity@production", "selection": {"by": "backlog"}, "shard_size": 500,
             "failure_budget": 0.05},
    "priority": 4,
    "concurrency": null,
    "paused_at": null,
    "model": "severity@3",
    "dataset": null,
    "images": {"total": 12000, "scored": 4480, "failed": 20},
    "tasks": {"total": 24, "runnable": 5, "dispatched": 8, "running": 2, "succeeded": 9, "failed": 0, "cancelled": 0},
    "epochs_done": 0,
    "error": null,
    "schedule": {"name": "nightly", "fire_at": "2026-10-01T08:00:00Z", "deadline_at": "2026-10-01T13:00:00Z", "deadline_outcome": null},
    "created_at": "2026-10-01T02:00:00Z",
    "planned_at": "2026-10-01T02:00:00.120Z",
    "finished_at": null,
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}))]
pub(crate) struct Job {
    /// The job's id.
    id: Uuid,
    /// What it does.
    #[schema(value_type = schema::JobKind)]
    kind: JobKind,
    /// Where it is.
    #[schema(value_type = schema::JobState)]
    state: JobState,
    /// Its specification, completed.
    #[schema(value_type = schema::JobSpec)]
    spec: Value,
    /// 0 to 9.
    priority: i16,
    /// The most tasks that are dispatched or running at once; null: no limit.
    concurrency: Option<i32>,
    /// Since when it is paused; null when it is not.
    paused_at: Option<DateTime<Utc>>,
    /// The model version that it scores with, measures or has made; null until it is known.
    model: Option<String>,
    /// The dataset version that it uses; null until it is known, or when it uses none.
    dataset: Option<String>,
    /// How far it is with its images.
    images: ImageCounts,
    /// How far it is with its tasks.
    tasks: TaskCounts,
    /// How many epochs a training job has finished.
    epochs_done: i64,
    /// Why it failed, why it is not planned yet, or what cancelled it.
    error: Option<String>,
    /// The schedule that submitted it; null when none did.
    schedule: Option<JobSchedule>,
    /// When it was submitted.
    created_at: DateTime<Utc>,
    /// When its tasks were frozen.
    planned_at: Option<DateTime<Utc>>,
    /// When it ended.
    finished_at: Option<DateTime<Utc>>,
    /// W3C trace context of the request that submitted it; its tasks belong to the same trace.
    traceparent: String,
}

/// What a job was submitted by.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobSchedule {
    /// The schedule's name.
    name: String,
    /// The fire time.
    fire_at: DateTime<Utc>,
    /// When the job has to have succeeded; null when the schedule has no deadline.
    deadline_at: Option<DateTime<Utc>>,
    /// Whether it had; null before. `missed` is the alarm.
    #[schema(value_type = Option<schema::DeadlineOutcome>)]
    deadline_outcome: Option<DeadlineOutcome>,
}

/// A job's images.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImageCounts {
    /// How many were selected; null until the job is planned.
    pub(super) total: Option<i64>,
    /// How many have a score.
    pub(super) scored: i64,
    /// How many could not be scored.
    pub(super) failed: i64,
}

/// A job's tasks, by state.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskCounts {
    total: i64,
    runnable: i64,
    dispatched: i64,
    running: i64,
    succeeded: i64,
    failed: i64,
    cancelled: i64,
}

/// One epoch of a training job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Epoch {
    /// Counted from 1.
    epoch: i32,
    /// Mean cross-entropy over the training split, augmented, while its weights changed.
    training_loss: f64,
    /// Share of training images that were right, augmented, while weights changed.
    training_accuracy: f64,
    /// Mean cross-entropy over the validation split after the epoch.
    validation_loss: f64,
    /// Share of validation images that were right after the epoch.
    validation_accuracy: f64,
    /// Mean over classes of F1 on the validation split after the epoch.
    validation_macro_f1: f64,
    /// The learning rate of the epoch.
    learning_rate: f64,
    /// How long the epoch took, validation included, in seconds.
    seconds: f64,
    /// Training images per second, validation not included.
    images_per_second: f64,
    /// What it ran on.
    #[schema(examples("cpu"))]
    device: String,
}

/// The epochs of a training job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EpochList {
    /// The first one first.
    epochs: Vec<Epoch>,
}

/// What a stage of the scoring pipeline did with its time. The three add up to the time that passed, summed over the job's workers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StageReport {
    /// The stage.
    #[schema(value_type = schema::Stage)]
    stage: Stage,
    /// It worked, in seconds. Decoding with several threads counts in part when some of them work.
    busy_seconds: f64,
    /// It waited for the stage before, in seconds.
    starved_seconds: f64,
    /// It waited for room, in memory or in the stage after, or for a task to end, in seconds.
    blocked_seconds: f64,
}

/// What limits a scoring job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StageList {
    /// In the order of an image's way; empty until a first task has been committed, and for other kinds of job.
    stages: Vec<StageReport>,
    /// The busiest: the one that the others wait for. Null where there is none.
    #[schema(value_type = Option<schema::Stage>)]
    limiting: Option<Stage>,
}

impl From<(Stage, StageSeconds)> for StageReport {
    fn from((stage, StageSeconds { busy, starved, blocked }): (Stage, StageSeconds)) -> Self {
        Self { stage, busy_seconds: busy, starved_seconds: starved, blocked_seconds: blocked }
    }
}

/// One page of jobs, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobPage {
    /// The jobs.
    jobs: Vec<Job>,
    /// Where the next page starts; null on the last one.
    next_cursor: Option<Uuid>,
}

/// Which jobs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListJobs {
    /// Only jobs in this state.
    #[param(value_type = Option<schema::JobState>)]
    state: Option<JobState>,
    /// Only jobs of this kind.
    #[param(value_type = Option<schema::JobKind>)]
    kind: Option<JobKind>,
    /// Only jobs that are paused (true), or that are not (false).
    paused: Option<bool>,
    /// Only jobs that score with, measure or made this model: `NAME`, `NAME@VERSION`; or that were submitted with this reference, as
    /// `NAME@ALIAS`.
    #[param(value_type = Option<String>)]
    model: Option<ModelRef>,
    /// Only jobs submitted since.
    since: Option<DateTime<Utc>>,
    /// The length of the page.
    #[serde(default = "default_page")]
    #[param(default = 50, minimum = 1, maximum = 500)]
    limit: u16,
    /// `next_cursor` of the page before.
    cursor: Option<Uuid>,
}

fn default_page() -> u16 {
    DEFAULT_PAGE
}

impl From<perito_database::Job> for Job {
    fn from(job: perito_database::Job) -> Self {
        let [runnable, dispatched, running, succeeded, failed, cancelled] = job.tasks;
        Self {
            id: job.id,
            kind: job.kind,
            state: job.state,
            spec: job.spec,
            priority: job.priority,
            concurrency: job.concurrency,
            paused_at: job.paused_at,
            model: job.model,
            dataset: job.dataset,
            images: ImageCounts { total: job.images_total, scored: job.images_scored, failed: job.images_failed },
            tasks: TaskCounts {
                total: job.tasks.iter().sum(),
                runnable,
                dispatched,
                running,
                succeeded,
                failed,
                cancelled,
            },
            epochs_done: job.epochs_done,
            error: job.error,
            schedule: job.schedule.map(|schedule| JobSchedule {
                name: schedule.name,
                fire_at: schedule.fire_at,
                deadline_at: schedule.deadline_at,
                deadline_outcome: schedule.deadline_outcome,
            }),
            created_at: job.created_at,
            planned_at: job.planned_at,
            finished_at: job.finished_at,
            traceparent: job.traceparent,
        }
    }
}

impl From<EpochRow> for Epoch {
    fn from(row: EpochRow) -> Self {
        Self {
            epoch: row.epoch,
            training_loss: row.training_loss,
            training_accuracy: row.training_accuracy,
            validation_loss: row.validation_loss,
            validation_accuracy: row.validation_accuracy,
            validation_macro_f1: row.validation_macro_f1,
            learning_rate: row.learning_rate,
            seconds: row.seconds,
            images_per_second: row.images_per_second,
            device: row.device,
        }
    }
}

/// Submit a job.
///
/// It is planned, and so its images and its model version are frozen, a moment later. With an `Idempotency-Key`,
/// submitting the same again gives the same job.
#[utoipa::path(
    post,
    path = "/v1/jobs",
    tag = "jobs",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 128 visible ASCII characters"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context that the job shall belong to"),
    ),
    request_body = SubmitJob,
    responses(
        (status = 201, description = "The job is queued", body = Job, headers(("location" = String, description = "The job's path"))),
        (status = 200, description = "This key has submitted the same before: that job", body = Job),
        (status = 409, description = "This key has submitted something else before", body = Problem,
         content_type = "application/problem+json"),
        refusals::Body,
        refusals::Any,
    ),
)]
async fn submit_job(
    State(app): State<App>,
    key: Option<IdempotencyKey>,
    Json(request): Json<SubmitJob>,
) -> Result<impl IntoResponse, Problem> {
    if request.priority > MAX_PRIORITY {
        return Err(Problem::invalid_field("priority", format!("is {}: expected 0 to 9", request.priority)));
    }
    let job = NewJob {
        id: Uuid::now_v7(),
        spec: JobSpec::parse(request.spec)?,
        priority: request.priority,
        idempotency_key: key.map(|key| key.0),
        traceparent: trace::current_traceparent(),
    };
    let submitted = app.database.submit(&job).await?;
    let status = if submitted.created {
        tracing::info!(job.id = %submitted.job.id, job.kind = %submitted.job.kind, "job submitted");
        app.wake.planner().notify_one();
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let location = format!("/v1/jobs/{}", submitted.job.id);
    Ok((status, [(header::LOCATION, location)], axum::Json(Job::from(submitted.job))))
}

/// List jobs, the newest first.
#[utoipa::path(
    get,
    path = "/v1/jobs",
    tag = "jobs",
    params(ListJobs),
    responses((status = 200, description = "A page of jobs", body = JobPage), refusals::Any),
)]
async fn list_jobs(State(app): State<App>, Query(query): Query<ListJobs>) -> Result<axum::Json<JobPage>, Problem> {
    if !(1..=MAX_PAGE).contains(&query.limit) {
        return Err(Problem::invalid_field("limit", format!("is {}: expected 1 to {MAX_PAGE}", query.limit)));
    }
    let filter = JobFilter {
        state: query.state,
        kind: query.kind,
        paused: query.paused,
        model: query.model,
        since: query.since,
        // One more than asked for tells whether there is a next page.
        limit: i64::from(query.limit) + 1,
        before: query.cursor,
    };
    let mut rows = app.database.list_jobs(&filter).await?;
    let more = rows.len() > usize::from(query.limit);
    rows.truncate(query.limit.into());
    let next_cursor = rows.last().filter(|_| more).map(|job| job.id);
    Ok(axum::Json(JobPage { jobs: rows.into_iter().map(Job::from).collect(), next_cursor }))
}

/// Show a job.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "The job", body = Job), refusals::NotFound, refusals::Any),
)]
async fn show_job(State(app): State<App>, Path(id): Path<Uuid>) -> Result<axum::Json<Job>, Problem> {
    Ok(axum::Json(app.database.job(id).await?.into()))
}

/// The epochs that a training job has finished.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/epochs",
    tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "Its epochs", body = EpochList), refusals::NotFound, refusals::Any),
)]
async fn list_epochs(State(app): State<App>, Path(id): Path<Uuid>) -> Result<axum::Json<EpochList>, Problem> {
    let rows = app.database.training_epochs(id).await?;
    if rows.is_empty() {
        // No epochs, or no job?
        app.database.job(id).await?;
    }
    Ok(axum::Json(EpochList { epochs: rows.into_iter().map(Epoch::from).collect() }))
}

/// What each stage of a scoring job has done with its time, over the tasks that have been committed.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/stages",
    tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "Its stages", body = StageList), refusals::NotFound, refusals::Any),
)]
async fn list_stages(State(app): State<App>, Path(id): Path<Uuid>) -> Result<axum::Json<StageList>, Problem> {
    let rows = app.database.job_stages(id).await?;
    if rows.is_empty() {
        // No stages, or no job?
        app.database.job(id).await?;
    }
    let limiting = stages::limiting(&rows);
    Ok(axum::Json(StageList { stages: rows.into_iter().map(StageReport::from).collect(), limiting }))
}

/// What a training job (its best epoch) or an evaluation job has measured.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/evaluation",
    tag = "jobs",
    params(("id" = Uuid, Path, description = "The job")),
    responses((status = 200, description = "The metrics", body = Evaluation), refusals::NotFound, refusals::Any),
)]
async fn show_evaluation(State(app): State<App>, Path(id): Path<Uuid>) -> Result<axum::Json<Evaluation>, Problem> {
    Ok(axum::Json(app.database.evaluation(id).await?.into()))
}
