//! Schedules on a simulated clock: every operation takes `now`.

use chrono::{DateTime, TimeDelta, Utc};
use perito_database::{ErrorKind, Fired, FiredRun, Schedule};
use perito_domain::{
    lifecycle::JobState,
    names::Name,
    schedule::{DeadlineOutcome, FiredBy, RunOutcome, ScheduleSpec, backfill_times},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, backlog};

/// Ahead of the real clock, by which jobs end.
const START: &str = "2100-01-01T12:00:00Z";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// 02:00 in Mexico City (UTC-6) of this day in January 2100, plus so many minutes.
fn night(day: u32, minutes: i64) -> DateTime<Utc> {
    at(&format!("2100-01-{day:02}T08:00:00Z")) + TimeDelta::minutes(minutes)
}

fn nightly(fields: Value) -> ScheduleSpec {
    let mut spec = json!({"name": "nightly", "cron": "0 2 * * *", "zone": "America/Mexico_City", "job": backlog()});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    ScheduleSpec::parse(spec).unwrap()
}

fn name() -> Name {
    "nightly".parse().unwrap()
}

impl World {
    async fn add(&self, fields: Value) -> Schedule {
        self.db.add_schedule(&nightly(fields), at(START)).await.unwrap().0
    }

    async fn fire(&self, schedule: &Schedule, now: DateTime<Utc>) -> Fired {
        self.db.fire_schedule(schedule.id, now, "").await.unwrap().unwrap()
    }

    async fn outcomes(&self, schedule: &Schedule) -> Vec<(DateTime<Utc>, RunOutcome)> {
        let runs = self.db.schedule_runs(schedule.id, None, 500).await.unwrap();
        runs.into_iter().rev().map(|run| (run.fire_at, run.outcome)).collect()
    }

    async fn release(&self, now: DateTime<Utc>) -> Option<FiredRun> {
        self.db.release_waiting(now, "").await.unwrap()
    }

    async fn end(&self, job: Uuid, state: &str) {
        self.execute(&format!("update jobs set state = '{state}', finished_at = now() where id = '{job}'")).await;
    }
}

