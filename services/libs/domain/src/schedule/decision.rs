//! What becomes of the fire times that have come. Every replica decides by this function and nothing else, holding the schedule's row.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::{DeadlineAction, MissedPolicy, OverlapPolicy, ScheduleSpec};

/// A job that is submitted up to so many seconds after it was due is on time; later, its fire time was missed.
pub const ON_TIME_SECONDS: i64 = 60;

/// The most fire times in one decision: the latest. After an outage in which there were more, the older ones leave no trace.
pub const MAX_DECIDED: usize = 100;

/// Where a schedule stands.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Every fire time up to here has been decided.
    pub decided_until: DateTime<Utc>,
    /// Fire times after it that have been decided all the same, before the clock went back.
    pub decided_ahead: BTreeSet<DateTime<Utc>>,
    /// Jobs of the schedule that have not ended.
    pub open: usize,
    /// Runs that wait for those.
    pub waiting: usize,
}

/// What is to be done with a schedule now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Fire times that have come, in order.
    pub fires: Vec<Fire>,
    /// Every fire time up to here is decided from now on.
    pub decided_until: DateTime<Utc>,
    /// The clock stands before what was decided last. What has fired stays so; what only passed, and is ahead of the clock now, comes
    /// yet.
    pub clock_went_back: bool,
}

/// A fire time, decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fire {
    /// The time that the expression names.
    pub fire_at: DateTime<Utc>,
    /// With jitter.
    pub due_at: DateTime<Utc>,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What becomes of a fire time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A job is submitted; those that are open are cancelled first, if so asked.
    Submit {
        /// Whether they are.
        cancel_open: bool,
    },
    /// A job is submitted once the schedule has none open.
    Wait,
    /// It passes, for a job of the schedule is open.
    Skip,
    /// It passes, for it was noticed too late.
    Miss,
    /// It passes: at this hour its job would be cancelled at once.
    MissDeadline,
}

/// When the scheduler next has something to decide, unless the clock is set.
pub fn next_due(spec: &ScheduleSpec, state: &State) -> Option<DateTime<Utc>> {
    spec.timetable.after(state.decided_until).find(|at| !state.decided_ahead.contains(at)).map(|at| spec.due_at(at))
}

/// Decides about every fire time that has come by `now`.
pub fn decide(spec: &ScheduleSpec, state: &State, now: DateTime<Utc>) -> Decision {
    if now < state.decided_until {
        return Decision { fires: Vec::new(), decided_until: now, clock_went_back: true };
    }
    let due = due(spec, state, now);
    let decided_until = due.last().copied().unwrap_or(state.decided_until);
    let newest = due.iter().rfind(|at| !state.decided_ahead.contains(at)).copied();
    let (mut open, mut waiting) = (state.open, state.waiting);
    let fires = due
        .into_iter()
        .filter(|at| !state.decided_ahead.contains(at))
        .map(|fire_at| {
            let due_at = spec.due_at(fire_at);
            let verdict = match timing(spec, fire_at, due_at, newest == Some(fire_at), now) {
                Timing::Run => overlap(spec.overlap, open, waiting),
                Timing::CatchUp if spec.overlap == OverlapPolicy::Allow => Verdict::Submit { cancel_open: false },
                Timing::CatchUp => Verdict::Wait,
                Timing::Miss => Verdict::Miss,
            };
            let verdict = match verdict {
                Verdict::Submit { .. } | Verdict::Wait if is_past_cancelling_deadline(spec, fire_at, now) => {
                    Verdict::MissDeadline
                }
                verdict => verdict,
            };
            match verdict {
                Verdict::Submit { cancel_open: true } => open = 1,
                Verdict::Submit { cancel_open: false } => open += 1,
                Verdict::Wait => waiting += 1,
                Verdict::Skip | Verdict::Miss | Verdict::MissDeadline => {}
            }
            Fire { fire_at, due_at, verdict }
        })
        .collect();
    Decision { fires, decided_until, clock_went_back: false }
}

/// The fire times that are due, at most [`MAX_DECIDED`]: the latest.
fn due(spec: &ScheduleSpec, state: &State, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    // One that jitter puts off puts off those behind it: what is decided stays without gaps.
    let due_since = |from| spec.timetable.after(from).take_while(|at| spec.due_at(*at) <= now);
    let found: Vec<_> = due_since(state.decided_until).take(MAX_DECIDED + 1).collect();
    if found.len() <= MAX_DECIDED {
        return found;
    }
    // Looks back further and further, so that an outage of years costs no more than what is decided in the end.
    let mut span = TimeDelta::hours(1);
    loop {
        let from = state.decided_until.max(now - span);
        let mut found: Vec<_> = due_since(from).collect();
        if from == state.decided_until || found.len() > MAX_DECIDED {
            found.drain(..found.len().saturating_sub(MAX_DECIDED));
            return found;
        }
        span = span * 4;
    }
}

