//! Jobs and epochs.

use chrono::{DateTime, Utc};
use comfy_table::{Cell, Color};
use perito_domain::{
    lifecycle::{JobKind, JobState},
    schedule::DeadlineOutcome,
};

use super::{coloured, facts, metrics, number, optional, share, table, time};
use crate::api::{Epoch, Evaluation, ImageCounts, Job, StageList, StageReport, TaskCounts};

/// A page of jobs.
pub fn jobs(jobs: &[Job], colour: bool) -> String {
    if jobs.is_empty() {
        return "no jobs".to_owned();
    }
    let mut table = table(&["job", "kind", "state", "model", "dataset", "images", "failed", "created (UTC)", "took"]);
    for job in jobs {
        table.add_row(vec![
            Cell::new(job.id),
            Cell::new(job.kind),
            state(job, colour),
            Cell::new(optional(job.model.as_deref())),
            Cell::new(optional(job.dataset.as_deref())),
            number(images(job.kind, &job.images)),
            number(job.images.failed),
            Cell::new(time(job.created_at)),
            number(took(job)),
        ]);
    }
    table.to_string()
}

/// One job, with what it has produced.
pub fn job(job: &Job, epochs: &[Epoch], evaluation: Option<&Evaluation>, colour: bool) -> String {
    let mut rows = vec![("job", Cell::new(job.id)), ("kind", Cell::new(job.kind)), ("state", state(job, colour))];
    if let Some(error) = &job.error {
        rows.push(("error", coloured(error, Color::Red, colour)));
    }
    if let Some(schedule) = &job.schedule {
        rows.push(("schedule", Cell::new(format!("{}, for {} UTC", schedule.name, time(schedule.fire_at)))));
        if let Some(at) = schedule.deadline_at {
            rows.push(("deadline (UTC)", deadline(at, schedule.deadline_outcome, colour)));
        }
    }
    let asked = |field: &str| job.spec.get(field).and_then(|value| value.as_str()).map(str::to_owned);
    rows.extend([
        ("model", Cell::new(optional(job.model.clone().or_else(|| asked("model"))))),
        ("dataset", Cell::new(optional(job.dataset.clone().or_else(|| asked("dataset"))))),
        ("priority", Cell::new(job.priority)),
    ]);
    if let Some(limit) = job.concurrency {
        rows.push(("tasks at once", Cell::new(format!("at most {limit}"))));
    }
    if job.kind == JobKind::Train {
        let planned = job.spec.get("epochs").and_then(serde_json::Value::as_u64);
        rows.push(("epochs", Cell::new(format!("{}/{}", job.epochs_done, optional(planned)))));
    } else {
        rows.push(("images", Cell::new(images(job.kind, &job.images))));
        rows.push(("images failed", Cell::new(job.images.failed)));
    }
    rows.extend([
        ("tasks", Cell::new(tasks(&job.tasks))),
        ("created (UTC)", Cell::new(time(job.created_at))),
        ("planned (UTC)", Cell::new(optional(job.planned_at.map(time)))),
        ("finished (UTC)", Cell::new(optional(job.finished_at.map(time)))),
        ("took", Cell::new(took(job))),
    ]);
    let mut text = facts(rows).to_string();
    if !epochs.is_empty() {
        text.push('\n');
        text.push_str(&self::epochs(epochs));
    }
    if let Some(evaluation) = evaluation {
        text.push('\n');
        text.push_str(&metrics::evaluation(evaluation));
    }
    text
}

/// The epochs of a training job.
pub fn epochs(epochs: &[Epoch]) -> String {
    let mut table = table(&[
        "epoch",
        "training loss",
        "accuracy",
        "validation loss",
        "accuracy",
        "macro F1",
        "learning rate",
        "seconds",
        "images/s",
    ]);
    for epoch in epochs {
        table.add_row(vec![
            number(epoch.epoch),
            number(format!("{:.4}", epoch.training_loss)),
            share(epoch.training_accuracy),
            number(format!("{:.4}", epoch.validation_loss)),
            share(epoch.validation_accuracy),
            share(epoch.validation_macro_f1),
            number(format!("{:.3e}", epoch.learning_rate)),
            number(format!("{:.1}", epoch.seconds)),
            number(format!("{:.1}", epoch.images_per_second)),
        ]);
    }
    table.to_string()
}

/// What each stage of a scoring job did with its time, as shares of it.
pub fn stages(list: &StageList) -> String {
    if list.stages.is_empty() {
        return "no task of a scoring job has been committed yet".to_owned();
    }
    let mut table = table(&["stage", "busy", "starved", "blocked", "seconds"]);
    for StageReport { stage, busy_seconds, starved_seconds, blocked_seconds } in &list.stages {
        let total = busy_seconds + starved_seconds + blocked_seconds;
        let percent = |seconds: &f64| number(format!("{:.1} %", 100.0 * seconds / total.max(f64::MIN_POSITIVE)));
        table.add_row(vec![
            Cell::new(stage),
            percent(busy_seconds),
            percent(starved_seconds),
            percent(blocked_seconds),
            number(format!("{total:.1}")),
        ]);
    }
    match list.limiting {
        Some(stage) => format!("{table}\nthe others wait for: {stage}"),
        None => table.to_string(),
    }
}

