//! What a user asks for: when, what, and what to do when things overlap, are late or take too long.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use rand::RngExt;
use serde::{Deserialize, Serialize, de::Error as _};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Timetable;
use crate::{
    limits::{MAX_CATCH_UP_SECONDS, MAX_JITTER_SECONDS},
    names::Name,
    random::{Purpose, rng},
    spec::{JobSpec, SpecError, in_range, read},
    text_enum::text_enum,
};

/// How many fire times are looked at for their distance.
const DISTANCES: usize = 100;

text_enum! {
    /// What happens when a fire time comes while a job of the schedule has not ended.
    OverlapPolicy ("overlap policy") {
        /// The fire time passes.
        Skip = "skip",
        /// One run waits until nothing of the schedule is open; what comes while one waits passes.
        QueueOne = "queue_one",
        /// Jobs run beside one another.
        Allow = "allow",
        /// What is open is cancelled, and the new job is submitted.
        CancelPrevious = "cancel_previous",
    }
}

text_enum! {
    /// What happens to fire times at which nobody was there to fire.
    MissedPolicy ("missed-run policy") {
        /// They have passed.
        Skip = "skip",
        /// The last one of them is made up for.
        RunOnce = "run_once",
        /// Each one within the window is made up for, one after another.
        CatchUp = "catch_up",
    }
}

text_enum! {
    /// What happens to a job that is not done at its deadline.
    DeadlineAction ("deadline action") {
        /// An alarm: a log line, a metric, and a mark on the run.
        Alarm = "alarm",
        /// The alarm, and the job is cancelled.
        Cancel = "cancel",
    }
}

/// When a job has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadline {
    /// A time of day in the schedule's zone: the first one after the fire time counts.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub at: NaiveTime,
    /// What happens then.
    #[serde(default = "alarm")]
    pub action: DeadlineAction,
}

fn alarm() -> DeadlineAction {
    DeadlineAction::Alarm
}

fn write_time<S: serde::Serializer>(time: &NaiveTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time.format("%H:%M"))
}

fn read_time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<NaiveTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    NaiveTime::parse_from_str(&text, "%H:%M")
        .map_err(|_| D::Error::custom(format!("{text:?} is not a time of day: write HH:MM, as in 07:00")))
}

/// A schedule, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleSpec {
    /// Its name.
    pub name: Name,
    /// When.
    pub timetable: Timetable,
    /// What: its references (an alias, the newest dataset) are resolved when each job is planned.
    pub job: JobSpec,
    /// Of the jobs, 0 to 9.
    pub priority: u8,
    /// What happens while a job of the schedule is open.
    pub overlap: OverlapPolicy,
    /// What happens to fire times that were missed.
    pub missed: MissedPolicy,
    /// How far back missed runs are caught up; there with [`MissedPolicy::CatchUp`] alone.
    pub catch_up_window: Option<TimeDelta>,
    /// Up to how many seconds after its fire time a job is submitted.
    pub jitter_seconds: u32,
    /// When a job has to be done.
    pub deadline: Option<Deadline>,
}

/// The JSON form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    name: Name,
    cron: String,
    zone: String,
    job: Value,
    #[serde(default = "default_priority")]
    priority: u8,
    #[serde(default = "default_overlap")]
    overlap: OverlapPolicy,
    #[serde(default = "default_missed")]
    missed: MissedPolicy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    catch_up_window_seconds: Option<u32>,
    #[serde(default)]
    jitter_seconds: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<Deadline>,
}

fn default_priority() -> u8 {
    4
}

fn default_overlap() -> OverlapPolicy {
    OverlapPolicy::Skip
}

fn default_missed() -> MissedPolicy {
    MissedPolicy::RunOnce
}

impl ScheduleSpec {
    /// Reads, completes and checks a schedule.
    ///
    /// # Errors
    /// [`SpecError`] names the field, such as `cron`, `zone`, `deadline.at` or `job.model`.
    pub fn parse(value: Value) -> Result<Self, SpecError> {
        if !value.is_object() {
            return Err(SpecError::invalid("schedule", "expected an object with name, cron, zone and job"));
        }
        let fields: Fields = read(value)?;
        let timetable = Timetable::new(&fields.cron, &fields.zone)?;
        let job = JobSpec::parse(fields.job).map_err(|error| match error {
            SpecError::Invalid { field, problem } => SpecError::Invalid { field: format!("job.{field}"), problem },
            SpecError::NotAnObject => SpecError::invalid("job", error.to_string()),
        })?;
        in_range("priority", fields.priority, 0, 9)?;
        in_range("jitter_seconds", fields.jitter_seconds, 0, MAX_JITTER_SECONDS)?;
        let catch_up_window = match (fields.missed, fields.catch_up_window_seconds) {
            (MissedPolicy::CatchUp, None) => {
                return Err(SpecError::invalid("catch_up_window_seconds", "missing: say how far back, as in 86400"));
            }
            (MissedPolicy::CatchUp, Some(seconds)) => {
                in_range("catch_up_window_seconds", seconds, 60, MAX_CATCH_UP_SECONDS)?;
                Some(TimeDelta::seconds(seconds.into()))
            }
            (_, None) => None,
            (policy, Some(_)) => {
                let problem = format!("goes with \"missed\": \"catch_up\", which is {:?} here", policy.as_str());
                return Err(SpecError::invalid("catch_up_window_seconds", problem));
            }
        };
        let spec = Self {
            name: fields.name,
            timetable,
            job,
            priority: fields.priority,
            overlap: fields.overlap,
            missed: fields.missed,
            catch_up_window,
            jitter_seconds: fields.jitter_seconds,
            deadline: fields.deadline,
        };
        spec.check_jitter()?;
        Ok(spec)
    }

