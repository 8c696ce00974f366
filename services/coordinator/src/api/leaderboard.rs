//! The trials of a sweep, against each other.

use axum::extract::State;
use perito_database::Standing;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{App, extract::Path, problem::Problem, refusals};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show_leaderboard))
}

/// The trials of a sweep.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Leaderboard {
    /// From the best to the worst, then those that are not done.
    trials: Vec<Trial>,
}

/// One trial.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Trial {
    /// From 1, by macro F1; null while it is not done, or when it cannot be trained.
    rank: Option<i64>,
    /// Counted from 0, in the order of the specification.
    trial: i32,
    /// What it does not have in common with the others, by path.
    #[schema(value_type = Object, examples(json!({"optimizer.learning_rate": 0.001})))]
    parameters: Value,
    /// Training runs that measure it: the folds of a cross-validation, or one.
    runs: i64,
    /// How many of them are done.
    runs_done: i64,
    /// Mean over the runs of the best epoch's macro F1.
    macro_f1: Option<f64>,
    /// Its sample standard deviation over the folds.
    macro_f1_deviation: Option<f64>,
    /// Mean accuracy of the best epochs.
    accuracy: Option<f64>,
    /// Mean cross-entropy of the best epochs, in nats.
    log_loss: Option<f64>,
    /// Mean number of the best epoch.
    best_epoch: Option<f64>,
    /// Why it cannot be trained.
    error: Option<String>,
}

impl From<Standing> for Trial {
    fn from(standing: Standing) -> Self {
        Self {
            rank: standing.rank,
            trial: standing.trial,
            parameters: standing.parameters,
            runs: standing.runs,
            runs_done: standing.runs_done,
            macro_f1: standing.macro_f1,
            macro_f1_deviation: standing.macro_f1_deviation,
            accuracy: standing.accuracy,
            log_loss: standing.log_loss,
            best_epoch: standing.best_epoch,
            error: standing.error,
        }
    }
}

/// The trials of a sweep, from the best to the worst.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/leaderboard",
    tag = "jobs",
    params(("id" = Uuid, Path, description = "The sweep")),
    responses((status = 200, description = "Its trials", body = Leaderboard), refusals::NotFound, refusals::Any),
)]
async fn show_leaderboard(State(app): State<App>, Path(id): Path<Uuid>) -> Result<axum::Json<Leaderboard>, Problem> {
    let trials = app.database.leaderboard(id).await?;
    if trials.is_empty() {
        // No trials, or no job?
        app.database.job(id).await?;
    }
    Ok(axum::Json(Leaderboard { trials: trials.into_iter().map(Trial::from).collect() }))
}
