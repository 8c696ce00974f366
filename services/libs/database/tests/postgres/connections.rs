//! Connections are left in a state that their next user can rely on.

use std::{task::Poll, time::Duration};

use futures::poll;
use uuid::Uuid;

use crate::world::{LEASE, World};

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