    /// A run must not be put off until the next one is due.
    fn check_jitter(&self) -> Result<(), SpecError> {
        let jitter = TimeDelta::seconds(self.jitter_seconds.into());
        let fires: Vec<_> = self.timetable.after(DateTime::UNIX_EPOCH).take(DISTANCES).collect();
        match fires.windows(2).map(|pair| pair[1] - pair[0]).min() {
            Some(shortest) if jitter >= shortest => {
                let shortest = shortest.num_seconds();
                let problem = format!("is {}: the next run may be due {shortest} s later", self.jitter_seconds);
                Err(SpecError::invalid("jitter_seconds", problem))
            }
            _ => Ok(()),
        }
    }

    /// The JSON form, complete; [`Self::parse`] reads it back.
    ///
    /// # Errors
    /// None that is known: the job's specification came from JSON.
    pub fn to_value(&self) -> serde_json::Result<Value> {
        let fields = Fields {
            name: self.name.clone(),
            cron: self.timetable.expression().to_owned(),
            zone: self.timetable.zone().name().to_owned(),
            job: json!(self.job),
            priority: self.priority,
            overlap: self.overlap,
            missed: self.missed,
            catch_up_window_seconds: self.catch_up_window.and_then(|window| window.num_seconds().try_into().ok()),
            jitter_seconds: self.jitter_seconds,
            deadline: self.deadline,
        };
        serde_json::to_value(fields)
    }

    /// When the job of a fire time is due: with jitter, a little later. Every replica finds the same moment.
    pub fn due_at(&self, fire_at: DateTime<Utc>) -> DateTime<Utc> {
        if self.jitter_seconds == 0 {
            return fire_at;
        }
        let digest = Sha256::digest(self.name.as_str());
        let seed = digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        let mut rng = rng(seed, Purpose::Jitter, 0, fire_at.timestamp().cast_unsigned());
        fire_at + TimeDelta::seconds(rng.random_range(0..=self.jitter_seconds).into())
    }

    /// When the job of a run that began, or should have begun, then has to be done.
    pub fn deadline_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.timetable.time_of_day_after(moment, self.deadline?.at)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn nightly() -> Value {
        json!({
            "name": "nightly", "cron": "0 2 * * *", "zone": "America/Mexico_City",
            "job": {"kind": "score", "model": "severity@production", "selection": {"by": "backlog"}},
            "deadline": {"at": "07:00"},
        })
    }

    fn with(field: &str, value: Value) -> Value {
        let mut spec = nightly();
        spec[field] = value;
        spec
    }

    #[test]
    fn what_is_left_out_has_defaults_and_reads_back_the_same() {
        let spec = ScheduleSpec::parse(nightly()).unwrap();
        assert_eq!((spec.overlap, spec.missed, spec.priority), (OverlapPolicy::Skip, MissedPolicy::RunOnce, 4));
        assert_eq!(spec.deadline.unwrap().action, DeadlineAction::Alarm);
        let stored = spec.to_value().unwrap();
        assert_eq!((&stored["deadline"]["at"], &stored["job"]["shard_size"]), (&json!("07:00"), &json!(500)));
        assert_eq!(ScheduleSpec::parse(stored).unwrap(), spec);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (field, value, named) in [
            ("name", json!("Nightly run"), "name"),
            ("cron", json!("0 25 * * *"), "cron"),
            ("zone", json!("Mexico"), "zone"),
            ("job", json!({"kind": "score", "model": "m", "selection": {"by": "all"}}), "job.selection.by"),
            ("job", json!(7), "job"),
            ("priority", json!(10), "priority"),
            ("overlap", json!("never"), "overlap"),
            ("missed", json!("catch_up"), "catch_up_window_seconds"),
            ("catch_up_window_seconds", json!(3600), "catch_up_window_seconds"),
            ("jitter_seconds", json!(3601), "jitter_seconds"),
            ("deadline", json!({"at": "7 o'clock"}), "deadline.at"),
            ("deadline", json!({"at": "07:00", "action": "wait"}), "deadline.action"),
            ("timezone", json!("UTC"), "timezone"),
        ] {
            let SpecError::Invalid { field: refused, .. } = ScheduleSpec::parse(with(field, value)).unwrap_err() else {
                panic!("{field}");
            };
            assert_eq!(refused, named);
        }
        let mut dense = with("jitter_seconds", json!(900));
        dense["cron"] = json!("*/15 * * * *");
        let refused = ScheduleSpec::parse(dense).unwrap_err().to_string();
        assert!(refused.contains("jitter_seconds") && refused.contains("900 s"), "{refused}");
    }

    #[test]
    fn jitter_differs_by_fire_time_and_by_name_and_not_by_replica() {
        let spec = ScheduleSpec::parse(with("jitter_seconds", json!(600))).unwrap();
        let (again, other) = (spec.clone(), ScheduleSpec { name: "other".parse().unwrap(), ..spec.clone() });
        let fires: Vec<_> = spec.timetable.after(DateTime::UNIX_EPOCH).take(50).collect();
        let delays =
            |spec: &ScheduleSpec| fires.iter().map(|at| (spec.due_at(*at) - at).num_seconds()).collect::<Vec<_>>();
        assert_eq!(delays(&spec), delays(&again));
        assert_ne!(delays(&spec), delays(&other));
        assert!(delays(&spec).iter().all(|delay| (0..=600).contains(delay)));
        assert!(delays(&spec).iter().max() > Some(&500) && delays(&spec).iter().min() < Some(&100));
    }
}
