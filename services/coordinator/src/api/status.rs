//! How things stand, in one answer.

use axum::extract::State;
use chrono::{DateTime, Utc};
use perito_database::overview::TaskCount;
use perito_domain::lifecycle::{JobKind, JobState, TaskState};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    App,
    jobs::ImageCounts,
    problem::Problem,
    refusals, schema,
    workers::{WorkerState, workers},
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show_status))
}

/// How things stand.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Status {
    /// Open tasks, a row for each kind.
    queues: Vec<Queue>,
    /// Messages that nobody could read, for a person to look at; null when RabbitMQ has not answered for a while.
    dead_letters: Option<u64>,
    /// Jobs that have not ended.
    jobs: OpenJobs,
    /// Images scored.
    images_per_second: Throughput,
    /// Workers by what they are at.
    workers: WorkerCounts,
    /// The scoring job that ended last; null when there is none.
    last_scoring_run: Option<ScoringRun>,
}

/// Open tasks of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Queue {
    /// The kind.
    #[schema(value_type = schema::JobKind)]
    kind: JobKind,
    /// Tasks that wait for the dispatcher, those of paused jobs too.
    runnable: i64,
    /// Tasks that wait in RabbitMQ for a worker.
    dispatched: i64,
    /// Tasks that workers have.
    running: i64,
    /// How long the oldest runnable task has waited; null: there is none.
    oldest_runnable_seconds: Option<f64>,
    /// How long the oldest running task has been running; null: none runs.
    oldest_running_seconds: Option<f64>,
    /// Messages in RabbitMQ that no worker has; null when RabbitMQ has not answered for a while.
    ready: Option<u64>,
}

/// Jobs that have not ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpenJobs {
    /// Not planned yet.
    queued: i64,
    /// Planned.
    running: i64,
    /// Of both, those that are paused.
    paused: i64,
}

/// Images per second that scoring tasks have committed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Throughput {
    /// Over the last minute.
    minute: f64,
    /// Over the last five minutes.
    five_minutes: f64,
    /// Over the last fifteen minutes.
    fifteen_minutes: f64,
}

/// Workers by what they are at.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct WorkerCounts {
    idle: usize,
    busy: usize,
    draining: usize,
    drained: usize,
    /// Not heard of for a while.
    silent: usize,
}

/// A scoring job that has ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScoringRun {
    /// The job.
    job_id: Uuid,
    /// How it ended.
    #[schema(value_type = schema::JobState)]
    state: JobState,
    /// The model version.
    model: Option<String>,
    /// Its images.
    images: ImageCounts,
    /// When it was submitted.
    created_at: DateTime<Utc>,
    /// When it ended.
    finished_at: Option<DateTime<Utc>>,
    /// From submission to end.
    seconds: Option<f64>,
    /// Why it failed, if it did.
    error: Option<String>,
}

impl From<perito_database::Job> for ScoringRun {
    fn from(job: perito_database::Job) -> Self {
        let seconds = job.finished_at.map(|end| (end - job.created_at).as_seconds_f64());
        Self {
            job_id: job.id,
            state: job.state,
            model: job.model,
            images: ImageCounts { total: job.images_total, scored: job.images_scored, failed: job.images_failed },
            created_at: job.created_at,
            finished_at: job.finished_at,
            seconds,
            error: job.error,
        }
    }
}

fn queue(kind: JobKind, counts: &[TaskCount], ready: Option<u64>) -> Queue {
    let of = |state| counts.iter().find(|count| (count.kind, count.state) == (kind, state));
    let tasks = |state| of(state).map_or(0, |count| count.tasks);
    Queue {
        kind,
        runnable: tasks(TaskState::Runnable),
        dispatched: tasks(TaskState::Dispatched),
        running: tasks(TaskState::Running),
        oldest_runnable_seconds: of(TaskState::Runnable).map(|count| count.oldest_seconds),
        oldest_running_seconds: of(TaskState::Running).map(|count| count.oldest_seconds),
        ready,
    }
}

/// Show how things stand: queues, throughput, workers, the last scoring run.
#[utoipa::path(
    get,
    path = "/v1/status",
    tag = "operation",
    responses((status = 200, description = "How things stand", body = Status), refusals::Any),
)]
async fn show_status(State(app): State<App>) -> Result<axum::Json<Status>, Problem> {
    let counts = app.database.task_counts().await?;
    let jobs = app.database.open_jobs().await?;
    let throughput = app.database.throughput().await?;
    let depths = app.queues.recent();
    let mut by_state = WorkerCounts::default();
    for worker in workers(&app).await? {
        match worker.state() {
            WorkerState::Idle => by_state.idle += 1,
            WorkerState::Busy => by_state.busy += 1,
            WorkerState::Draining => by_state.draining += 1,
            WorkerState::Drained => by_state.drained += 1,
            WorkerState::Silent => by_state.silent += 1,
        }
    }
    let ready = |kind| depths.as_ref().and_then(|depths| depths.ready(kind));
    Ok(axum::Json(Status {
        queues: JobKind::ALL.iter().map(|kind| queue(*kind, &counts, ready(*kind))).collect(),
        dead_letters: depths.as_ref().map(|depths| depths.dead_letters),
        jobs: OpenJobs { queued: jobs.queued, running: jobs.running, paused: jobs.paused },
        images_per_second: Throughput {
            minute: throughput.minute,
            five_minutes: throughput.five_minutes,
            fifteen_minutes: throughput.fifteen_minutes,
        },
        workers: by_state,
        last_scoring_run: app.database.last_scoring_job().await?.map(ScoringRun::from),
    }))
}