/// One epoch in a line, as it comes.
pub fn epoch_line(epoch: &Epoch, total: Option<u64>) -> String {
    format!(
        "epoch {:>3}/{}  training loss {:.4}, accuracy {:.3}  validation loss {:.4}, accuracy {:.3}, macro F1 {:.3}  \
         {:.1} s, {:.1} images/s",
        epoch.epoch,
        optional(total),
        epoch.training_loss,
        epoch.training_accuracy,
        epoch.validation_loss,
        epoch.validation_accuracy,
        epoch.validation_macro_f1,
        epoch.seconds,
        epoch.images_per_second,
    )
}

fn state(job: &Job, colour: bool) -> Cell {
    if job.paused_at.is_some() {
        return coloured(format!("{} (paused)", job.state), Color::Yellow, colour);
    }
    let state = job.state;
    let shade = match state {
        JobState::Queued => return Cell::new(state),
        JobState::Running => Color::Cyan,
        JobState::Succeeded => Color::Green,
        JobState::Failed => Color::Red,
        JobState::Cancelled => Color::Yellow,
    };
    coloured(state, shade, colour)
}

fn deadline(at: DateTime<Utc>, outcome: Option<DeadlineOutcome>, colour: bool) -> Cell {
    match outcome {
        None => Cell::new(time(at)),
        Some(DeadlineOutcome::Met) => Cell::new(format!("{}, met", time(at))),
        Some(DeadlineOutcome::Missed) => coloured(format!("{}, MISSED", time(at)), Color::Red, colour),
    }
}

fn images(kind: JobKind, images: &ImageCounts) -> String {
    let total = optional(images.total);
    if matches!(kind, JobKind::Train | JobKind::Sweep) {
        total
    } else {
        format!("{}/{total}", images.scored + images.failed)
    }
}

/// Such as `24: 9 succeeded, 2 running, 13 runnable`.
fn tasks(tasks: &TaskCounts) -> String {
    let parts: Vec<String> = [
        (tasks.succeeded, "succeeded"),
        (tasks.failed, "failed"),
        (tasks.cancelled, "cancelled"),
        (tasks.running, "running"),
        (tasks.dispatched, "dispatched"),
        (tasks.runnable, "runnable"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, state)| format!("{count} {state}"))
    .collect();
    if parts.is_empty() { tasks.total.to_string() } else { format!("{}: {}", tasks.total, parts.join(", ")) }
}

/// From submission to the end, or until now.
fn took(job: &Job) -> String {
    let end: DateTime<Utc> = job.finished_at.unwrap_or_else(Utc::now);
    let seconds = (end - job.created_at).as_seconds_f64().max(0.0);
    if seconds < 100.0 { format!("{seconds:.1} s") } else { format!("{:.1} min", seconds / 60.0) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn sample(state: &str) -> Job {
        let value: Value = json!({
            "id": "0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11", "kind": "score", "state": state,
            "spec": {"kind": "score", "model": "severity@production"}, "priority": 4, "model": null, "dataset": null,
            "images": {"total": 120, "scored": 44, "failed": 2},
            "tasks": {"total": 3, "runnable": 1, "dispatched": 0, "running": 1, "succeeded": 1, "failed": 0, "cancelled": 0},
            "epochs_done": 0, "error": "too many images failed",
            "schedule": {"name": "nightly", "fire_at": "2026-10-01T02:00:00Z", "deadline_at": "2026-10-01T07:00:00Z",
                         "deadline_outcome": "missed"},
            "created_at": "2026-10-01T02:00:00Z",
            "planned_at": null, "finished_at": "2026-10-01T02:00:09.500Z", "traceparent": "", "later": "ignored",
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_job_says_how_far_it_is() {
        let text = job(&sample("failed"), &[], None, false);
        for part in [
            "46/120",
            "3: 1 succeeded, 1 running, 1 runnable",
            "too many images failed",
            "severity@production",
            "9.5 s",
            "nightly, for 2026-10-01 02:00:00 UTC",
            "07:00:00, MISSED",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        let listed = jobs(&[sample("failed")], false);
        assert!(listed.contains("0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11") && listed.contains("46/120"), "{listed}");
        assert_eq!(jobs(&[], false), "no jobs");
    }

    #[test]
    fn stages_say_what_the_run_waits_for() {
        let list = json!({"limiting": "infer", "stages": [
            {"stage": "fetch", "busy_seconds": 1.0, "starved_seconds": 0.5, "blocked_seconds": 6.5},
            {"stage": "infer", "busy_seconds": 7.8, "starved_seconds": 0.2, "blocked_seconds": 0.0},
        ]});
        let text = stages(&serde_json::from_value(list).unwrap());
        for part in ["12.5 %", "81.2 %", "97.5 %", "the others wait for: infer"] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        assert!(!jobs(&[sample("succeeded")], false).contains('\u{1b}'));
    }
}
