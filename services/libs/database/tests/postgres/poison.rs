//! Workers that die of an image, workers that only seem to, and outages in which nobody is heard of.

use perito_database::{Claim, DropReason, ErrorKind, WorkerReport};
use perito_domain::lifecycle::{JobKind, JobState};
use serde_json::json;
use uuid::Uuid;

use crate::world::{LEASE, World, all_scored};

/// The worker of every claim goes silent.
async fn expire(world: &World) {
    world.execute("update tasks set lease_expires_at = now() - interval '1 microsecond' where state = 'running'").await;
}

async fn reports(world: &World, instance: Uuid) {
    let kinds = vec![JobKind::Score];
    let report = WorkerReport { name: "w".into(), instance, version: "1".into(), device: "cpu".into(), kinds };
    world.db.beat(&report, &[]).await.unwrap();
}

/// What runs next of a job, in order.
async fn waiting(world: &World, job: Uuid) -> Vec<Uuid> {
    sqlx::query_scalar(
        "select id from tasks where job_id = $1 and state in ('runnable', 'dispatched') order by ordinal",
    )
    .bind(job)
    .fetch_all(world.test.pool())
    .await
    .unwrap()
}

#[tokio::test]
async fn the_one_image_that_kills_workers_becomes_a_failure_and_all_others_are_scored() {
    let world = World::new().await;
    let ids = world.images(32).await;
    let poison = ids[21];
    let job = world.scoring(16).await;
    let mut crashes = 0;
    while let Some(task) = waiting(&world, job).await.first().copied() {
        let claimed = world.claim(task).await;
        if claimed.images.iter().any(|image| image.id == poison) {
            crashes += 1;
            assert!(crashes < 20, "it goes on and on");
            expire(&world).await;
            world.db.reap_expired(10).await.unwrap();
            // Its zombie wakes up.
            let late = world.db.commit_score(&claimed, &all_scored(&claimed)).await.unwrap_err();
            assert_eq!(late.kind(), ErrorKind::StaleAttempt);
        } else {
            world.db.commit_score(&claimed, &all_scored(&claimed)).await.unwrap();
        }
        let counted = "select sum(cardinality(image_ids)) from tasks where state <> 'split'";
        assert_eq!(world.number(counted).await, 32, "each image in one task");
    }
    assert_eq!(crashes, 2 + 3 + 3, "16 images twice, 8, 4 and 2 once, the one three times");
    let finished = world.db.finish_jobs().await.unwrap().remove(0);
    assert_eq!((finished.state, finished.images_scored, finished.images_failed), (JobState::Succeeded, 31, 1));
    assert_eq!(world.number("select count(*) from predictions").await, 31);
    let failure = world.text("select string_agg(image_id || ' ' || reason, ',') from image_failures").await;
    assert_eq!(failure, format!("{poison} crashed_worker"));
    assert_eq!(world.db.job(job).await.unwrap().tasks, [0, 0, 0, 6, 0, 0], "what was split is no task to be done");
    assert_eq!(world.number("select count(*) from analytics.task_attempts where error_class = 'silent'").await, 8);
}

#[tokio::test]
async fn a_worker_that_is_heard_of_again_did_not_die() {
    let world = World::new().await;
    world.images(4).await;
    let job = world.scoring(4).await;
    let instance = Uuid::now_v7();
    reports(&world, instance).await;
    for _ in 0..3 {
        world.claim(waiting(&world, job).await[0]).await;
        expire(&world).await;
        let reaped = world.db.reap_expired(10).await.unwrap();
        assert_eq!((reaped.returned, reaped.split), (1, 0));
        // Cut off from the database for a while, and there again.
        reports(&world, instance).await;
    }
    assert_eq!(
        world.number("select crashes::bigint from tasks").await,
        1,
        "the last one, of which nothing is known yet"
    );
    // Another life under the same name is no sign of the one before.
    world.claim(waiting(&world, job).await[0]).await;
    expire(&world).await;
    world.db.reap_expired(10).await.unwrap();
    reports(&world, Uuid::now_v7()).await;
    assert_eq!(world.number("select crashes::bigint from tasks").await, 1, "a crash as far as is known");
    world.claim(waiting(&world, job).await[0]).await;
    expire(&world).await;
    assert_eq!(world.db.reap_expired(10).await.unwrap().split, 1, "two lives lost");
}

