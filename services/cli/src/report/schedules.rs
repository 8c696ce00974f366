//! Schedules and their runs.

use chrono::{DateTime, FixedOffset};
use comfy_table::{Cell, Color};
use perito_domain::schedule::{DeadlineOutcome, RunOutcome};
use serde_json::Value;

use super::{coloured, facts, number, optional, table, time};
use crate::api::schedules::{Backfill, FireTime, Run, RunDeadline, Schedule};

/// Every schedule.
pub fn schedules(schedules: &[Schedule], colour: bool) -> String {
    if schedules.is_empty() {
        return "no schedules".to_owned();
    }
    let mut table = table(&["schedule", "cron", "zone", "job", "next (local)", "next (UTC)", "open", "waiting"]);
    for schedule in schedules {
        let next = schedule.next_fires.first();
        let paused = || coloured("paused", Color::Yellow, colour);
        table.add_row(vec![
            Cell::new(&schedule.name),
            Cell::new(&schedule.cron),
            Cell::new(&schedule.zone),
            Cell::new(job(&schedule.job)),
            next.map_or_else(paused, |next| Cell::new(local(next.local))),
            Cell::new(optional(next.map(|next| time(next.at)))),
            number(schedule.open_jobs.len()),
            number(schedule.waiting_runs),
        ]);
    }
    table.to_string()
}

/// One schedule, with its next fire times and, where they are given, its last runs.
pub fn schedule(schedule: &Schedule, last: Option<&[Run]>, colour: bool) -> String {
    let state = match schedule.paused_at {
        None => Cell::new("active"),
        Some(at) => coloured(format!("paused since {} UTC: fire times pass unfired", time(at)), Color::Yellow, colour),
    };
    let missed = match schedule.catch_up_window_seconds {
        None => schedule.missed.to_string(),
        Some(seconds) => format!("{}, {} back", schedule.missed, span(seconds)),
    };
    let deadline = schedule.deadline.map(|deadline| format!("{}, {}", deadline.at.format("%H:%M"), deadline.action));
    let open: Vec<_> = schedule.open_jobs.iter().map(ToString::to_string).collect();
    let jitter = (schedule.jitter_seconds > 0).then(|| format!("up to {}", span(schedule.jitter_seconds)));
    let rows = [
        ("schedule", Cell::new(&schedule.name)),
        ("state", state),
        ("cron", Cell::new(&schedule.cron)),
        ("zone", Cell::new(&schedule.zone)),
        ("job", Cell::new(job(&schedule.job))),
        ("priority", Cell::new(schedule.priority)),
        ("overlap", Cell::new(schedule.overlap)),
        ("missed", Cell::new(missed)),
        ("jitter", Cell::new(optional(jitter))),
        ("deadline", Cell::new(optional(deadline))),
        ("open jobs", Cell::new(if open.is_empty() { "-".to_owned() } else { open.join("\n") })),
        ("waiting runs", Cell::new(schedule.waiting_runs)),
        ("created (UTC)", Cell::new(time(schedule.created_at))),
    ];
    let mut text = facts(rows).to_string();
    if !schedule.next_fires.is_empty() {
        text.push('\n');
        text.push_str(&fires(&schedule.next_fires));
    }
    if let Some(last) = last {
        text.push('\n');
        text.push_str(&runs(last, colour));
    }
    text
}

fn fires(fires: &[FireTime]) -> String {
    let mut table = table(&["fires next (local)", "UTC"]);
    for fire in fires {
        table.add_row(vec![Cell::new(local(fire.local)), Cell::new(time(fire.at))]);
    }
    table.to_string()
}

/// What became of fire times.
pub fn runs(runs: &[Run], colour: bool) -> String {
    if runs.is_empty() {
        return "no runs yet".to_owned();
    }
    let mut table = table(&["fire time (local)", "fired by", "outcome", "job", "job state", "deadline", "reason"]);
    for run in runs {
        let outcome = match run.outcome {
            RunOutcome::Submitted => Cell::new(run.outcome),
            RunOutcome::Waiting => coloured(run.outcome, Color::Cyan, colour),
            RunOutcome::Skipped | RunOutcome::Missed => coloured(run.outcome, Color::Yellow, colour),
        };
        table.add_row(vec![
            Cell::new(local(run.local_fire_at)),
            Cell::new(run.fired_by),
            outcome,
            Cell::new(optional(run.job_id)),
            Cell::new(optional(run.job_state)),
            deadline(run.deadline.as_ref(), colour),
            Cell::new(optional(run.reason.as_deref())),
        ]);
    }
    table.to_string()
}

