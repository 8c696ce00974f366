//! Claims and commits that share a transaction: the same as one by one, and what is special is left to that.

use perito_database::{ClaimedTask, ScoreResult};
use perito_domain::lifecycle::JobKind;
use uuid::Uuid;

use crate::world::{LEASE, World, all_scored};

/// A job of so many tasks with two images each, all of them dispatched.
async fn dispatched(world: &World, tasks: usize) -> (Uuid, Vec<Uuid>) {
    world.images(2 * tasks).await;
    let job = world.scoring(2).await;
    world.dispatch_all(JobKind::Score).await;
    (job, world.tasks(job).await)
}

async fn claimed(world: &World, tasks: &[Uuid]) -> Vec<Option<ClaimedTask>> {
    let wanted: Vec<_> = tasks.iter().map(|task| (*task, 1)).collect();
    world.db.claim_together(&wanted, "w", LEASE).await.unwrap()
}

#[tokio::test]
async fn a_claim_together_gives_what_a_single_one_gives() {
    let world = World::new().await;
    let (_, tasks) = dispatched(&world, 5).await;
    let alone = world.claim(tasks[4]).await;
    let together = claimed(&world, &tasks[..4]).await;
    for (task, claimed) in tasks.iter().zip(together) {
        let claimed = claimed.unwrap();
        assert_eq!((claimed.lease.task_id(), claimed.lease.job_id()), (*task, alone.lease.job_id()));
        assert_eq!((claimed.lease.attempt(), claimed.kind, claimed.run_date), (1, alone.kind, alone.run_date));
        assert_eq!((&claimed.spec, &claimed.model, claimed.images.len()), (&alone.spec, &alone.model, 2));
        assert!(claimed.images.is_sorted_by_key(|image| image.id));
    }
    let as_one = "select count(distinct (state, attempt, attempts_spent, worker, lease_expires_at > now() + interval '20 s')) from tasks";
    assert_eq!(world.number(as_one).await, 1);
    assert_eq!(world.number("select count(*) from attempts where worker = 'w' and attempt = 1").await, 5);
}

#[tokio::test]
async fn what_cannot_be_claimed_or_may_crash_workers_is_left() {
    let world = World::new().await;
    let (_, tasks) = dispatched(&world, 7).await;
    let held = world.claim(tasks[0]).await;
    let done = world.claim(tasks[1]).await;
    world.db.commit_score(&done, &all_scored(&done)).await.unwrap();
    world.execute(&format!("update tasks set crashes = 1 where id = '{}'", tasks[2])).await;
    world.execute(&format!("update tasks set attempt = 1 where id = '{}'", tasks[3])).await;
    world.execute(&format!("update tasks set parent_id = '{}' where id = '{}'", tasks[0], tasks[4])).await;
    let mut wanted = tasks.clone();
    wanted.extend([Uuid::now_v7(), tasks[5]]);
    let got: Vec<_> = claimed(&world, &wanted).await.iter().map(Option::is_some).collect();
    // Of the two messages for the sixth task the first has it.
    assert_eq!(got, [false, false, false, false, false, true, true, false, false]);
    assert_eq!(world.db.heartbeat(&[&held.lease], LEASE).await.unwrap(), [tasks[0]]);
    assert_eq!(world.number("select count(*) from attempts").await, 4);
    let paused = "update jobs set paused_at = now(); update tasks set state = 'dispatched' where state = 'runnable'";
    for statement in paused.split(';') {
        world.execute(statement).await;
    }
    assert!(claimed(&world, &tasks[2..5]).await.iter().all(Option::is_none));
}

#[tokio::test]
async fn a_commit_together_writes_all_that_is_still_owned_and_nothing_else() {
    let world = World::new().await;
    let (job, tasks) = dispatched(&world, 4).await;
    let claims: Vec<_> = claimed(&world, &tasks).await.into_iter().map(Option::unwrap).collect();
    let mut results: Vec<_> = claims.iter().map(all_scored).collect();
    // Expired, and not whole.
    world
        .execute(&format!("update tasks set lease_expires_at = now() - interval '1 s' where id = '{}'", tasks[1]))
        .await;
    assert_eq!(world.db.reap_expired(10).await.unwrap().returned, 1);
    results[2].predictions.pop();
    let done: Vec<_> = claims.iter().zip(&results).collect();
    assert_eq!(world.db.commit_scores_together(&done).await.unwrap(), [true, false, false, true]);
    assert_eq!(world.number("select count(*) from predictions").await, 4);
    let succeeded = "select count(*) from tasks t join attempts a on a.task_id = t.id
                     where t.state = 'succeeded' and a.outcome = 'succeeded' and a.ended_at is not null and t.images_scored = 2";
    assert_eq!(world.number(succeeded).await, 2);
    // Once more, as after an answer that was lost.
    assert_eq!(world.db.commit_scores_together(&done).await.unwrap(), [false; 4]);
    assert_eq!(world.number("select count(*) from predictions").await, 4);
    world.score(tasks[1]).await;
    world.db.commit_score(&claims[2], &all_scored(&claims[2])).await.unwrap();
    assert_eq!(world.db.finish_jobs().await.unwrap()[0].id, job);
    assert_eq!(world.number("select count(distinct image_id) from predictions").await, 8);
}

#[tokio::test]
async fn a_commit_together_waits_for_nobody_and_an_error_commits_none() {
    let world = World::new().await;
    let (_, tasks) = dispatched(&world, 3).await;
    let claims: Vec<_> = claimed(&world, &tasks).await.into_iter().map(Option::unwrap).collect();
    let results: Vec<_> = claims.iter().map(all_scored).collect();
    let done: Vec<(&ClaimedTask, &ScoreResult)> = claims.iter().zip(&results).collect();
    let mut other = world.test.pool().begin().await.unwrap();
    sqlx::query("select from tasks where id = $1 for update").bind(tasks[1]).execute(&mut *other).await.unwrap();
    assert_eq!(world.db.commit_scores_together(&done[..2]).await.unwrap(), [true, false]);
    other.rollback().await.unwrap();

    world.execute("alter table predictions add constraint no_more check (false) not valid").await;
    world.db.commit_scores_together(&done[1..]).await.unwrap_err();
    assert_eq!(world.number("select count(*) from tasks where state = 'running'").await, 2);
    world.execute("alter table predictions drop constraint no_more").await;
    assert_eq!(world.db.commit_scores_together(&done[1..]).await.unwrap(), [true, true]);
    assert_eq!(world.number("select count(*) from predictions").await, 6);
}
