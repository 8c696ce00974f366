//! Workers, and how things stand.

use chrono::Utc;
use comfy_table::Cell;

use super::{facts, number, optional, table, time};
use crate::api::{Queue, ScoringRun, Status, Worker};

/// The workers.
pub fn workers(workers: &[Worker]) -> String {
    if workers.is_empty() {
        return "no workers".to_owned();
    }
    let mut table = table(&["worker", "state", "runs", "kinds", "device", "version", "started (UTC)", "heard of"]);
    for worker in workers {
        let runs: Vec<String> = worker
            .running
            .iter()
            .map(|task| format!("{} of {} for {}", task.kind, task.job_id, duration(task.seconds)))
            .collect();
        let silent = (Utc::now() - worker.heartbeat_at).as_seconds_f64().max(0.0);
        table.add_row(vec![
            Cell::new(&worker.name),
            Cell::new(&worker.state),
            Cell::new(if runs.is_empty() { "-".to_owned() } else { runs.join("\n") }),
            Cell::new(worker.kinds.join(", ")),
            Cell::new(&worker.device),
            Cell::new(&worker.version),
            Cell::new(time(worker.started_at)),
            Cell::new(format!("{} ago", duration(silent))),
        ]);
    }
    table.to_string()
}

/// How things stand.
pub fn status(status: &Status) -> String {
    let mut queues = table(&["tasks", "runnable", "dispatched", "running", "oldest waits", "oldest runs", "ready"]);
    for Queue { kind, runnable, dispatched, running, oldest_runnable_seconds, oldest_running_seconds, ready } in
        &status.queues
    {
        queues.add_row(vec![
            Cell::new(kind),
            number(runnable),
            number(dispatched),
            number(running),
            number(optional(oldest_runnable_seconds.map(duration))),
            number(optional(oldest_running_seconds.map(duration))),
            number(ready.map_or_else(|| "unknown".to_owned(), |ready| ready.to_string())),
        ]);
    }
    let (jobs, rate, workers) = (status.jobs, status.images_per_second, status.workers);
    let dead =
        status.dead_letters.map_or_else(|| "unknown: RabbitMQ does not answer".to_owned(), |dead| dead.to_string());
    let facts = facts([
        (
            "jobs",
            Cell::new(format!("{} queued, {} running; {} of them paused", jobs.queued, jobs.running, jobs.paused)),
        ),
        (
            "images/s",
            Cell::new(format!(
                "{:.1} over 1 min, {:.1} over 5 min, {:.1} over 15 min",
                rate.minute, rate.five_minutes, rate.fifteen_minutes
            )),
        ),
        (
            "workers",
            Cell::new(format!(
                "{} busy, {} idle, {} draining, {} drained, {} silent",
                workers.busy, workers.idle, workers.draining, workers.drained, workers.silent
            )),
        ),
        ("dead letters", Cell::new(dead)),
        ("last scoring run", Cell::new(status.last_scoring_run.as_ref().map_or_else(|| "none".to_owned(), run))),
    ]);
    format!("{queues}\n{facts}")
}

fn run(run: &ScoringRun) -> String {
    let mut text = format!(
        "{} {} at {} UTC after {}\n{}: {} of {} images scored, {} failed",
        run.job_id,
        run.state,
        optional(run.finished_at.map(time)),
        optional(run.seconds.map(duration)),
        optional(run.model.as_deref()),
        run.images.scored,
        optional(run.images.total),
        run.images.failed,
    );
    if let Some(error) = &run.error {
        text.push('\n');
        text.push_str(error);
    }
    text
}

/// Such as `12 s`, `3 min 5 s` or `2 h 10 min`.
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_are_for_people() {
        assert_eq!([0.4, 59.6, 185.0, 7800.0].map(duration), ["0 s", "1 min 0 s", "3 min 5 s", "2 h 10 min"]);
    }

    #[test]
    fn the_status_says_what_is_known_and_what_is_not() {
        let sample = json!({
            "queues": [{"kind": "score", "runnable": 1200, "dispatched": 64, "running": 2, "oldest_runnable_seconds": 30.0,
                        "oldest_running_seconds": 12.0, "ready": null}],
            "dead_letters": null, "jobs": {"queued": 1, "running": 2, "paused": 1},
            "images_per_second": {"minute": 40.0, "five_minutes": 38.5, "fifteen_minutes": 12.0},
            "workers": {"idle": 0, "busy": 1, "draining": 0, "drained": 1, "silent": 0},
            "last_scoring_run": {"job_id": "0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11", "state": "failed", "model": "severity@3",
                "images": {"total": 100, "scored": 80, "failed": 20}, "created_at": "2026-10-01T02:00:00Z",
                "finished_at": "2026-10-01T02:10:00Z", "seconds": 600.0, "error": "too many images failed"},
        });
        let text = status(&serde_json::from_value(sample).unwrap());
        for part in
            ["1200", "unknown: RabbitMQ", "40.0 over 1 min", "1 of them paused", "80 of 100", "10 min 0 s", "too many"]
        {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }

    #[test]
    fn workers_say_what_they_run() {
        let sample = json!([{"name": "gpu-1", "state": "draining", "version": "0.1.0", "device": "cuda:0", "kinds": ["score"],
            "started_at": "2026-10-01T02:00:00Z", "heartbeat_at": "2026-10-01T02:00:00Z", "drained_at": null,
            "running": [{"task_id": "0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e12", "job_id": "0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11",
                         "kind": "score", "started_at": "2026-10-01T02:00:00Z", "seconds": 75.0}]}]);
        let list: Vec<Worker> = serde_json::from_value(sample).unwrap();
        let text = workers(&list);
        for part in ["gpu-1", "draining", "for 1 min 15 s", "cuda:0"] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert_eq!(workers(&[]), "no workers");
    }
}
