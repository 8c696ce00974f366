//! Pausing, priorities, limits; planning that fails for a while; listings.

use std::time::Duration;

use perito_database::{Claim, DropReason, ErrorKind, JobChange, JobFilter};
use perito_domain::lifecycle::{JobKind, JobState};
use serde_json::json;
use uuid::Uuid;

use crate::world::{LEASE, World, all_scored, by_prefix};

const LOST: Duration = Duration::from_secs(10);

/// Why the first message of a task leads to nothing.
async fn dropped(world: &World, task: Uuid) -> DropReason {
    match world.db.claim(task, 1, "other", LEASE).await.unwrap() {
        Claim::Dropped(reason) => reason,
        Claim::Claimed(_) => panic!("claimed"),
    }
}

/// The jobs of a round, in order.
async fn round(world: &World, window: i64) -> Vec<Uuid> {
    let mut jobs = Vec::new();
    world
        .db
        .dispatch(JobKind::Score, window, 100, async |messages| {
            jobs = messages.iter().map(|message| message.job_id).collect();
            vec![true; messages.len()]
        })
        .await
        .unwrap();
    jobs
}

fn priority(priority: u8) -> JobChange {
    JobChange { priority: Some(priority), ..JobChange::default() }
}

fn limit(concurrency: Option<u32>) -> JobChange {
    JobChange { concurrency: Some(concurrency), ..JobChange::default() }
}

#[tokio::test]
async fn a_paused_job_keeps_its_tasks_and_gives_none_away() {
    let world = World::new().await;
    world.images(4).await;
    let job = world.scoring(1).await;
    let tasks = world.tasks(job).await;
    let running = world.claim(tasks[0]).await;
    world.dispatch_all(JobKind::Score).await;
    let paused = world.db.pause(job).await.unwrap();
    assert_eq!(paused.state, JobState::Running, "it keeps its place");
    assert!(paused.paused_at.is_some());
    assert_eq!(paused.tasks, [3, 0, 1, 0, 0, 0], "what is dispatched and unclaimed is taken back");
    assert_eq!(world.db.pause(job).await.unwrap().paused_at, paused.paused_at, "twice is fine");
    assert_eq!(dropped(&world, tasks[1]).await, DropReason::Overtaken, "its message means nothing any more");
    assert_eq!(world.dispatch_all(JobKind::Score).await, 0);
    // What runs goes on: its lease is renewed and its result taken.
    assert_eq!(world.db.heartbeat(&[&running.lease], LEASE).await.unwrap(), [tasks[0]]);
    world.db.commit_score(&running, &all_scored(&running)).await.unwrap();
    assert!(world.db.finish_jobs().await.unwrap().is_empty(), "three are left");

    assert_eq!(world.db.resume(job).await.unwrap().paused_at, None);
    assert_eq!(world.db.resume(job).await.unwrap().paused_at, None, "twice is fine");
    assert_eq!(world.dispatch_all(JobKind::Score).await, 3);
    assert_eq!(
        dropped(&world, tasks[1]).await,
        DropReason::Overtaken,
        "the first message is none of the second dispatch"
    );
    for task in &tasks[1..] {
        world.score(*task).await;
    }
    assert_eq!(world.db.finish_jobs().await.unwrap()[0].images_scored, 4);
}

#[tokio::test]
async fn a_job_that_is_paused_with_its_last_tasks_running_succeeds() {
    let world = World::new().await;
    world.images(1).await;
    let job = world.scoring(1).await;
    let running = world.claim(world.tasks(job).await[0]).await;
    world.db.pause(job).await.unwrap();
    world.db.commit_score(&running, &all_scored(&running)).await.unwrap();
    world.db.finish_jobs().await.unwrap();
    let done = world.db.job(job).await.unwrap();
    assert_eq!((done.state, done.paused_at), (JobState::Succeeded, None));
    assert_eq!((done.images_scored, done.tasks), (1, [0, 0, 0, 1, 0, 0]), "frozen");
}

#[tokio::test]
async fn a_paused_queued_job_is_planned_when_it_is_resumed() {
    let world = World::new().await;
    world.images(1).await;
    world.model("m").await;
    let first = world.submit_with(by_prefix(1), 9).await;
    let second = world.submit(by_prefix(1)).await;
    world.db.pause(first).await.unwrap();
    assert_eq!(world.db.plan_next().await.unwrap().unwrap().job_id, second);
    assert!(world.db.plan_next().await.unwrap().is_none());
    // What it selects is frozen when it is resumed.
    world.images(3).await;
    world.db.resume(first).await.unwrap();
    assert_eq!(world.db.plan_next().await.unwrap().unwrap().images, 3);
}

