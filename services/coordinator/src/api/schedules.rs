//! Schedules: add, list, show, pause, resume, run now, fill in, remove; and what became of their fire times.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use chrono::{DateTime, FixedOffset, Utc};
use perito_database::ErrorKind;
use perito_domain::{
    lifecycle::JobState,
    limits::{DEFAULT_PAGE, MAX_PAGE},
    names::Name,
    schedule::{DeadlineAction, DeadlineOutcome, FiredBy, RunOutcome, ScheduleSpec, Timetable, backfill_times},
    spec::SpecError,
};
use perito_runtime::trace;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    App,
    extract::{Json, Path, Query},
    problem::Problem,
    refusals, schema,
};

/// How many fire times to come a schedule shows.
const NEXT_FIRES: usize = 5;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(add_schedule, list_schedules))
        .routes(routes!(show_schedule, remove_schedule))
        .routes(routes!(list_runs))
        .routes(routes!(pause_schedule))
        .routes(routes!(resume_schedule))
        .routes(routes!(run_schedule_now))
        .routes(routes!(backfill_schedule))
}

/// A schedule, as it is now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Schedule {
    /// What was asked for, completed.
    #[serde(flatten)]
    #[schema(value_type = schema::ScheduleSpec)]
    spec: Value,
    /// Since when its fire times pass unfired; null when it is not paused.
    paused_at: Option<DateTime<Utc>>,
    /// When it was added.
    created_at: DateTime<Utc>,
    /// The next fire times, without jitter; none while it is paused.
    next_fires: Vec<FireTime>,
    /// Its jobs that have not ended.
    open_jobs: Vec<Uuid>,
    /// How many of its runs wait for those.
    waiting_runs: i64,
}

/// A fire time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FireTime {
    /// In UTC.
    at: DateTime<Utc>,
    /// What clocks in the schedule's zone show then.
    local: DateTime<FixedOffset>,
}

/// Every schedule.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScheduleList {
    /// By name.
    schedules: Vec<Schedule>,
}

/// A fire time and what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Run {
    /// The time that the schedule names, or at which somebody asked.
    fire_at: DateTime<Utc>,
    /// The same in the schedule's zone.
    local_fire_at: DateTime<FixedOffset>,
    /// What it came from.
    #[schema(value_type = schema::FiredBy)]
    fired_by: FiredBy,
    /// What became of it.
    #[schema(value_type = schema::RunOutcome)]
    outcome: RunOutcome,
    /// Why nothing was submitted.
    reason: Option<String>,
    /// The job.
    job_id: Option<Uuid>,
    /// Where the job is now.
    #[schema(value_type = Option<schema::JobState>)]
    job_state: Option<JobState>,
    /// When it was decided what becomes of it.
    decided_at: DateTime<Utc>,
    /// When the job was submitted.
    submitted_at: Option<DateTime<Utc>>,
    /// When the job has to be done, if the schedule had a deadline.
    deadline: Option<RunDeadline>,
}

/// The deadline of a run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunDeadline {
    /// When the job has to be done.
    at: DateTime<Utc>,
    /// What happens when it is not.
    #[schema(value_type = schema::DeadlineAction)]
    action: DeadlineAction,
    /// Whether it was; null before. `missed` is the alarm.
    #[schema(value_type = Option<schema::DeadlineOutcome>)]
    outcome: Option<DeadlineOutcome>,
}

/// One page of runs, the newest fire time first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunPage {
    /// The runs.
    runs: Vec<Run>,
    /// Where the next page starts; null on the last one.
    next_before: Option<DateTime<Utc>>,
}

/// Which runs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListRuns {
    /// The length of the page.
    #[serde(default = "default_page")]
    #[param(default = 50, minimum = 1, maximum = 500)]
    limit: u16,
    /// Only fire times before this one: `next_before` of the page before.
    before: Option<DateTime<Utc>>,
}

fn default_page() -> u16 {
    DEFAULT_PAGE
}

/// Whether to do it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DryRun {
    /// Only says what would come of it.
    #[serde(default)]
    #[param(default = false)]
    dry_run: bool,
}

