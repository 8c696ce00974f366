//! Ten years of schedules in many zones, by two replicas that crash and restart at random, under a clock that is set at random.
//!
//! The world below stands for the database as [`perito_database`] uses it: a replica reads the clock, takes the schedule's row, decides by
//! [`decide`], and commits what follows or dies before. Everything else is the real thing.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use chrono::{DateTime, TimeDelta, Utc};
use perito_domain::schedule::{
    Decision, ON_TIME_SECONDS, RunOutcome, ScheduleSpec, State, Verdict, decide, decision, next_due,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

const YEARS: i64 = 10;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn schedule(cron: &str, zone: &str, fields: Value) -> ScheduleSpec {
    let mut spec = json!({
        "name": "simulated", "cron": cron, "zone": zone,
        "job": {"kind": "score", "model": "severity@production", "selection": {"by": "backlog"}},
    });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    ScheduleSpec::parse(spec).unwrap()
}

/// The schedule's rows.
#[derive(Default)]
struct World {
    decided_until: DateTime<Utc>,
    runs: BTreeMap<DateTime<Utc>, RunOutcome>,
    /// Those of them that wait.
    waiting: BTreeSet<DateTime<Utc>>,
    /// When each job was submitted, by the clock of that moment. Two for one time would show here.
    submitted: BTreeMap<DateTime<Utc>, Vec<DateTime<Utc>>>,
    /// Until when the open job runs.
    open_until: Option<DateTime<Utc>>,
}

impl World {
    fn state(&self, now: DateTime<Utc>) -> State {
        let ahead = (Bound::Excluded(self.decided_until), Bound::Unbounded);
        State {
            decided_until: self.decided_until,
            decided_ahead: self.runs.range(ahead).map(|(at, _)| *at).collect(),
            open: usize::from(self.open_until.is_some_and(|until| until > now)),
            waiting: self.waiting.len(),
        }
    }

    /// What a transaction that commits leaves behind.
    fn commit(&mut self, decision: &Decision, now: DateTime<Utc>, takes: TimeDelta) {
        if decision.clock_went_back {
            self.runs
                .retain(|at, outcome| *at <= now || matches!(outcome, RunOutcome::Submitted | RunOutcome::Waiting));
        }
        for fire in &decision.fires {
            let (outcome, _) = fire.verdict.recorded();
            assert!(self.runs.insert(fire.fire_at, outcome).is_none(), "{} has two rows", fire.fire_at);
            match fire.verdict {
                Verdict::Submit { .. } => self.submit(fire.fire_at, now, takes),
                Verdict::Wait => {
                    self.waiting.insert(fire.fire_at);
                }
                Verdict::Skip | Verdict::Miss | Verdict::MissDeadline => {}
            }
        }
        self.decided_until = decision.decided_until;
    }

    fn submit(&mut self, fire_at: DateTime<Utc>, now: DateTime<Utc>, takes: TimeDelta) {
        self.submitted.entry(fire_at).or_default().push(now);
        self.open_until = Some(now + takes);
    }

    fn release(&mut self, spec: &ScheduleSpec, now: DateTime<Utc>, takes: TimeDelta) {
        if decision::overlap(spec.overlap, self.state(now).open, 0) == (Verdict::Submit { cancel_open: false })
            && let Some(fire_at) = self.waiting.pop_first()
        {
            self.runs.insert(fire_at, RunOutcome::Submitted);
            self.submit(fire_at, now, takes);
        }
    }
}

/// What makes the replicas' lives hard.
#[derive(Clone, Copy)]
struct Weather {
    /// How often the clock is set, in a thousand steps.
    clock_steps: u32,
    /// How often both replicas are away for a while, in a thousand steps.
    outages: u32,
}

const CALM: Weather = Weather { clock_steps: 0, outages: 0 };
const OUTAGES: Weather = Weather { clock_steps: 0, outages: 4 };
const STORM: Weather = Weather { clock_steps: 10, outages: 4 };

/// Simulates the schedule; what is left, and what the clock shows at the end.
fn simulate(spec: &ScheduleSpec, start: DateTime<Utc>, weather: Weather, seed: u64) -> (World, DateTime<Utc>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World { decided_until: start, ..World::default() };
    let end = start + TimeDelta::days(YEARS * 365);
    let mut now = start;
    // What each replica remembers of when it has to look, as the scheduler does; a restart forgets it.
    let mut remembered = [None::<(DateTime<Utc>, Option<DateTime<Utc>>)>; 2];
    while now < end {
        // Replicas look all the time; moments at which there is nothing to see need not be played.
        let due = next_due(spec, &world.state(now));
        now += if rng.random_range(0..1000) < weather.outages {
            TimeDelta::seconds(rng.random_range(1..=5 * 86_400))
        } else {
            match due {
                Some(due) if due > now => due - now + TimeDelta::seconds(rng.random_range(0..=5)),
                // Both have died over it, and are back in seconds.
                _ => TimeDelta::seconds(rng.random_range(1..=5)),
            }
        };
        if rng.random_range(0..1000) < weather.clock_steps {
            now += TimeDelta::seconds(rng.random_range(-20 * 86_400..=20 * 86_400));
        }
        // The two look at about the same moment; one after the other, as the row's lock makes them.
        let first = rng.random_range(0..2);
        for replica in [first, 1 - first] {
            let seen = now + TimeDelta::milliseconds(rng.random_range(0..400));
            if let Some((decided_until, next)) = remembered[replica]
                && decided_until == world.decided_until
                && seen >= decided_until
                && next.is_none_or(|next| next > seen)
            {
                continue;
            }
            let decision = decide(spec, &world.state(seen), seen);
            let crashes = rng.random_range(0..5) == 0;
            if crashes {
                // Dead before the commit: nothing happened, and it remembers nothing when it is back.
                remembered[replica] = None;
                continue;
            }
            let takes = TimeDelta::minutes(rng.random_range(1..600));
            world.commit(&decision, seen, takes);
            remembered[replica] = Some((world.decided_until, next_due(spec, &world.state(seen))));
            world.release(spec, seen, takes);
        }
    }
    (world, now)
}

/// Every time that the timetable names until the last decision.
fn named(spec: &ScheduleSpec, start: DateTime<Utc>, until: DateTime<Utc>) -> BTreeSet<DateTime<Utc>> {
    spec.timetable.after(start).take_while(|at| *at <= until).collect()
}

const ZONES: [&str; 8] = [
    "America/Mexico_City",
    "America/New_York",
    "America/Santiago",
    "Europe/Berlin",
    "Africa/Cairo",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Apia",
];
const START: &str = "2020-06-01T12:34:56Z";

#[test]
fn in_calm_weather_each_time_is_submitted_once_and_on_time() {
    for (number, zone) in ZONES.into_iter().enumerate() {
        for cron in ["30 2 * * *", "0 0,2,23 * * 1-5"] {
            let spec = schedule(cron, zone, json!({"overlap": "allow", "missed": "skip", "jitter_seconds": 600}));
            let (world, _) = simulate(&spec, at(START), CALM, number as u64);
            let expected = named(&spec, at(START), world.decided_until);
            assert!(expected.len() as i64 > YEARS * 360, "{} times", expected.len());
            assert_eq!(world.runs.keys().copied().collect::<BTreeSet<_>>(), expected, "{cron} in {zone}");
            let submitted: Vec<_> = world.submitted.iter().collect();
            for (fire_at, moments) in &submitted {
                assert_eq!(moments.len(), 1, "{fire_at} was submitted {} times", moments.len());
                let late = moments[0] - spec.due_at(**fire_at);
                assert!(late >= TimeDelta::zero() && late.num_seconds() <= ON_TIME_SECONDS, "{fire_at}: {late}");
            }
            assert_eq!(submitted.len(), expected.len());
        }
    }
}

#[test]
fn outages_lose_no_time_and_the_policies_hold() {
    for (number, zone) in ZONES.into_iter().enumerate() {
        for (missed, overlap) in [
            (json!({"missed": "skip"}), "allow"),
            (json!({"missed": "run_once"}), "skip"),
            (json!({"missed": "run_once"}), "cancel_previous"),
            (json!({"missed": "catch_up", "catch_up_window_seconds": 7 * 86_400}), "queue_one"),
        ] {
            let mut fields = missed.clone();
            fields["overlap"] = json!(overlap);
            let spec = schedule("0 2 * * *", zone, fields);
            let (world, end) = simulate(&spec, at(START), OUTAGES, 100 + number as u64);
            // Each time has one row, whatever happened.
            assert_eq!(
                world.runs.keys().copied().collect::<BTreeSet<_>>(),
                named(&spec, at(START), world.decided_until)
            );
            assert!(end - world.decided_until < TimeDelta::days(6), "nothing is left behind");
            let count = |wanted| world.runs.values().filter(|outcome| **outcome == wanted).count();
            assert_eq!(world.submitted.len(), count(RunOutcome::Submitted));
            assert!(world.submitted.values().all(|moments| moments.len() == 1));
            match missed["missed"].as_str().unwrap() {
                "skip" | "run_once" => assert!(count(RunOutcome::Missed) > 0, "{missed}: outages of days miss some"),
                // The window is longer than any outage.
                _ => assert_eq!(count(RunOutcome::Missed), 0, "{missed}"),
            }
        }
    }
}

#[test]
fn under_a_clock_that_is_set_nothing_fires_twice_and_each_time_has_its_row() {
    for (number, zone) in ZONES.into_iter().enumerate() {
        for fields in [
            json!({"overlap": "allow", "missed": "skip"}),
            json!({"overlap": "skip", "missed": "run_once"}),
            json!({"overlap": "queue_one", "missed": "catch_up", "catch_up_window_seconds": 86_400, "jitter_seconds": 1800}),
        ] {
            let spec = schedule("15 */12 * * *", zone, fields);
            let (world, _) = simulate(&spec, at(START), STORM, 200 + number as u64);
            for (fire_at, moments) in &world.submitted {
                assert_eq!(moments.len(), 1, "{zone}: {fire_at} fired at {moments:?}");
                assert!(spec.due_at(*fire_at) <= moments[0], "{fire_at} fired early");
            }
            let expected = named(&spec, at(START), world.decided_until);
            let rows: BTreeSet<_> = world.runs.keys().copied().collect();
            let missing: Vec<_> = expected.difference(&rows).collect();
            assert!(missing.is_empty(), "{zone}: no row for {missing:?}");
        }
    }
}