fn deadline(deadline: Option<&RunDeadline>, colour: bool) -> Cell {
    match deadline.map(|deadline| (deadline, deadline.outcome)) {
        None => Cell::new("-"),
        Some((deadline, None)) => Cell::new(format!("{} UTC", time(deadline.at))),
        Some((_, Some(DeadlineOutcome::Met))) => Cell::new("met"),
        Some((_, Some(DeadlineOutcome::Missed))) => coloured("MISSED", Color::Red, colour),
    }
}

/// What a backfill does.
pub fn backfill(backfill: &Backfill, colour: bool) -> String {
    let mut table = table(&["fire time (local)", "UTC", "what"]);
    for run in &backfill.runs {
        let what = match (run.new, run.job_id) {
            (true, _) => coloured("submit", Color::Green, colour),
            (false, Some(job)) => Cell::new(format!("has had job {job}")),
            (false, None) => Cell::new("waits already"),
        };
        table.add_row(vec![Cell::new(local(run.local_fire_at)), Cell::new(time(run.fire_at)), what]);
    }
    table.to_string()
}

fn local(at: DateTime<FixedOffset>) -> String {
    at.format("%a %Y-%m-%d %H:%M:%S %:z").to_string()
}

fn span(seconds: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}

/// Such as `score severity@production (backlog)`.
fn job(spec: &Value) -> String {
    let text = |path: &str| spec.pointer(path).and_then(Value::as_str);
    let about = text("/model").or_else(|| text("/train/model")).unwrap_or_default();
    let what = text("/selection/by").or_else(|| text("/dataset"));
    let what = what.map(|what| format!(" ({what})")).unwrap_or_default();
    format!("{} {about}{what}", text("/kind").unwrap_or_default()).trim_end().to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(paused: bool) -> Schedule {
        let fires = [json!({"at": "2026-10-02T08:00:00Z", "local": "2026-10-02T02:00:00-06:00"})];
        serde_json::from_value(json!({
            "name": "nightly", "cron": "0 2 * * *", "zone": "America/Mexico_City",
            "job": {"kind": "score", "model": "severity@production", "selection": {"by": "backlog"}},
            "priority": 4, "overlap": "skip", "missed": "catch_up", "catch_up_window_seconds": 86400, "jitter_seconds": 90,
            "deadline": {"at": "07:00", "action": "cancel"}, "paused_at": paused.then_some("2026-10-01T00:00:00Z"),
            "created_at": "2026-09-30T00:00:00Z", "next_fires": if paused { &fires[..0] } else { &fires[..] },
            "open_jobs": ["0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11"], "waiting_runs": 1, "later": "ignored",
        }))
        .unwrap()
    }

    #[test]
    fn a_schedule_says_when_it_fires_and_what_it_does() {
        let text = schedule(&sample(false), None, false);
        for part in [
            "score severity@production (backlog)",
            "Fri 2026-10-02 02:00:00 -06:00",
            "2026-10-02 08:00:00",
            "catch_up, 1day back",
            "07:00, cancel",
            "up to 1m 30s",
            "0199a5f2",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        let listed = schedules(&[sample(true)], false);
        assert!(listed.contains("paused"), "{listed}");
        assert_eq!(schedules(&[], false), "no schedules");
    }

    #[test]
    fn a_missed_deadline_stands_out() {
        let run = |outcome: &str, deadline: Value| {
            json!({
                "fire_at": "2026-10-02T08:00:00Z", "local_fire_at": "2026-10-02T02:00:00-06:00", "fired_by": "clock",
                "outcome": outcome, "reason": null, "job_id": null, "job_state": null, "deadline": deadline,
            })
        };
        let late = json!({"at": "2026-10-02T13:00:00Z", "action": "alarm", "outcome": "missed"});
        let list: Vec<Run> =
            serde_json::from_value(json!([run("submitted", late), run("skipped", Value::Null)])).unwrap();
        let text = runs(&list, false);
        assert!(text.contains("MISSED") && text.contains("skipped"), "{text}");
    }
}
