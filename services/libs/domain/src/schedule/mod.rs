//! Schedules: when a job is submitted without anybody there to do it.
//!
//! | module | holds |
//! |---|---|
//! | [`spec`] | what a user asks for: expression, zone, job, policies |
//! | [`timetable`] | which moments an expression names in a zone, whatever its clocks do |
//! | [`decision`] | what becomes of the fire times that have come, given what is open |
//! | [`run`] | what is recorded of a fire time, and which ones may be filled in later |
//!
//! Nothing here reads a clock: `now` is always an argument, so that ten years can be simulated in a second. The rule itself is
//! decision record 12 (`docs/adr/0012-firing-rule.md`).

pub mod decision;
pub mod run;
pub mod spec;
pub mod timetable;

pub use decision::{Decision, Fire, MAX_DECIDED, ON_TIME_SECONDS, State, Verdict, decide, next_due};
pub use run::{DeadlineOutcome, FiredBy, RunOutcome, backfill_times};
pub use spec::{Deadline, DeadlineAction, MissedPolicy, OverlapPolicy, ScheduleSpec};
pub use timetable::Timetable;