enum Timing {
    /// On time, or the one that makes up for all that were missed.
    Run,
    /// One of those that are made up for, one after another.
    CatchUp,
    Miss,
}

fn timing(
    spec: &ScheduleSpec,
    fire_at: DateTime<Utc>,
    due_at: DateTime<Utc>,
    is_newest: bool,
    now: DateTime<Utc>,
) -> Timing {
    if now - due_at <= TimeDelta::seconds(ON_TIME_SECONDS) {
        return Timing::Run;
    }
    match (spec.missed, spec.catch_up_window) {
        (MissedPolicy::RunOnce, _) if is_newest => Timing::Run,
        (MissedPolicy::CatchUp, Some(window)) if now - fire_at <= window => Timing::CatchUp,
        _ => Timing::Miss,
    }
}

/// What the policy says of a run, when so many jobs of the schedule are open and so many runs wait.
pub fn overlap(policy: OverlapPolicy, open: usize, waiting: usize) -> Verdict {
    match policy {
        OverlapPolicy::Allow => Verdict::Submit { cancel_open: false },
        OverlapPolicy::CancelPrevious => Verdict::Submit { cancel_open: open > 0 },
        OverlapPolicy::Skip if open > 0 => Verdict::Skip,
        OverlapPolicy::QueueOne if waiting > 0 => Verdict::Skip,
        OverlapPolicy::QueueOne if open > 0 => Verdict::Wait,
        OverlapPolicy::Skip | OverlapPolicy::QueueOne => Verdict::Submit { cancel_open: false },
    }
}

