//! Dead leases and lost messages: what nobody works on any more runs again. And which tasks nobody will go on with.

use std::time::Duration;

use perito_domain::lifecycle::{JobKind, TaskEvent, TaskState};
use uuid::Uuid;

use crate::{
    Database,
    datasets::stored,
    error::{During, Result},
    lease::interval,
};

/// What one round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reaped {
    /// Tasks that run again.
    pub returned: u64,
    /// Tasks that have used up their attempts.
    pub failed: u64,
}

impl Database {
    /// Takes tasks away from workers whose lease ran out, at most `limit` in this round.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn reap_expired(&self, limit: i64) -> Result<Reaped> {
        let states = sqlx::query_scalar!(
            r#"
            with expired as (
                select id from tasks where state = any($1) and lease_expires_at < now()
                order by lease_expires_at limit $2 for update skip locked
            ), moved as (
                update tasks t
                set state = case when t.attempts_spent < t.max_attempts then 'runnable' else 'failed' end,
                    finished_at = case when t.attempts_spent < t.max_attempts then null else now() end,
                    error = 'the lease of worker ' || t.worker || ' expired in attempt ' || t.attempt,
                    lease_expires_at = null, not_before = now()
                from expired where t.id = expired.id
                returning t.id, t.attempt, t.state, t.error
            ), ended as (
                update attempts a set ended_at = now(), outcome = 'expired', error = moved.error
                from moved where a.task_id = moved.id and a.attempt = moved.attempt
            )
            select state from moved
            "#,
            &TaskEvent::Expire.sources(),
            limit
        )
        .fetch_all(&self.control)
        .await
        .during("reap expired leases")?;
        let mut reaped = Reaped::default();
        for state in states {
            match stored::<TaskState>(&state)? {
                TaskState::Runnable => reaped.returned += 1,
                _ => reaped.failed += 1,
            }
        }
        Ok(reaped)
    }

    /// Makes dispatched tasks runnable again whose message is no longer in the broker: of those dispatched longer than `grace` ago, as
    /// many (the oldest) as there are more of them than messages `ready` in the queue.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn reap_lost(&self, kind: JobKind, ready: u64, grace: Duration) -> Result<u64> {
        let returned = sqlx::query!(
            "with waiting as (
                 select id, dispatched_at from tasks
                 where kind = $1 and state = any($2) and dispatched_at < now() - $4::interval
             ), lost as (
                 select id from waiting order by dispatched_at limit greatest(0, (select count(*) from waiting) - $3::bigint)
             )
             update tasks t set state = 'runnable' from lost where t.id = lost.id and t.state = any($2)",
            kind.as_str(),
            &TaskEvent::LoseMessage.sources(),
            i64::try_from(ready).unwrap_or(i64::MAX),
            interval(grace)
        )
        .execute(&self.control)
        .await
        .during("reap lost messages")?;
        Ok(returned.rows_affected())
    }

    /// Those of these tasks that nobody will go on with: they have succeeded, or ended otherwise longer than `keep` ago.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn closed_tasks(&self, tasks: &[Uuid], keep: Duration) -> Result<Vec<Uuid>> {
        sqlx::query_scalar!(
            "select id from tasks
             where id = any($1)
               and (state = 'succeeded' or state in ('failed', 'cancelled') and finished_at < now() - $2::interval)",
            tasks,
            interval(keep)
        )
        .fetch_all(&self.control)
        .await
        .during("look at old tasks")
    }
}
