//! Connections are left in a state that their next user can rely on.

use std::{task::Poll, time::Duration};

use futures::poll;
use uuid::Uuid;

use crate::world::{LEASE, World, all_scored};

/// Whoever waits with a timeout drops a transaction anywhere, also while it is being begun.
#[tokio::test]
async fn a_caller_that_gives_up_at_any_moment_leaves_no_transaction_open() {
    let world = World::new().await;
    for moment in 0..120 {
        let mut claim = std::pin::pin!(world.db.claim(Uuid::new_v4(), 1, "w", LEASE));
        for _ in 0..=moment % 12 {
            if matches!(poll!(&mut claim), Poll::Ready(_)) {
                break;
            }
            tokio::time::sleep(Duration::from_micros(150)).await;
        }
    }
    let idle = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'";
    // What is rolled back in the background takes a moment; what was forgotten stays.
    let started = std::time::Instant::now();
    while world.number(idle).await > 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "a transaction was left open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A commit is dropped anywhere in its COPY when its lease is lost. The pool's few connections go on working for others.
#[tokio::test]
async fn a_commit_that_is_dropped_at_any_moment_spoils_no_connection() {
    let world = World::new().await;
    world.images(200).await;
    let job = world.scoring(2).await;
    let mut dropped = 0;
    for (number, task) in world.tasks(job).await.into_iter().enumerate() {
        let claimed = world.claim(task).await;
        let result = all_scored(&claimed);
        {
            let mut commit = std::pin::pin!(world.db.commit_score(&claimed, &result));
            for _ in 0..=number % 16 {
                if poll!(&mut commit).is_ready() {
                    break;
                }
                tokio::time::sleep(Duration::from_micros(150)).await;
            }
            dropped += usize::from(world.number("select count(*) from predictions").await < 2 * (number as i64 + 1));
        }
        // Either the first has come through all the same, and the fence says so, or this does it.
        match world.db.commit_score(&claimed, &result).await {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), perito_database::ErrorKind::StaleAttempt, "{number}: {error}"),
        }
    }
    assert!(dropped > 10, "only {dropped} commits were dropped before their end");
    assert_eq!(world.number("select count(*) from predictions").await, 200);
}