/// Which fire times to fill in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"from": "2026-10-01T00:00:00-06:00", "to": "2026-10-07T23:59:59-06:00"}))]
pub(crate) struct Backfill {
    /// The first moment that counts.
    from: DateTime<Utc>,
    /// The last one. What lies ahead is not filled in.
    to: DateTime<Utc>,
}

/// What a backfill does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackfillResult {
    /// Each fire time of the range, in order.
    runs: Vec<BackfillRun>,
    /// How many of them get a run.
    new: usize,
}

/// A fire time of a backfill.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackfillRun {
    /// The fire time.
    fire_at: DateTime<Utc>,
    /// The same in the schedule's zone.
    local_fire_at: DateTime<FixedOffset>,
    /// Whether it gets a run. It does not when it has one already.
    new: bool,
    /// The job that it has had.
    job_id: Option<Uuid>,
}

impl Schedule {
    fn new(schedule: &perito_database::Schedule, now: DateTime<Utc>) -> Result<Self, Problem> {
        let timetable = &schedule.spec.timetable;
        let shown = if schedule.paused_at.is_some() { 0 } else { NEXT_FIRES };
        Ok(Self {
            spec: schedule.spec.to_value().map_err(|_| Problem::internal())?,
            paused_at: schedule.paused_at,
            created_at: schedule.created_at,
            next_fires: timetable
                .after(now)
                .take(shown)
                .map(|at| FireTime { at, local: local(timetable, at) })
                .collect(),
            open_jobs: schedule.open_jobs.clone(),
            waiting_runs: schedule.waiting,
        })
    }
}

impl Run {
    fn new(timetable: &Timetable, run: perito_database::ScheduleRun) -> Self {
        let deadline = run.deadline_at.zip(run.deadline_action);
        Self {
            fire_at: run.fire_at,
            local_fire_at: local(timetable, run.fire_at),
            fired_by: run.fired_by,
            outcome: run.outcome,
            reason: run.reason,
            job_id: run.job_id,
            job_state: run.job_state,
            decided_at: run.decided_at,
            submitted_at: run.submitted_at,
            deadline: deadline.map(|(at, action)| RunDeadline { at, action, outcome: run.deadline_outcome }),
        }
    }
}

fn local(timetable: &Timetable, at: DateTime<Utc>) -> DateTime<FixedOffset> {
    at.with_timezone(&timetable.zone()).fixed_offset()
}

/// The fields of a schedule are at the top of the body.
fn wrong(error: SpecError) -> Problem {
    match error {
        SpecError::Invalid { field, problem } => Problem::invalid_field(field, problem),
        SpecError::NotAnObject => Problem::invalid(error.to_string()),
    }
}

/// Add a schedule.
///
/// Its first fire time is the next one. Adding the same again changes nothing.
#[utoipa::path(
    post,
    path = "/v1/schedules",
    tag = "schedules",
    params(DryRun),
    request_body = schema::ScheduleSpec,
    responses(
        (status = 201, description = "The schedule", body = Schedule, headers(("location" = String, description = "Its path"))),
        (status = 200, description = "It is there already, or this is a dry run", body = Schedule),
        (status = 409, description = "There is another one with this name", body = Problem, content_type = "application/problem+json"),
        refusals::Body,
        refusals::Any,
    ),
)]
async fn add_schedule(
    State(app): State<App>,
    Query(query): Query<DryRun>,
    Json(body): Json<Value>,
) -> Result<impl IntoResponse, Problem> {
    let spec = ScheduleSpec::parse(body).map_err(wrong)?;
    let location = [(header::LOCATION, format!("/v1/schedules/{}", spec.name))];
    let now = app.database.now().await?;
    if query.dry_run {
        let schedule = would_add(&app, spec, now).await?;
        return Ok((StatusCode::OK, location, axum::Json(Schedule::new(&schedule, now)?)));
    }
    let (schedule, created) = app.database.add_schedule(&spec, now).await?;
    if created {
        tracing::info!(schedule.name = %spec.name, "schedule added");
        app.wake.scheduler().notify_one();
    }
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, location, axum::Json(Schedule::new(&schedule, now)?)))
}