fn is_past_cancelling_deadline(spec: &ScheduleSpec, fire_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    spec.deadline.is_some_and(|deadline| deadline.action == DeadlineAction::Cancel)
        && spec.deadline_after(fire_at).is_some_and(|deadline| deadline <= now)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SUBMIT: Verdict = Verdict::Submit { cancel_open: false };

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// Every night at 02:00 UTC, with these other fields.
    fn nightly(fields: Value) -> ScheduleSpec {
        let mut spec = json!({
            "name": "nightly", "cron": "0 2 * * *", "zone": "UTC",
            "job": {"kind": "score", "model": "m", "selection": {"by": "backlog"}},
        });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        ScheduleSpec::parse(spec).unwrap()
    }

    fn since(decided_until: &str) -> State {
        State { decided_until: at(decided_until), ..State::default() }
    }

    /// (day of month, verdict) of each fire time.
    fn verdicts(spec: &ScheduleSpec, state: &State, now: &str) -> Vec<(String, Verdict)> {
        let decision = decide(spec, state, at(now));
        decision.fires.iter().map(|fire| (fire.fire_at.format("%d").to_string(), fire.verdict)).collect()
    }

    fn day(day: &str, verdict: Verdict) -> (String, Verdict) {
        (day.to_owned(), verdict)
    }

    #[test]
    fn nothing_comes_early_and_what_comes_is_on_time_for_a_minute() {
        let (spec, state) = (nightly(json!({"missed": "skip"})), since("2026-01-01T12:00:00Z"));
        assert_eq!(next_due(&spec, &state), Some(at("2026-01-02T02:00:00Z")));
        assert_eq!(verdicts(&spec, &state, "2026-01-02T01:59:59.999Z"), []);
        for now in ["2026-01-02T02:00:00Z", "2026-01-02T02:01:00Z"] {
            assert_eq!(verdicts(&spec, &state, now), [day("02", SUBMIT)]);
        }
        assert_eq!(verdicts(&spec, &state, "2026-01-02T02:01:00.001Z"), [day("02", Verdict::Miss)]);
        assert_eq!(decide(&spec, &state, at("2026-01-02T03:00:00Z")).decided_until, at("2026-01-02T02:00:00Z"));
    }

    #[test]
    fn what_was_missed_is_skipped_made_up_for_once_or_caught_up() {
        let (state, back) = (since("2026-01-01T12:00:00Z"), "2026-01-05T09:00:00Z");
        let (miss, wait) = (Verdict::Miss, Verdict::Wait);
        let skip = nightly(json!({"missed": "skip"}));
        assert_eq!(verdicts(&skip, &state, back), ["02", "03", "04", "05"].map(|d| day(d, miss)));
        let once = nightly(json!({}));
        let expected = [day("02", miss), day("03", miss), day("04", miss), day("05", SUBMIT)];
        assert_eq!(verdicts(&once, &state, back), expected);
        let window = json!({"missed": "catch_up", "catch_up_window_seconds": 2 * 86400});
        let caught_up = nightly(window.clone());
        let expected = [day("02", miss), day("03", miss), day("04", wait), day("05", wait)];
        assert_eq!(verdicts(&caught_up, &state, back), expected);
        let mut beside = window;
        beside["overlap"] = json!("allow");
        let expected = [day("02", miss), day("03", miss), day("04", SUBMIT), day("05", SUBMIT)];
        assert_eq!(verdicts(&nightly(beside), &state, back), expected);
    }

    #[test]
    fn overlaps_follow_the_policy() {
        let now = "2026-01-02T02:00:10Z";
        for (policy, open, waiting, verdict) in [
            ("skip", 0, 0, SUBMIT),
            ("skip", 1, 0, Verdict::Skip),
            ("queue_one", 0, 0, SUBMIT),
            ("queue_one", 1, 0, Verdict::Wait),
            ("queue_one", 1, 1, Verdict::Skip),
            ("queue_one", 0, 1, Verdict::Skip),
            ("allow", 3, 0, SUBMIT),
            ("cancel_previous", 0, 0, SUBMIT),
            ("cancel_previous", 2, 0, Verdict::Submit { cancel_open: true }),
        ] {
            let state = State { open, waiting, ..since("2026-01-01T12:00:00Z") };
            let spec = nightly(json!({"overlap": policy}));
            assert_eq!(verdicts(&spec, &state, now), [day("02", verdict)], "{policy} {open} {waiting}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_fires_nothing_again() {
        let spec = nightly(json!({}));
        let decided = since("2026-01-05T02:00:00Z");
        let back = decide(&spec, &decided, at("2026-01-04T01:00:00Z"));
        assert!(back.clock_went_back && back.fires.is_empty());
        // The fifth had fired; the fourth had been missed, and comes now.
        let ahead =
            State { decided_until: back.decided_until, decided_ahead: [at("2026-01-05T02:00:00Z")].into(), ..decided };
        assert_eq!(next_due(&spec, &ahead), Some(at("2026-01-04T02:00:00Z")));
        assert_eq!(verdicts(&spec, &ahead, "2026-01-04T02:00:01Z"), [day("04", SUBMIT)]);
        let fourth = State { decided_until: at("2026-01-04T02:00:00Z"), ..ahead };
        assert_eq!(verdicts(&spec, &fourth, "2026-01-06T02:00:00Z"), [day("06", SUBMIT)]);
    }

    #[test]
    fn a_clock_that_leaps_ahead_costs_no_more_than_what_is_decided() {
        let every_minute =
            nightly(json!({"cron": "* * * * *", "missed": "catch_up", "catch_up_window_seconds": 2_678_400}));
        let decision = decide(&every_minute, &since("2026-01-01T00:00:00Z"), at("2126-01-01T00:00:30Z"));
        assert_eq!(decision.fires.len(), MAX_DECIDED);
        assert_eq!(decision.decided_until, at("2126-01-01T00:00:00Z"));
        assert_eq!(decision.fires.last().map(|fire| fire.fire_at), Some(at("2126-01-01T00:00:00Z")));
    }

    #[test]
    fn after_a_deadline_that_cancels_nothing_is_submitted() {
        let state = since("2026-01-01T12:00:00Z");
        let cancel = nightly(json!({"deadline": {"at": "07:00", "action": "cancel"}}));
        assert_eq!(verdicts(&cancel, &state, "2026-01-02T06:59:00Z"), [day("02", SUBMIT)]);
        assert_eq!(verdicts(&cancel, &state, "2026-01-02T07:00:00Z"), [day("02", Verdict::MissDeadline)]);
        let alarm = nightly(json!({"deadline": {"at": "07:00"}}));
        assert_eq!(verdicts(&alarm, &state, "2026-01-02T09:00:00Z"), [day("02", SUBMIT)]);
    }

    #[test]
    fn jitter_puts_off_and_never_changes_the_order() {
        let spec = nightly(json!({"jitter_seconds": 3000, "missed": "skip"}));
        let state = since("2026-01-01T12:00:00Z");
        let due = next_due(&spec, &state).unwrap();
        assert!(due > at("2026-01-02T02:00:00Z"));
        assert_eq!(decide(&spec, &state, due - TimeDelta::seconds(1)).fires, []);
        let decision = decide(&spec, &state, due);
        assert_eq!(decision.fires.len(), 1);
        assert_eq!((decision.fires[0].due_at, decision.decided_until), (due, at("2026-01-02T02:00:00Z")));
    }
}
