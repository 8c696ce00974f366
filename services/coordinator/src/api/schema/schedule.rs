//! Schedules, as the OpenAPI document shows them.

use utoipa::ToSchema;

use super::JobSpec;

/// When which job is submitted. Only the fields without a default are needed; unknown fields are refused by name.
#[derive(ToSchema)]
#[schema(example = json!({
    "name": "nightly", "cron": "0 2 * * *", "zone": "America/Mexico_City",
    "job": {"kind": "score", "model": "severity@production", "selection": {"by": "backlog"}},
    "priority": 6, "overlap": "skip", "missed": "run_once", "jitter_seconds": 0, "deadline": {"at": "07:00", "action": "alarm"},
}))]
pub(crate) struct ScheduleSpec {
    /// Its name: 1 to 64 lower-case letters, digits, '-', '_' or '.'.
    #[schema(examples("nightly"))]
    name: String,
    /// A cron expression of five fields: minute, hour, day of month, month, day of week.
    #[schema(examples("0 2 * * *"))]
    cron: String,
    /// The IANA time zone whose clocks the expression means.
    #[schema(examples("America/Mexico_City"))]
    zone: String,
    /// The job. What it refers to, such as a model's alias, is resolved anew when each job is planned.
    job: JobSpec,
    /// Of the jobs, 0 to 9.
    #[schema(default = 4, maximum = 9)]
    priority: Option<u8>,
    /// What happens when a fire time comes while a job of the schedule has not ended; skip when absent.
    overlap: Option<OverlapPolicy>,
    /// What happens to fire times at which nobody was there to fire; run_once when absent.
    missed: Option<MissedPolicy>,
    /// With catch_up: how far back missed runs are made up for.
    #[schema(minimum = 60, maximum = 2678400)]
    catch_up_window_seconds: Option<u32>,
    /// Each job is submitted up to so many seconds after its fire time.
    #[schema(default = 0, maximum = 3600)]
    jitter_seconds: Option<u32>,
    /// When each job has to be done.
    deadline: Option<Deadline>,
}

/// When a job has to be done.
#[derive(ToSchema)]
pub(crate) struct Deadline {
    /// A time of day in the schedule's zone: the first one after the fire time counts.
    #[schema(examples("07:00"))]
    at: String,
    /// What happens to a job that has not succeeded by then; alarm when absent.
    action: Option<DeadlineAction>,
}

/// What happens when a fire time comes while a job of the schedule has not ended.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OverlapPolicy {
    /// The fire time passes.
    Skip,
    /// One run waits; what comes while one waits passes.
    QueueOne,
    /// Jobs run beside one another.
    Allow,
    /// What is open is cancelled.
    CancelPrevious,
}

/// What happens to fire times at which nobody was there to fire.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MissedPolicy {
    /// They have passed.
    Skip,
    /// The last one of them is made up for.
    RunOnce,
    /// Each one within the window is made up for, one after another.
    CatchUp,
}

/// What happens to a job that has not succeeded at its deadline.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeadlineAction {
    /// A log line, a metric, and a mark on the run.
    Alarm,
    /// The same, and the job is cancelled.
    Cancel,
}

/// What a run came from.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FiredBy {
    /// Its fire time came.
    Clock,
    /// Somebody asked for it.
    Operator,
    /// Its fire time was filled in later.
    Backfill,
}

/// What became of a fire time.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunOutcome {
    /// Its job was submitted.
    Submitted,
    /// It waits until no job of the schedule is open.
    Waiting,
    /// It passed, for a job of the schedule was open.
    Skipped,
    /// It passed, for it was noticed too late.
    Missed,
}

/// What was found when a run's deadline came.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeadlineOutcome {
    /// Its job had succeeded.
    Met,
    /// It had not: the alarm.
    Missed,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use perito_domain::schedule as domain;
    use serde_json::json;
    use utoipa::PartialSchema;

    use super::{
        super::tests::{documented, fields, properties},
        *,
    };

    #[test]
    fn the_document_shows_every_field_of_a_schedule() {
        let spec = json!({
            "name": "n", "cron": "@daily", "zone": "UTC", "job": {"kind": "evaluate", "model": "m", "dataset": "d"},
            "missed": "catch_up", "catch_up_window_seconds": 60, "deadline": {"at": "07:00"},
        });
        let completed = domain::ScheduleSpec::parse(spec).unwrap().to_value().unwrap();
        assert_eq!(properties(&documented::<ScheduleSpec>(), None), fields(&completed));
        assert_eq!(properties(&documented::<Deadline>(), None), fields(&completed["deadline"]));
    }

    #[test]
    fn the_document_shows_every_value() {
        fn agree<T: PartialSchema>(names: impl Iterator<Item = &'static str>) {
            assert_eq!(documented::<T>()["enum"], json!(names.collect::<Vec<_>>()));
        }
        agree::<OverlapPolicy>(domain::OverlapPolicy::ALL.iter().map(|value| value.as_str()));
        agree::<MissedPolicy>(domain::MissedPolicy::ALL.iter().map(|value| value.as_str()));
        agree::<DeadlineAction>(domain::DeadlineAction::ALL.iter().map(|value| value.as_str()));
        agree::<FiredBy>(domain::FiredBy::ALL.iter().map(|value| value.as_str()));
        agree::<RunOutcome>(domain::RunOutcome::ALL.iter().map(|value| value.as_str()));
        agree::<DeadlineOutcome>(domain::DeadlineOutcome::ALL.iter().map(|value| value.as_str()));
    }
}