async fn would_add(app: &App, spec: ScheduleSpec, now: DateTime<Utc>) -> Result<perito_database::Schedule, Problem> {
    match app.database.schedule(&spec.name).await {
        Ok(there) if there.spec == spec => Ok(there),
        Ok(_) => Err(Problem::conflict(format!("there is a schedule {} that asks for something else", spec.name))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(perito_database::Schedule {
            id: 0,
            spec,
            decided_until: now,
            paused_at: None,
            created_at: now,
            open_jobs: Vec::new(),
            waiting: 0,
        }),
        Err(error) => Err(error.into()),
    }
}

/// List schedules, by name.
#[utoipa::path(
    get,
    path = "/v1/schedules",
    tag = "schedules",
    responses((status = 200, description = "Every schedule", body = ScheduleList), refusals::Any),
)]
async fn list_schedules(State(app): State<App>) -> Result<axum::Json<ScheduleList>, Problem> {
    let now = app.database.now().await?;
    let schedules = app.database.schedules().await?;
    let schedules = schedules.iter().map(|schedule| Schedule::new(schedule, now)).collect::<Result<_, _>>()?;
    Ok(axum::Json(ScheduleList { schedules }))
}

/// Show a schedule.
#[utoipa::path(
    get,
    path = "/v1/schedules/{name}",
    tag = "schedules",
    params(("name" = String, Path, description = "The schedule")),
    responses((status = 200, description = "The schedule", body = Schedule), refusals::NotFound, refusals::Any),
)]
async fn show_schedule(State(app): State<App>, Path(name): Path<Name>) -> Result<axum::Json<Schedule>, Problem> {
    let schedule = app.database.schedule(&name).await?;
    Ok(axum::Json(Schedule::new(&schedule, app.database.now().await?)?))
}

/// Remove a schedule.
///
/// Jobs that it has submitted go on; runs that wait are dropped; what became of its fire times stays for analysts.
#[utoipa::path(
    delete,
    path = "/v1/schedules/{name}",
    tag = "schedules",
    params(("name" = String, Path, description = "The schedule")),
    responses((status = 200, description = "What it was", body = Schedule), refusals::NotFound, refusals::Any),
)]
async fn remove_schedule(State(app): State<App>, Path(name): Path<Name>) -> Result<axum::Json<Schedule>, Problem> {
    let now = app.database.now().await?;
    let removed = app.database.remove_schedule(&name, now).await?;
    tracing::info!(schedule.name = %name, "schedule removed");
    Ok(axum::Json(Schedule::new(&removed, now)?))
}

/// List what became of a schedule's fire times, the newest first.
#[utoipa::path(
    get,
    path = "/v1/schedules/{name}/runs",
    tag = "schedules",
    params(("name" = String, Path, description = "The schedule"), ListRuns),
    responses((status = 200, description = "A page of runs", body = RunPage), refusals::NotFound, refusals::Any),
)]
async fn list_runs(
    State(app): State<App>,
    Path(name): Path<Name>,
    Query(query): Query<ListRuns>,
) -> Result<axum::Json<RunPage>, Problem> {
    if !(1..=MAX_PAGE).contains(&query.limit) {
        return Err(Problem::invalid_field("limit", format!("is {}: expected 1 to {MAX_PAGE}", query.limit)));
    }
    let schedule = app.database.schedule(&name).await?;
    // One more than asked for tells whether there is a next page.
    let mut runs = app.database.schedule_runs(schedule.id, query.before, i64::from(query.limit) + 1).await?;
    let more = runs.len() > usize::from(query.limit);
    runs.truncate(query.limit.into());
    let next_before = runs.last().filter(|_| more).map(|run| run.fire_at);
    let runs = runs.into_iter().map(|run| Run::new(&schedule.spec.timetable, run)).collect();
    Ok(axum::Json(RunPage { runs, next_before }))
}

