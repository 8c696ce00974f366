//! What is recorded of a fire time.

use chrono::{DateTime, TimeDelta, Utc};

use super::{ScheduleSpec, Verdict};
use crate::{limits::MAX_BACKFILL, spec::SpecError, text_enum::text_enum};

text_enum! {
    /// What a run came from.
    FiredBy ("origin of a run") {
        /// Its fire time came.
        Clock = "clock",
        /// Somebody asked for it.
        Operator = "operator",
        /// Its fire time was filled in later.
        Backfill = "backfill",
    }
}

text_enum! {
    /// What became of a fire time.
    RunOutcome ("outcome of a run") {
        /// Its job was submitted.
        Submitted = "submitted",
        /// It waits until no job of the schedule is open.
        Waiting = "waiting",
        /// It passed, for a job of the schedule was open.
        Skipped = "skipped",
        /// It passed, for it was noticed too late.
        Missed = "missed",
    }
}

text_enum! {
    /// What was found when a run's deadline came.
    DeadlineOutcome ("outcome of a deadline") {
        /// Its job had succeeded.
        Met = "met",
        /// It had not: the alarm.
        Missed = "missed",
    }
}

impl Verdict {
    /// What is recorded: the outcome, and why nothing is submitted.
    pub fn recorded(self) -> (RunOutcome, Option<&'static str>) {
        match self {
            Self::Submit { .. } => (RunOutcome::Submitted, None),
            Self::Wait => (RunOutcome::Waiting, None),
            Self::Skip => (RunOutcome::Skipped, Some("a job of the schedule had not ended")),
            Self::Miss => (RunOutcome::Missed, Some("nothing ran at this time that could have fired")),
            Self::MissDeadline => (RunOutcome::Missed, Some("its deadline had passed")),
        }
    }
}

/// The fire times from one moment to another, both included, for which runs may be filled in: none that lies ahead.
///
/// # Errors
/// Names `from` when there are none or too many.
pub fn backfill_times(
    spec: &ScheduleSpec,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<DateTime<Utc>>, SpecError> {
    if from > to {
        return Err(SpecError::invalid("from", "is later than to"));
    }
    if from > now {
        return Err(SpecError::invalid("from", "lies ahead: what is to come fires by itself"));
    }
    let to = to.min(now);
    let before = from - TimeDelta::microseconds(1);
    let times: Vec<_> = spec.timetable.after(before).take_while(|at| *at <= to).take(MAX_BACKFILL + 1).collect();
    match times.len() {
        0 => Err(SpecError::invalid("from", format!("to {to} the schedule has no fire time"))),
        1..=MAX_BACKFILL => Ok(times),
        _ => Err(SpecError::invalid(
            "from",
            format!("to {to} there are more than {MAX_BACKFILL} fire times: fill in a shorter range at a time"),
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_range_is_bounded_and_both_ends_count() {
        let spec = ScheduleSpec::parse(json!({
            "name": "hourly", "cron": "0 * * * *", "zone": "UTC",
            "job": {"kind": "score", "model": "m", "selection": {"by": "backlog"}},
        }))
        .unwrap();
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let now = at("2026-03-01T00:00:00Z");
        let times = |from: &str, to: &str| backfill_times(&spec, at(from), at(to), now);
        assert_eq!(times("2026-02-01T02:00:00Z", "2026-02-01T04:00:00Z").unwrap().len(), 3);
        assert_eq!(times("2026-02-28T22:00:00Z", "2027-01-01T00:00:00Z").unwrap().len(), 3, "nothing ahead");
        for (from, to, part) in [
            ("2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z", "lies ahead"),
            ("2026-02-02T00:00:00Z", "2026-02-01T00:00:00Z", "later than to"),
            ("2026-02-01T00:01:00Z", "2026-02-01T00:59:00Z", "no fire time"),
            ("2026-02-01T00:00:00Z", "2026-02-16T06:00:00Z", "more than 366"),
        ] {
            let refused = times(from, to).unwrap_err().to_string();
            assert!(refused.starts_with("from: ") && refused.contains(part), "{from} {to}: {refused}");
        }
    }
}
