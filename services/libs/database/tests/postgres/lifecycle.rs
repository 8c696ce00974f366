//! Claims, leases, failures and zombies.

use std::time::Duration;

use perito_database::{AfterFailure, Claim, DropReason, ErrorKind};
use perito_domain::{
    lifecycle::{JobKind, JobState},
    retry::ErrorClass,
};
use uuid::Uuid;

use crate::world::{LEASE, World, all_scored};

async fn dropped(world: &World, task: Uuid) -> DropReason {
    match world.try_claim(task, "other").await {
        Claim::Dropped(reason) => reason,
        Claim::Claimed(_) => panic!("claimed"),
    }
}

/// A job of one task.
async fn one_task(world: &World) -> (Uuid, Uuid) {
    world.images(3).await;
    let job = world.scoring(10).await;
    world.dispatch_all(JobKind::Score).await;
    (job, world.tasks(job).await[0])
}

#[tokio::test]
async fn of_many_claims_exactly_one_succeeds() {
    let world = World::new().await;
    let (_, task) = one_task(&world).await;
    let claims = futures::future::join_all((0..6).map(|_| world.db.claim(task, 1, "w", LEASE))).await;
    let claimed = claims.into_iter().filter(|claim| matches!(claim, Ok(Claim::Claimed(_)))).count();
    assert_eq!(claimed, 1);
    assert_eq!(world.number("select attempt::bigint from tasks").await, 1);
    assert_eq!(dropped(&world, task).await, DropReason::Held);
    assert_eq!(dropped(&world, Uuid::now_v7()).await, DropReason::Unknown);
}

#[tokio::test]
async fn a_zombie_commits_nothing() {
    let world = World::new().await;
    let (job, task) = one_task(&world).await;
    let zombie = world.claim(task).await;
    world.execute("update tasks set lease_expires_at = now() - interval '1 second'").await;
    let reaped = world.db.reap_expired(10).await.unwrap();
    assert_eq!((reaped.returned, reaped.failed), (1, 0));
    let heir = world.claim(task).await;
    assert_eq!(heir.lease.attempt(), 2);
    let stale = world.db.commit_score(&zombie, &all_scored(&zombie)).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::StaleAttempt);
    assert_eq!(world.number("select count(*) from predictions").await, 0);
    for stale in [
        world.db.release(&zombie.lease).await.unwrap_err(),
        world.db.fail(&zombie.lease, ErrorClass::Transient, "x", Duration::ZERO).await.unwrap_err(),
    ] {
        assert_eq!(stale.kind(), ErrorKind::StaleAttempt);
    }
    assert_eq!(world.db.heartbeat(&[&zombie.lease, &heir.lease], LEASE).await.unwrap(), [task], "the heir's only");
    world.db.commit_score(&heir, &all_scored(&heir)).await.unwrap();
    let twice = world.db.commit_score(&heir, &all_scored(&heir)).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::StaleAttempt, "once only");
    assert_eq!(world.number("select count(*) from predictions").await, 3);
    assert_eq!(dropped(&world, task).await, DropReason::Finished);
    assert_eq!(world.text("select string_agg(outcome, ',' order by attempt) from attempts").await, "expired,succeeded");
    assert_eq!(world.db.finish_jobs().await.unwrap()[0].id, job);
}

#[tokio::test]
async fn a_task_is_closed_once_it_has_succeeded_or_ended_otherwise_long_ago() {
    let world = World::new().await;
    world.images(3).await;
    let job = world.scoring(1).await;
    world.dispatch_all(JobKind::Score).await;
    let tasks = world.tasks(job).await;
    let closed = async || {
        let asked = [tasks.as_slice(), &[Uuid::now_v7()]].concat();
        world.db.closed_tasks(&asked, Duration::from_secs(3600)).await.unwrap()
    };
    let (first, second) = (world.claim(tasks[0]).await, world.claim(tasks[1]).await);
    assert!(closed().await.is_empty(), "two are running, one waits, one is not ours");
    world.db.commit_score(&first, &all_scored(&first)).await.unwrap();
    world.db.fail(&second.lease, ErrorClass::Permanent, "x", Duration::ZERO).await.unwrap();
    assert_eq!(closed().await, [tasks[0]]);
    world.execute("update tasks set finished_at = now() - interval '2 hours' where state = 'failed'").await;
    let mut both = closed().await;
    let mut expected = tasks[..2].to_vec();
    both.sort();
    expected.sort();
    assert_eq!(both, expected);
}

