//! Messages that nobody could act on: looking at them, sending them again, dropping them.

use std::collections::BTreeMap;

use axum::extract::State;
use chrono::{DateTime, Utc};
use perito_broker::ErrorKind;
use perito_domain::{lifecycle::JobKind, limits::MAX_PAGE};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    App,
    extract::{Path, Query},
    problem::Problem,
    refusals, schema,
};

/// What of a long body is shown.
const SHOWN_BYTES: usize = 16 * 1024;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_dead_letters))
        .routes(routes!(show_dead_letter, drop_dead_letter))
        .routes(routes!(replay_dead_letter))
}

/// A message that nobody could act on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "8f3a1c5e9b7d2f40", "queue": "perito.dead-letter", "died_in": "perito.score", "reason": "rejected",
    "died_at": "2026-10-01T02:00:31Z", "bytes": 10, "problem": "unknown schema version 99: this build reads version 1",
    "task": null, "headers": {"x-first-death-reason": "rejected"}, "text": null, "hex": "0863", "truncated": false,
}))]
pub(crate) struct DeadLetter {
    /// Names it; copies of one message have one id.
    id: String,
    /// The queue in which it waits.
    queue: String,
    /// The queue that it came from; null when it does not say.
    died_in: Option<String>,
    /// Why it left that queue, in RabbitMQ's words.
    reason: Option<String>,
    /// When.
    died_at: Option<DateTime<Utc>>,
    /// The length of its body.
    bytes: usize,
    /// Why it is no task's message that this release can read; null when it is one.
    problem: Option<String>,
    /// What it says, when it is a task's message.
    task: Option<Task>,
    /// All of its headers, as text.
    headers: BTreeMap<String, String>,
    /// Its body, when that is text.
    text: Option<String>,
    /// Its body in hexadecimal.
    hex: String,
    /// Whether `text` and `hex` are only the beginning of it.
    truncated: bool,
}

/// What a task's message says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Task {
    /// The job.
    job_id: Uuid,
    /// The task.
    task_id: Uuid,
    /// Its kind.
    #[schema(value_type = schema::JobKind)]
    kind: JobKind,
    /// The attempt that it is for.
    attempt: u32,
}

/// Dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterList {
    /// The oldest first.
    dead_letters: Vec<DeadLetter>,
}

/// What became of the dead letters with an id.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"id": "8f3a1c5e9b7d2f40", "messages": 1}))]
pub(crate) struct Settled {
    /// Their id.
    id: String,
    /// How many there were.
    messages: usize,
}

impl From<perito_broker::DeadLetter> for DeadLetter {
    fn from(letter: perito_broker::DeadLetter) -> Self {
        let shown = &letter.body[..letter.body.len().min(SHOWN_BYTES)];
        let (task, problem) = match letter.task {
            Ok(message) => {
                let (job_id, task_id, kind) = (message.job_id, message.task_id, message.kind);
                (Some(Task { job_id, task_id, kind, attempt: message.attempt_hint }), None)
            }
            Err(problem) => (None, Some(problem)),
        };
        Self {
            id: letter.id,
            queue: letter.queue,
            died_in: letter.died_in,
            reason: letter.reason,
            died_at: letter.died_at.and_then(|at| DateTime::from_timestamp(i64::try_from(at).ok()?, 0)),
            bytes: letter.body.len(),
            problem,
            task,
            headers: letter.headers,
            text: std::str::from_utf8(shown).ok().filter(|text| !text.contains('\0')).map(str::to_owned),
            hex: hex::encode(shown),
            truncated: letter.body.len() > shown.len(),
        }
    }
}

impl From<perito_broker::Error> for Problem {
    fn from(error: perito_broker::Error) -> Self {
        tracing::warn!(error.message = %error, "broker refused a request");
        match error.kind() {
            ErrorKind::Unavailable => Self::unavailable(error.to_string()),
            ErrorKind::Unroutable | ErrorKind::Invalid => Self::conflict(error.to_string()),
            ErrorKind::Refused => Self::internal(),
        }
    }
}

/// Which dead letters to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListDeadLetters {
    /// The most of each queue.
    #[serde(default = "default_limit")]
    #[param(default = 50, minimum = 1, maximum = 500)]
    limit: u16,
}

fn default_limit() -> u16 {
    50
}

fn none(id: &str) -> Problem {
    Problem::not_found(format!("there is no dead letter {id:?}: see `perito dlq list`"))
}

/// List dead letters, the oldest first. They stay where they are.
#[utoipa::path(
    get,
    path = "/v1/dead-letters",
    tag = "operation",
    params(ListDeadLetters),
    responses((status = 200, description = "The dead letters", body = DeadLetterList), refusals::Any),
)]
async fn list_dead_letters(
    State(app): State<App>,
    Query(query): Query<ListDeadLetters>,
) -> Result<axum::Json<DeadLetterList>, Problem> {
    if !(1..=MAX_PAGE).contains(&query.limit) {
        return Err(Problem::invalid_field("limit", format!("is {}: expected 1 to {MAX_PAGE}", query.limit)));
    }
    let letters = app.dead_letters.list(query.limit.into()).await?;
    Ok(axum::Json(DeadLetterList { dead_letters: letters.into_iter().map(DeadLetter::from).collect() }))
}

/// Show a dead letter. It stays where it is.
#[utoipa::path(
    get,
    path = "/v1/dead-letters/{id}",
    tag = "operation",
    params(("id" = String, Path, description = "The dead letter")),
    responses((status = 200, description = "The dead letter", body = DeadLetter), refusals::NotFound, refusals::Any),
)]
async fn show_dead_letter(State(app): State<App>, Path(id): Path<String>) -> Result<axum::Json<DeadLetter>, Problem> {
    let letter = app.dead_letters.find(&id).await?.ok_or_else(|| none(&id))?;
    Ok(axum::Json(letter.into()))
}

/// Send a dead letter, and its copies, to where it came from.
///
/// It leaves the dead-letter queue once the broker has confirmed that it holds the message again.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/{id}/replay",
    tag = "operation",
    params(("id" = String, Path, description = "The dead letter")),
    responses(
        (status = 200, description = "It was sent again", body = Settled),
        refusals::NotFound,
        refusals::Conflict,
        refusals::Any,
    ),
)]
async fn replay_dead_letter(State(app): State<App>, Path(id): Path<String>) -> Result<axum::Json<Settled>, Problem> {
    settled(id.clone(), app.dead_letters.replay(&id).await?, "sent again")
}

/// Drop a dead letter, and its copies.
#[utoipa::path(
    delete,
    path = "/v1/dead-letters/{id}",
    tag = "operation",
    params(("id" = String, Path, description = "The dead letter")),
    responses((status = 200, description = "It is gone", body = Settled), refusals::NotFound, refusals::Any),
)]
async fn drop_dead_letter(State(app): State<App>, Path(id): Path<String>) -> Result<axum::Json<Settled>, Problem> {
    settled(id.clone(), app.dead_letters.remove(&id).await?, "dropped")
}

fn settled(id: String, messages: usize, what: &str) -> Result<axum::Json<Settled>, Problem> {
    if messages == 0 {
        return Err(none(&id));
    }
    tracing::info!(dead_letter.id = id, messages, "dead letter {what}");
    Ok(axum::Json(Settled { id, messages }))
}