#[tokio::test]
async fn a_schedule_is_added_once_paused_resumed_and_removed() {
    let world = World::new().await;
    let (schedule, created) = world.db.add_schedule(&nightly(json!({})), at(START)).await.unwrap();
    assert!(created && schedule.open_jobs.is_empty());
    assert_eq!(world.db.add_schedule(&nightly(json!({})), night(5, 0)).await.unwrap(), (schedule.clone(), false));
    let other = world.db.add_schedule(&nightly(json!({"priority": 9})), at(START)).await.unwrap_err();
    assert!(other.kind() == ErrorKind::Conflict && other.to_string().contains("remove nightly"), "{other}");

    world.db.pause_schedule(&name(), at(START)).await.unwrap();
    assert_eq!(world.db.fire_schedule(schedule.id, night(2, 0), "").await.unwrap(), None);
    let resumed = world.db.resume_schedule(&name(), night(2, 5)).await.unwrap();
    assert_eq!((resumed.paused_at, resumed.decided_until), (None, night(2, 5)));
    let fired = world.fire(&schedule, night(2, 6)).await;
    assert_eq!((fired.runs, fired.next_due), (vec![], Some(night(3, 0))), "what passed while paused has passed");
    // Resuming what is not paused moves nothing.
    assert_eq!(world.db.resume_schedule(&name(), night(9, 0)).await.unwrap().decided_until, night(2, 5));

    world.fire(&schedule, night(3, 0)).await;
    world.db.remove_schedule(&name(), night(3, 1)).await.unwrap();
    assert_eq!(world.db.schedule(&name()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(world.db.fire_schedule(schedule.id, night(4, 0), "").await.unwrap(), None);
    assert_eq!(world.number("select count(*) from analytics.schedule_runs where schedule = 'nightly'").await, 1);
    let (again, created) = world.db.add_schedule(&nightly(json!({"priority": 9})), night(4, 0)).await.unwrap();
    assert!(created && again.id != schedule.id, "the name is free again");
}

#[tokio::test]
async fn a_fire_time_becomes_a_job_in_one_transaction() {
    let world = World::new().await;
    world.model("m").await;
    let schedule = world.add(json!({"priority": 7})).await;
    assert_eq!(world.fire(&schedule, night(2, -1)).await.runs, []);
    let fired = world.fire(&schedule, night(2, 0)).await;
    let [run] = &fired.runs[..] else { panic!("{fired:?}") };
    assert_eq!((run.fire_at, run.outcome, fired.next_due), (night(2, 0), RunOutcome::Submitted, Some(night(3, 0))));
    let job = world.db.job(run.job_id.unwrap()).await.unwrap();
    assert_eq!((job.state, job.priority, &job.spec["model"]), (JobState::Queued, 7, &json!("m")));
    assert_eq!(world.fire(&schedule, night(2, 0)).await.runs, [], "not twice");
    assert_eq!(world.db.schedule(&name()).await.unwrap().open_jobs, [job.id]);
}

#[tokio::test]
async fn a_run_and_its_job_stand_or_fall_together() {
    let world = World::new().await;
    let schedule = world.add(json!({})).await;
    world.execute("alter table schedule_runs add constraint broken check (job_id is null)").await;
    world.db.fire_schedule(schedule.id, night(2, 0), "").await.unwrap_err();
    assert_eq!(world.number("select count(*) from jobs").await, 0, "no job without its run");
    world.execute("alter table schedule_runs drop constraint broken").await;
    assert_eq!(world.fire(&schedule, night(2, 0)).await.runs.len(), 1, "and the time is not lost");
}

#[tokio::test]
async fn overlaps_follow_the_policy() {
    for (policy, outcome, jobs) in [
        ("skip", RunOutcome::Skipped, 1),
        ("queue_one", RunOutcome::Waiting, 1),
        ("allow", RunOutcome::Submitted, 2),
        ("cancel_previous", RunOutcome::Submitted, 2),
    ] {
        let world = World::new().await;
        let schedule = world.add(json!({"overlap": policy})).await;
        let first = world.fire(&schedule, night(2, 0)).await.runs[0].job_id.unwrap();
        let second = world.fire(&schedule, night(3, 0)).await.runs[0].clone();
        assert_eq!((second.outcome, world.number("select count(*) from jobs").await), (outcome, jobs), "{policy}");
        let first = world.db.job(first).await.unwrap();
        if policy == "cancel_previous" {
            assert_eq!((second.cancelled, first.state), (vec![first.id], JobState::Cancelled));
            assert!(first.error.unwrap().contains("next run of schedule nightly"));
        } else {
            assert_eq!(first.state, JobState::Queued);
        }
    }
}

#[tokio::test]
async fn what_waits_begins_when_nothing_is_open() {
    let world = World::new().await;
    let schedule = world.add(json!({"overlap": "queue_one"})).await;
    let first = world.fire(&schedule, night(2, 0)).await.runs[0].job_id.unwrap();
    world.fire(&schedule, night(3, 0)).await;
    assert_eq!(world.fire(&schedule, night(4, 0)).await.runs[0].outcome, RunOutcome::Skipped, "one waits already");
    assert_eq!(world.release(night(4, 1)).await, None);
    world.end(first, "succeeded").await;
    let released = world.release(night(4, 2)).await.unwrap();
    assert_eq!((released.fire_at, released.outcome), (night(3, 0), RunOutcome::Submitted));
    assert_eq!(world.release(night(4, 3)).await, None);
}

#[tokio::test]
async fn missed_runs_are_caught_up_one_after_another() {
    let world = World::new().await;
    let schedule = world.add(json!({"missed": "catch_up", "catch_up_window_seconds": 3 * 86_400})).await;
    let fired = world.fire(&schedule, night(6, 120)).await;
    let outcomes: Vec<_> = fired.runs.iter().map(|run| run.outcome).collect();
    let (missed, waiting) = (RunOutcome::Missed, RunOutcome::Waiting);
    assert_eq!(outcomes, [missed, missed, waiting, waiting, waiting]);
    for day in 4..=6 {
        let released = world.release(night(6, 121)).await.unwrap();
        assert_eq!(released.fire_at, night(day, 0));
        assert_eq!(world.release(night(6, 121)).await, None, "one at a time");
        world.end(released.job_id.unwrap(), "succeeded").await;
    }
    assert_eq!(world.release(night(6, 121)).await, None);
}

#[tokio::test]
async fn a_clock_that_goes_back_fires_nothing_again() {
    let world = World::new().await;
    let schedule = world.add(json!({"overlap": "allow"})).await;
    // A leap of a week: one run makes up for it, and the rest is missed.
    let fired = world.fire(&schedule, night(9, 0)).await;
    assert_eq!(fired.runs.len(), 8);
    let back = world.fire(&schedule, night(4, -60)).await;
    assert!(back.clock_went_back && back.runs.is_empty());
    assert_eq!(back.next_due, Some(night(4, 0)));
    for day in 4..=10 {
        let runs = world.fire(&schedule, night(day, 0)).await.runs;
        assert_eq!(runs.len(), usize::from(day != 9), "the ninth has fired: {day}");
    }
    let expected: Vec<_> =
        (2..=10).map(|day| (night(day, 0), if day < 4 { RunOutcome::Missed } else { RunOutcome::Submitted })).collect();
    assert_eq!(world.outcomes(&schedule).await, expected);
    assert_eq!(world.number("select count(*) from jobs").await, 7);
}

#[tokio::test]
async fn a_run_by_hand_minds_the_overlap_policy() {
    let world = World::new().await;
    world.add(json!({})).await;
    world.db.pause_schedule(&name(), at(START)).await.unwrap();
    let run = world.db.run_schedule_now(&name(), night(2, 30), "").await.unwrap();
    assert_eq!((run.fired_by, run.outcome), (FiredBy::Operator, RunOutcome::Submitted));
    let refused = world.db.run_schedule_now(&name(), night(2, 31), "").await.unwrap_err();
    let job = run.job_id.unwrap();
    assert!(
        refused.kind() == ErrorKind::Conflict && refused.to_string().contains(&format!("job cancel {job}")),
        "{refused}"
    );
    world.end(job, "failed").await;
    world.db.run_schedule_now(&name(), night(2, 32), "").await.unwrap();
}

#[tokio::test]
async fn a_backfill_gives_each_time_one_run_however_often_it_is_asked_for() {
    let world = World::new().await;
    let schedule = world.add(json!({"missed": "skip"})).await;
    world.fire(&schedule, night(3, 0)).await;
    let times = backfill_times(&schedule.spec, night(1, 0), night(4, 0), night(4, 0)).unwrap();
    let told = world.db.backfill_schedule(&name(), &times, night(4, 0), true).await.unwrap();
    assert_eq!(told.iter().map(|run| run.new).collect::<Vec<_>>(), [true, true, false, true]);
    assert!(told[2].job_id.is_some());
    assert_eq!(world.outcomes(&schedule).await.len(), 2, "a dry run changes nothing");
    assert_eq!(world.db.backfill_schedule(&name(), &times, night(4, 0), false).await.unwrap(), told);
    let again = world.db.backfill_schedule(&name(), &times, night(4, 0), false).await.unwrap();
    assert!(again.iter().all(|run| !run.new));
    // The time that was filled in before the clock came to it does not fire again; and what fires by itself goes first.
    assert_eq!(world.fire(&schedule, night(4, 0)).await.runs, []);
    assert_eq!(world.fire(&schedule, night(5, 0)).await.runs[0].outcome, RunOutcome::Skipped);
    world.execute("update jobs set state = 'succeeded', finished_at = now()").await;
    for day in [1, 2, 4] {
        let released = world.release(night(5, 1)).await.unwrap();
        assert_eq!((released.fire_at, released.fired_by), (night(day, 0), FiredBy::Backfill));
        world.end(released.job_id.unwrap(), "succeeded").await;
    }
    assert_eq!(world.release(night(5, 1)).await, None);
}

#[tokio::test]
async fn deadlines_are_met_or_raise_an_alarm_and_may_cancel() {
    for (action, state, outcome, cancelled) in [
        ("alarm", "succeeded", DeadlineOutcome::Met, false),
        ("alarm", "failed", DeadlineOutcome::Missed, false),
        ("alarm", "queued", DeadlineOutcome::Missed, false),
        ("cancel", "succeeded", DeadlineOutcome::Met, false),
        ("cancel", "queued", DeadlineOutcome::Missed, true),
    ] {
        let world = World::new().await;
        let schedule = world.add(json!({"deadline": {"at": "07:00", "action": action}})).await;
        let job = world.fire(&schedule, night(2, 0)).await.runs[0].job_id.unwrap();
        if state != "queued" {
            world.end(job, state).await;
        }
        assert_eq!(world.db.settle_deadline(night(2, 299)).await.unwrap(), None, "not before 07:00");
        let settled = world.db.settle_deadline(night(2, 300)).await.unwrap().unwrap();
        assert_eq!(
            (settled.outcome, settled.cancelled, settled.job_id),
            (outcome, cancelled, Some(job)),
            "{action} {state}"
        );
        assert_eq!(world.db.settle_deadline(night(2, 301)).await.unwrap(), None, "once");
        let run = &world.db.schedule_runs(schedule.id, None, 1).await.unwrap()[0];
        assert_eq!(run.deadline_outcome, Some(outcome));
        let job = world.db.job(job).await.unwrap();
        assert_eq!(job.state == JobState::Cancelled, cancelled);
        assert_eq!(job.error.is_some_and(|error| error.contains("deadline of schedule nightly")), cancelled);
    }
}

#[tokio::test]
async fn a_run_that_still_waits_at_a_deadline_that_cancels_never_begins() {
    let world = World::new().await;
    let schedule = world.add(json!({"overlap": "queue_one", "deadline": {"at": "07:00", "action": "cancel"}})).await;
    world.db.run_schedule_now(&name(), night(2, -1), "").await.unwrap();
    assert_eq!(world.fire(&schedule, night(2, 0)).await.runs[0].outcome, RunOutcome::Waiting);
    while world.db.settle_deadline(night(2, 300)).await.unwrap().is_some() {}
    assert_eq!(world.release(night(2, 301)).await, None);
    assert_eq!(world.outcomes(&schedule).await[1].1, RunOutcome::Missed);
}