/// Pause a schedule.
///
/// Its fire times pass unfired until it is resumed; runs that wait go on waiting.
#[utoipa::path(
    post,
    path = "/v1/schedules/{name}/pause",
    tag = "schedules",
    params(("name" = String, Path, description = "The schedule")),
    responses((status = 200, description = "The schedule, paused", body = Schedule), refusals::NotFound, refusals::Any),
)]
async fn pause_schedule(State(app): State<App>, Path(name): Path<Name>) -> Result<axum::Json<Schedule>, Problem> {
    let now = app.database.now().await?;
    let schedule = app.database.pause_schedule(&name, now).await?;
    tracing::info!(schedule.name = %name, "schedule paused");
    Ok(axum::Json(Schedule::new(&schedule, now)?))
}

/// Resume a schedule that is paused.
///
/// It fires from its next fire time on. What passed while it was paused can be filled in.
#[utoipa::path(
    post,
    path = "/v1/schedules/{name}/resume",
    tag = "schedules",
    params(("name" = String, Path, description = "The schedule")),
    responses((status = 200, description = "The schedule", body = Schedule), refusals::NotFound, refusals::Any),
)]
async fn resume_schedule(State(app): State<App>, Path(name): Path<Name>) -> Result<axum::Json<Schedule>, Problem> {
    let now = app.database.now().await?;
    let schedule = app.database.resume_schedule(&name, now).await?;
    tracing::info!(schedule.name = %name, "schedule resumed");
    app.wake.scheduler().notify_one();
    Ok(axum::Json(Schedule::new(&schedule, now)?))
}

/// Run a schedule's job now, even while it is paused.
///
/// Its overlap policy holds: with `skip`, a job that has not ended is a conflict.
#[utoipa::path(
    post,
    path = "/v1/schedules/{name}/run-now",
    tag = "schedules",
    params(("name" = String, Path, description = "The schedule")),
    responses(
        (status = 201, description = "The run", body = Run),
        refusals::NotFound,
        refusals::Conflict,
        refusals::Any,
    ),
)]
async fn run_schedule_now(
    State(app): State<App>,
    Path(name): Path<Name>,
) -> Result<(StatusCode, axum::Json<Run>), Problem> {
    let now = app.database.now().await?;
    let fired = app.database.run_schedule_now(&name, now, &trace::current_traceparent()).await?;
    tracing::info!(schedule.name = %name, job.id = fired.job_id.map(tracing::field::display), "schedule run by hand");
    app.wake.planner().notify_one();
    let schedule = app.database.schedule(&name).await?;
    let recorded = app.database.schedule_run(schedule.id, fired.fire_at).await?;
    Ok((StatusCode::CREATED, axum::Json(Run::new(&schedule.spec.timetable, recorded))))
}

/// Fill in runs for fire times that have none: that were missed, skipped, or came while the schedule was paused or did not exist.
///
/// They wait for one another, unless the schedule allows overlaps, and have no deadline. Asking again makes nothing twice.
#[utoipa::path(
    post,
    path = "/v1/schedules/{name}/backfill",
    tag = "schedules",
    params(("name" = String, Path, description = "The schedule"), DryRun),
    request_body = Backfill,
    responses(
        (status = 200, description = "Each fire time of the range", body = BackfillResult),
        refusals::NotFound,
        refusals::Body,
        refusals::Any,
    ),
)]
async fn backfill_schedule(
    State(app): State<App>,
    Path(name): Path<Name>,
    Query(query): Query<DryRun>,
    Json(range): Json<Backfill>,
) -> Result<axum::Json<BackfillResult>, Problem> {
    let (schedule, now) = (app.database.schedule(&name).await?, app.database.now().await?);
    let times = backfill_times(&schedule.spec, range.from, range.to, now).map_err(wrong)?;
    let filled = app.database.backfill_schedule(&name, &times, now, query.dry_run).await?;
    let timetable = &schedule.spec.timetable;
    let new = filled.iter().filter(|run| run.new).count();
    if !query.dry_run {
        tracing::info!(schedule.name = %name, runs.new = new, "schedule filled in");
        app.wake.scheduler().notify_one();
    }
    let runs = filled
        .into_iter()
        .map(|run| BackfillRun {
            fire_at: run.fire_at,
            local_fire_at: local(timetable, run.fire_at),
            new: run.new,
            job_id: run.job_id,
        })
        .collect();
    Ok(axum::Json(BackfillResult { runs, new }))
}