#[tokio::test]
async fn transient_failures_are_retried_with_backoff_until_attempts_are_spent() {
    let world = World::new().await;
    let (job, task) = one_task(&world).await;
    for attempt in 1..=5 {
        let claimed = world.claim(task).await;
        let after =
            world.db.fail(&claimed.lease, ErrorClass::Transient, "S3 is down", Duration::from_secs(60)).await.unwrap();
        assert_eq!(after, if attempt < 5 { AfterFailure::Retried } else { AfterFailure::Failed });
        if attempt < 5 {
            assert_eq!(dropped(&world, task).await, DropReason::NotYet, "its backoff is not over");
            world.execute("update tasks set not_before = now()").await;
        }
    }
    let finished = world.db.finish_jobs().await.unwrap();
    assert_eq!((finished[0].id, finished[0].state), (job, JobState::Failed));
    assert!(finished[0].error.as_deref().unwrap().contains("S3 is down"));
}

#[tokio::test]
async fn a_permanent_failure_fails_at_once_and_takes_the_job_along() {
    let world = World::new().await;
    world.images(4).await;
    let job = world.scoring(1).await;
    let tasks = world.tasks(job).await;
    let held = world.claim(tasks[1]).await;
    let claimed = world.claim(tasks[0]).await;
    let after =
        world.db.fail(&claimed.lease, ErrorClass::Permanent, "the model is gone", Duration::ZERO).await.unwrap();
    assert_eq!(after, AfterFailure::Failed);
    world.db.finish_jobs().await.unwrap();
    let state = world.db.job(job).await.unwrap();
    assert_eq!((state.state, state.tasks), (JobState::Failed, [0, 0, 0, 0, 1, 3]));
    assert_eq!(world.db.commit_score(&held, &all_scored(&held)).await.unwrap_err().kind(), ErrorKind::StaleAttempt);
}

#[tokio::test]
async fn a_release_burns_no_attempt_but_moves_the_fence() {
    let world = World::new().await;
    let (_, task) = one_task(&world).await;
    for _ in 0..10 {
        let claimed = world.claim(task).await;
        world.db.release(&claimed.lease).await.unwrap();
    }
    assert_eq!(world.number("select attempts_spent::bigint from tasks").await, 0);
    assert_eq!(world.claim(task).await.lease.attempt(), 11);
}

#[tokio::test]
async fn cancelling_takes_leases_away_and_can_be_repeated() {
    let world = World::new().await;
    let (job, task) = one_task(&world).await;
    let held = world.claim(task).await;
    assert_eq!(world.db.cancel(job).await.unwrap().state, JobState::Cancelled);
    assert_eq!(world.db.cancel(job).await.unwrap().state, JobState::Cancelled);
    assert!(world.db.heartbeat(&[&held.lease], LEASE).await.unwrap().is_empty());
    assert_eq!(world.db.commit_score(&held, &all_scored(&held)).await.unwrap_err().kind(), ErrorKind::StaleAttempt);
    assert_eq!(world.text("select outcome from attempts").await, "cancelled");
    assert_eq!(world.db.cancel(Uuid::now_v7()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn open_tasks_are_counted_by_kind_and_state() {
    let world = World::new().await;
    world.images(3).await;
    let job = world.scoring(1).await;
    world.claim(world.tasks(job).await[0]).await;
    let counts = world.db.task_counts().await.unwrap();
    let find = |state: &str| counts.iter().find(|count| count.state.as_str() == state).map(|count| count.tasks);
    assert_eq!((find("runnable"), find("running"), find("dispatched")), (Some(2), Some(1), None));
}