#[tokio::test]
async fn a_paused_job_can_be_cancelled_and_an_ended_one_cannot_be_paused() {
    let world = World::new().await;
    world.images(1).await;
    let job = world.scoring(1).await;
    world.db.pause(job).await.unwrap();
    let cancelled = world.db.cancel(job).await.unwrap();
    assert_eq!((cancelled.state, cancelled.paused_at), (JobState::Cancelled, None));
    for refused in [
        world.db.pause(job).await.unwrap_err(),
        world.db.resume(job).await.unwrap_err(),
        world.db.change_job(job, priority(9)).await.unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(refused.to_string().contains("cancelled"), "{refused}");
    }
    assert_eq!(world.db.pause(Uuid::now_v7()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_changed_priority_counts_for_all_that_is_unclaimed() {
    let world = World::new().await;
    world.images(6).await;
    world.model("m").await;
    let (first, second) = (world.submit(by_prefix(1)).await, world.submit(by_prefix(1)).await);
    while world.db.plan_next().await.unwrap().is_some() {}
    world.db.pause(second).await.unwrap();
    assert_eq!(round(&world, 4).await, [first; 4]);
    let held = world.claim(world.tasks(first).await[0]).await;
    world.db.resume(second).await.unwrap();
    assert_eq!(round(&world, 4).await, [second], "the one place that is free");
    // The urgent one goes before the others, but not before what is claimed.
    assert_eq!(world.db.change_job(second, priority(7)).await.unwrap().priority, 7);
    assert_eq!(round(&world, 4).await, [second; 4]);
    assert_eq!(world.db.job(first).await.unwrap().tasks, [5, 0, 1, 0, 0, 0]);
    assert_eq!(dropped(&world, world.tasks(first).await[1]).await, DropReason::Overtaken);
    assert!(round(&world, 4).await.is_empty(), "and stays there");
    world.db.commit_score(&held, &all_scored(&held)).await.unwrap();
    // Lowered below the others, it goes behind them.
    world.db.change_job(second, priority(0)).await.unwrap();
    assert_eq!(round(&world, 6).await, [first, first, first, first, first, second]);
    assert_eq!(world.db.job(second).await.unwrap().tasks, [5, 1, 0, 0, 0, 0]);
}

#[tokio::test]
async fn an_urgent_job_goes_before_what_waits_even_where_places_are_free() {
    let world = World::new().await;
    world.images(3).await;
    world.model("m").await;
    let (first, second) = (world.submit(by_prefix(1)).await, world.submit_with(by_prefix(3), 9).await);
    while world.db.plan_next().await.unwrap().is_some() {}
    world.db.pause(second).await.unwrap();
    assert_eq!(round(&world, 8).await, [first; 3]);
    world.db.resume(second).await.unwrap();
    let confirm = async |messages: Vec<_>| vec![true; messages.len()];
    let outcome = world.db.dispatch(JobKind::Score, 8, 100, confirm).await.unwrap();
    assert_eq!((outcome.published, outcome.refused, outcome.recalled), (1, 0, 3));
    assert_eq!(round(&world, 8).await, [first; 3], "behind it");
    assert!(round(&world, 8).await.is_empty());
}

#[tokio::test]
async fn what_the_broker_refuses_goes_first_in_the_next_round() {
    let world = World::new().await;
    world.images(3).await;
    world.model("m").await;
    let (first, second) = (world.submit(by_prefix(1)).await, world.submit_with(by_prefix(1), 9).await);
    while world.db.plan_next().await.unwrap().is_some() {}
    world.db.pause(second).await.unwrap();
    assert_eq!(round(&world, 2).await, [first; 2]);
    world.db.resume(second).await.unwrap();
    let half = async |messages: Vec<_>| (0..messages.len()).map(|place| place == 0).collect::<Vec<_>>();
    let outcome = world.db.dispatch(JobKind::Score, 2, 100, half).await.unwrap();
    assert_eq!((outcome.published, outcome.refused, outcome.recalled), (1, 1, 2));
    assert_eq!(round(&world, 2).await, [second]);
}

#[tokio::test]
async fn a_limit_bounds_what_is_dispatched_and_running() {
    let world = World::new().await;
    world.images(6).await;
    world.model("m").await;
    let mut spec = by_prefix(1);
    spec["concurrency"] = json!(3);
    let job = world.submit(spec).await;
    world.db.plan_next().await.unwrap();
    let tasks = world.tasks(job).await;
    assert_eq!(world.db.job(job).await.unwrap().concurrency, Some(3));
    assert_eq!(world.dispatch_all(JobKind::Score).await, 3);
    let held = world.claim(tasks[0]).await;
    assert_eq!(world.dispatch_all(JobKind::Score).await, 0, "one runs, two are dispatched");
    // A lower limit takes back what is above it, the last ones first.
    world.db.change_job(job, limit(Some(2))).await.unwrap();
    assert_eq!(world.db.job(job).await.unwrap().tasks, [4, 1, 1, 0, 0, 0]);
    assert_eq!(dropped(&world, tasks[2]).await, DropReason::Overtaken);
    world.score(tasks[1]).await;
    assert_eq!(world.dispatch_all(JobKind::Score).await, 1);
    world.db.change_job(job, limit(Some(1))).await.unwrap();
    assert_eq!(world.db.job(job).await.unwrap().tasks, [4, 0, 1, 1, 0, 0], "what runs goes on");
    assert_eq!(world.dispatch_all(JobKind::Score).await, 0);
    world.db.commit_score(&held, &all_scored(&held)).await.unwrap();
    assert_eq!(world.dispatch_all(JobKind::Score).await, 1);
    let free = world.db.change_job(job, limit(None)).await.unwrap();
    assert_eq!((free.concurrency, free.priority), (None, 4));
    assert_eq!(world.dispatch_all(JobKind::Score).await, 3);
}

#[tokio::test]
async fn the_job_with_the_fewest_tasks_in_hand_is_next() {
    let world = World::new().await;
    world.images(6).await;
    world.model("m").await;
    let busy = world.submit(by_prefix(1)).await;
    world.db.plan_next().await.unwrap();
    assert_eq!(round(&world, 4).await, [busy; 4]);
    let other = world.submit(by_prefix(1)).await;
    world.db.plan_next().await.unwrap();
    assert_eq!(round(&world, 8).await, [other; 4], "as many as the first one has");
}

#[tokio::test]
async fn a_claim_waits_until_its_dispatch_is_recorded() {
    let world = World::new().await;
    world.images(1).await;
    world.scoring(1).await;
    let mut early = None;
    world
        .db
        .dispatch(JobKind::Score, 8, 8, async |messages| {
            let (db, message) = (world.db.clone(), messages[0].clone());
            early = Some(tokio::spawn(async move {
                db.claim(message.task_id, message.attempt_hint, "quick", LEASE).await.unwrap()
            }));
            tokio::time::sleep(Duration::from_millis(200)).await;
            vec![true]
        })
        .await
        .unwrap();
    assert!(matches!(early.unwrap().await.unwrap(), Claim::Claimed(_)));
}

#[tokio::test]
async fn a_pause_waits_for_a_dispatch_and_takes_it_back() {
    let world = World::new().await;
    world.images(2).await;
    let job = world.scoring(1).await;
    let mut pause = None;
    world
        .db
        .dispatch(JobKind::Score, 8, 8, async |messages| {
            let db = world.db.clone();
            pause = Some(tokio::spawn(async move { db.pause(job).await.unwrap() }));
            tokio::time::sleep(Duration::from_millis(200)).await;
            vec![true; messages.len()]
        })
        .await
        .unwrap();
    assert_eq!(pause.unwrap().await.unwrap().tasks, [2, 0, 0, 0, 0, 0]);
    assert_eq!(world.db.reap_lost(JobKind::Score, 0, LOST).await.unwrap(), 0);
}

#[tokio::test]
async fn planning_that_fails_for_a_while_lets_others_pass() {
    let world = World::new().await;
    world.images(2).await;
    world.model("m").await;
    let cursed = world.submit_with(by_prefix(1), 9).await;
    let good = world.submit(by_prefix(1)).await;
    world
        .execute(&format!(
            "create function curse() returns trigger language plpgsql as
             $$ begin if new.job_id = '{cursed}' then raise 'the disk is full'; end if; return new; end $$"
        ))
        .await;
    world.execute("create trigger curse before insert on tasks for each row execute function curse()").await;
    let deferred = world.db.plan_next().await.unwrap().unwrap();
    assert_eq!((deferred.job_id, deferred.refused), (cursed, None));
    assert!(deferred.deferred.unwrap().contains("the disk is full"));
    assert_eq!(world.db.plan_next().await.unwrap().unwrap().job_id, good, "it goes past");
    assert!(world.db.plan_next().await.unwrap().is_none(), "not yet again");
    let state = world.db.job(cursed).await.unwrap();
    assert_eq!((state.state, state.tasks), (JobState::Queued, [0; 6]));
    assert!(state.error.unwrap().contains("the disk is full"), "whoever looks is told why");
    // It goes on for so long and no longer.
    world.execute("update jobs set plan_failures = 18, plan_after = now()").await;
    assert!(world.db.plan_next().await.unwrap().unwrap().deferred.is_some());
    let wait = "select extract(epoch from plan_after - now())::bigint from jobs where plan_failures = 19";
    assert!((140..=300).contains(&world.number(wait).await), "{} s", world.number(wait).await);
    world.execute("update jobs set plan_after = now() where state = 'queued'").await;
    let refused = world.db.plan_next().await.unwrap().unwrap().refused.unwrap();
    assert!(refused.contains("20 times"), "{refused}");
    assert_eq!(world.db.job(cursed).await.unwrap().state, JobState::Failed);
}

#[tokio::test]
async fn a_plan_that_succeeds_at_last_leaves_no_error() {
    let world = World::new().await;
    world.images(2).await;
    world.model("m").await;
    let job = world.submit(by_prefix(1)).await;
    world.execute("alter table tasks add constraint curse check (ordinal < 0) not valid").await;
    assert!(world.db.plan_next().await.unwrap().unwrap().deferred.is_some());
    world.execute("alter table tasks drop constraint curse").await;
    world.execute("update jobs set plan_after = now()").await;
    assert_eq!(world.db.plan_next().await.unwrap().unwrap().tasks, 2);
    let planned = world.db.job(job).await.unwrap();
    assert_eq!((planned.state, planned.error), (JobState::Running, None));
}

#[tokio::test]
async fn listings_are_filtered() {
    let world = World::new().await;
    world.images(1).await;
    let scoring = world.scoring(1).await;
    let paused = world.submit(by_prefix(1)).await;
    world.db.pause(paused).await.unwrap();
    let alias = json!({"kind": "score", "model": "m@production", "selection": {"by": "backlog"}});
    let by_alias = world.submit(alias).await;
    world.execute(&format!("update jobs set created_at = now() - interval '2 days' where id = '{scoring}'")).await;
    let list = async |filter: JobFilter| -> Vec<Uuid> {
        let jobs = world.db.list_jobs(&JobFilter { limit: 10, ..filter }).await.unwrap();
        jobs.iter().map(|job| job.id).collect()
    };
    let model = |reference: &str| JobFilter { model: Some(reference.parse().unwrap()), ..JobFilter::default() };
    assert_eq!(list(JobFilter::default()).await, [by_alias, paused, scoring]);
    assert_eq!(list(JobFilter { paused: Some(true), ..JobFilter::default() }).await, [paused]);
    assert_eq!(list(JobFilter { paused: Some(false), ..JobFilter::default() }).await, [by_alias, scoring]);
    let since = Some(chrono::Utc::now() - chrono::TimeDelta::hours(1));
    assert_eq!(list(JobFilter { since, ..JobFilter::default() }).await, [by_alias, paused]);
    assert_eq!(list(model("m")).await, [paused, scoring], "by its name");
    assert_eq!(list(model("m@1")).await, [scoring], "by what it was resolved to");
    assert_eq!(list(model("m@production")).await, [by_alias], "as it was submitted");
    assert!(list(model("other")).await.is_empty());
}

#[tokio::test]
async fn throughput_and_the_last_run_come_from_what_was_committed() {
    let world = World::new().await;
    world.images(6).await;
    let job = world.scoring(3).await;
    assert_eq!(world.db.throughput().await.unwrap().fifteen_minutes, 0.0);
    assert!(world.db.last_scoring_job().await.unwrap().is_none());
    let tasks = world.tasks(job).await;
    world.score(tasks[0]).await;
    world.score(tasks[1]).await;
    world
        .execute(&format!("update tasks set finished_at = now() - interval '2 minutes' where id = '{}'", tasks[0]))
        .await;
    world.db.finish_jobs().await.unwrap();
    let throughput = world.db.throughput().await.unwrap();
    assert_eq!(
        (throughput.minute, throughput.five_minutes, throughput.fifteen_minutes),
        (3.0 / 60.0, 0.02, 6.0 / 900.0)
    );
    assert_eq!(world.db.last_scoring_job().await.unwrap().unwrap().id, job);
}
