//! The registry of workers.

use axum::extract::State;
use chrono::{DateTime, Utc};
use perito_domain::lifecycle::JobKind;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{App, extract::Path, problem::Problem, refusals, schema};

/// Workers report every two seconds: one that missed several reports may be gone.
const SILENT_AFTER_SECONDS: f64 = 15.0;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list_workers)).routes(routes!(drain_worker)).routes(routes!(undrain_worker))
}

/// What a worker is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WorkerState {
    /// It waits for tasks.
    Idle,
    /// It runs tasks.
    Busy,
    /// It is to take nothing new, and finishes what it has.
    Draining,
    /// It is to take nothing new, and has nothing.
    Drained,
    /// It was not heard of for a while. It is forgotten after ten minutes; a drained one after a day.
    Silent,
}

/// A worker.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "name": "gpu-1-4711", "state": "busy", "version": "0.1.0", "device": "cuda:0", "kinds": ["train", "score"],
    "started_at": "2026-10-01T01:50:00Z", "heartbeat_at": "2026-10-01T02:10:00Z", "drained_at": null,
    "running": [{"task_id": "0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e12", "job_id": "0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11",
                 "kind": "score", "started_at": "2026-10-01T02:09:48Z", "seconds": 12.1}],
}))]
pub(crate) struct Worker {
    /// Its name.
    name: String,
    /// What it is at.
    state: WorkerState,
    /// The release.
    version: String,
    /// What it computes on.
    device: String,
    /// The kinds of task that it takes.
    #[schema(value_type = Vec<schema::JobKind>)]
    kinds: Vec<JobKind>,
    /// When the process began.
    started_at: DateTime<Utc>,
    /// When it was heard of last.
    heartbeat_at: DateTime<Utc>,
    /// Since when it is to take nothing new; null: it takes tasks.
    drained_at: Option<DateTime<Utc>>,
    /// The tasks in its hands, the oldest first.
    running: Vec<RunningTask>,
}

/// A task in a worker's hands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunningTask {
    /// The task.
    task_id: Uuid,
    /// Its job.
    job_id: Uuid,
    /// Its kind.
    #[schema(value_type = schema::JobKind)]
    kind: JobKind,
    /// Since when.
    started_at: DateTime<Utc>,
    /// How long that is.
    seconds: f64,
}

/// The workers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerList {
    /// By name.
    workers: Vec<Worker>,
}

impl Worker {
    pub(super) fn state(&self) -> WorkerState {
        self.state
    }
}

impl From<perito_database::Worker> for Worker {
    fn from(worker: perito_database::Worker) -> Self {
        // Until it has heard of it, it may be about to take another task.
        let told = worker.drained_at.is_none_or(|at| worker.heartbeat_at > at);
        let state = match (worker.drained_at.is_some(), worker.running.is_empty() && told) {
            _ if worker.silent_seconds > SILENT_AFTER_SECONDS => WorkerState::Silent,
            (false, true) => WorkerState::Idle,
            (false, false) => WorkerState::Busy,
            (true, false) => WorkerState::Draining,
            (true, true) => WorkerState::Drained,
        };
        let running = worker.running.into_iter().map(|task| RunningTask {
            task_id: task.task_id,
            job_id: task.job_id,
            kind: task.kind,
            started_at: task.started_at,
            seconds: task.seconds,
        });
        Self {
            name: worker.name,
            state,
            version: worker.version,
            device: worker.device,
            kinds: worker.kinds,
            started_at: worker.started_at,
            heartbeat_at: worker.heartbeat_at,
            drained_at: worker.drained_at,
            running: running.collect(),
        }
    }
}

/// The workers of the database, by name.
pub(super) async fn workers(app: &App) -> Result<Vec<Worker>, Problem> {
    Ok(app.database.list_workers().await?.into_iter().map(Worker::from).collect())
}

/// List the workers that live, or did a moment ago.
#[utoipa::path(
    get,
    path = "/v1/workers",
    tag = "operation",
    responses((status = 200, description = "The workers", body = WorkerList), refusals::Any),
)]
async fn list_workers(State(app): State<App>) -> Result<axum::Json<WorkerList>, Problem> {
    Ok(axum::Json(WorkerList { workers: workers(&app).await? }))
}

/// Let a worker take nothing new and finish what it has.
///
/// It learns of it within seconds. It stays drained until it is undrained, over restarts under the same name too.
#[utoipa::path(
    post,
    path = "/v1/workers/{worker}/drain",
    tag = "operation",
    params(("worker" = String, Path, description = "The worker's name")),
    responses((status = 200, description = "The worker", body = Worker), refusals::NotFound, refusals::Any),
)]
async fn drain_worker(State(app): State<App>, Path(worker): Path<String>) -> Result<axum::Json<Worker>, Problem> {
    drain(&app, &worker, true).await
}

/// Let a drained worker take tasks again.
#[utoipa::path(
    post,
    path = "/v1/workers/{worker}/undrain",
    tag = "operation",
    params(("worker" = String, Path, description = "The worker's name")),
    responses((status = 200, description = "The worker", body = Worker), refusals::NotFound, refusals::Any),
)]
async fn undrain_worker(State(app): State<App>, Path(worker): Path<String>) -> Result<axum::Json<Worker>, Problem> {
    drain(&app, &worker, false).await
}

async fn drain(app: &App, name: &str, drain: bool) -> Result<axum::Json<Worker>, Problem> {
    app.database.drain_worker(name, drain).await?;
    tracing::info!(worker.name = name, worker.drain = drain, "worker told to take nothing new, or to go on");
    let found = workers(app).await?.into_iter().find(|worker| worker.name == name);
    found.map(axum::Json).ok_or_else(|| Problem::not_found(format!("worker {name:?} has just ended")))
}