#[tokio::test]
async fn an_outage_of_the_database_is_no_crash_and_burns_no_attempt() {
    let world = World::new().await;
    world.images(1).await;
    let job = world.scoring(1).await;
    for _ in 0..10 {
        world.claim(waiting(&world, job).await[0]).await;
        expire(&world).await;
        assert_eq!(world.db.reap_after_outage(10).await.unwrap().returned, 1);
    }
    assert_eq!(world.number("select crashes + attempts_spent::bigint from tasks").await, 0);
    assert_eq!(world.number("select count(*) from attempts where error_class = 'outage'").await, 10);
}

#[tokio::test]
async fn no_worker_has_two_suspects_at_once() {
    let world = World::new().await;
    world.images(4).await;
    let job = world.scoring(2).await;
    for task in waiting(&world, job).await {
        world.claim(task).await;
    }
    expire(&world).await;
    assert_eq!(world.db.reap_expired(10).await.unwrap().returned, 2, "they were in the same worker");
    let tasks = waiting(&world, job).await;
    world.dispatch_all(JobKind::Score).await;
    let [first, second] = [&world, &world].map(|world| world.try_claim(tasks[0], "w"));
    let claims = [first.await, second.await];
    assert!(matches!(claims[0], Claim::Claimed(_)), "{claims:?}");
    let refused = world.try_claim(tasks[1], "w").await;
    assert!(matches!(refused, Claim::Dropped(DropReason::Suspect)), "{refused:?}");
    assert_eq!(world.text(&format!("select state from tasks where id = '{}'", tasks[1])).await, "runnable");
    assert_eq!(world.number("select sum(attempts_spent) from tasks").await, 3, "putting off costs no attempt");
    world.execute("update tasks set not_before = now()").await;
    world.dispatch_all(JobKind::Score).await;
    let elsewhere = world.try_claim(tasks[1], "another").await;
    assert!(matches!(elsewhere, Claim::Claimed(_)), "{elsewhere:?}");
}

#[tokio::test]
async fn two_claims_of_suspects_at_the_same_moment_are_one() {
    let world = World::new().await;
    world.images(6).await;
    let job = world.scoring(1).await;
    world.execute("update tasks set crashes = 1").await;
    world.dispatch_all(JobKind::Score).await;
    let tasks = waiting(&world, job).await;
    let claims = futures::future::join_all(tasks.iter().map(|task| world.db.claim(*task, 1, "w", LEASE))).await;
    let claimed = claims.iter().filter(|claim| matches!(claim, Ok(Claim::Claimed(_)))).count();
    assert_eq!(claimed, 1, "{claims:?}");
}

#[tokio::test]
async fn what_is_being_split_stays_as_it_is_while_its_job_is_changed() {
    let world = World::new().await;
    world.images(4).await;
    let job = world.scoring(4).await;
    world.claim(waiting(&world, job).await[0]).await;
    world.execute("update tasks set attempts_spent = 2").await;
    world
        .execute(
            "insert into attempts (task_id, attempt, worker, ended_at, outcome, error_class)
                   select id, 0, 'w', now(), 'expired', 'silent' from tasks",
        )
        .await;
    expire(&world).await;
    let mut cancelling = world.test.pool().begin().await.unwrap();
    sqlx::query("select from jobs for update").execute(&mut *cancelling).await.unwrap();
    assert_eq!(world.db.reap_expired(10).await.unwrap().total(), 0);
    cancelling.rollback().await.unwrap();
    assert_eq!(world.db.reap_expired(10).await.unwrap().split, 1);
}

#[tokio::test]
async fn a_training_that_kills_its_workers_fails_and_says_so() {
    let world = World::new().await;
    let dataset = world.dataset("d", 3).await;
    let job = world
        .submit(json!({"kind": "train", "model": "t", "dataset": dataset, "architecture": "cnn4", "image_size": 32}))
        .await;
    assert_eq!(world.db.plan_next().await.unwrap().unwrap().refused, None);
    for attempt in 1..=5 {
        world.claim(waiting(&world, job).await[0]).await;
        expire(&world).await;
        let reaped = world.db.reap_expired(10).await.unwrap();
        assert_eq!((reaped.returned, reaped.failed), (u64::from(attempt < 5), u64::from(attempt == 5)));
    }
    let finished = world.db.finish_jobs().await.unwrap().remove(0);
    assert_eq!(finished.state, JobState::Failed);
    let error = finished.error.unwrap();
    assert!(error.contains("silent in 5 of 5 attempts") && error.contains("memory limits"), "{error}");
}
