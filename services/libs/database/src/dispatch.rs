//! Runnable tasks go out: the transactional outbox.
//!
//! Rows are taken, published and marked within one transaction. If the process dies in between, nothing is marked, another replica
//! publishes again at once, and the duplicate message is dropped by the claim.

use perito_domain::{
    lifecycle::{JobKind, TaskEvent},
    message::TaskMessage,
};

use crate::{
    Database,
    error::{During, Result},
};

/// What one round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dispatched {
    /// Tasks whose message the broker confirmed.
    pub published: u64,
    /// Tasks whose message it did not: they stay runnable.
    pub refused: u64,
}

impl Database {
    /// Publishes runnable tasks of one kind until `window` of them are dispatched and unclaimed, at most `batch` in this round. The most
    /// urgent come first, then each job's turn. `publish` tells for each message whether the broker confirmed it.
    ///
    /// Does nothing while another replica dispatches the same kind.
    ///
    /// # Errors
    /// `Unavailable`. Messages that were published by then are duplicates later.
    pub async fn dispatch(
        &self,
        kind: JobKind,
        window: i64,
        batch: i64,
        publish: impl AsyncFnOnce(Vec<TaskMessage>) -> Vec<bool>,
    ) -> Result<Dispatched> {
        let mut tx = self.begin("begin dispatching").await?;
        let alone = sqlx::query_scalar!(
            r#"select pg_try_advisory_xact_lock(hashtext('dispatch'), hashtext($1)) as "alone!""#,
            kind.as_str()
        )
        .fetch_one(&mut *tx)
        .await
        .during("lock the dispatcher")?;
        if !alone {
            return Ok(Dispatched::default());
        }
        let rows = sqlx::query!(
            r#"
            with room as (
                select greatest(0, $2 - count(*)) as free from tasks where kind = $1 and state = 'dispatched'
            ), turns as (
                -- Each job's first tasks before any job's later ones.
                select id, priority, row_number() over (partition by job_id order by ordinal) as turn
                from tasks where kind = $1 and state = any($4) and not_before <= now()
            ), chosen as (
                select id, priority, turn from turns order by priority desc, turn limit least($3, (select free from room))
            )
            select t.id, t.job_id, t.attempt, j.traceparent
            from tasks t join chosen c on c.id = t.id join jobs j on j.id = t.job_id
            where t.state = any($4)
            order by c.priority desc, c.turn
            for update of t skip locked
            "#,
            kind.as_str(),
            window,
            batch,
            &TaskEvent::Dispatch.sources()
        )
        .fetch_all(&mut *tx)
        .await
        .during("take runnable tasks")?;
        if rows.is_empty() {
            return Ok(Dispatched::default());
        }
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let messages = rows
            .into_iter()
            .map(|row| TaskMessage {
                job_id: row.job_id,
                task_id: row.id,
                kind,
                attempt_hint: row.attempt.unsigned_abs() + 1,
                traceparent: row.traceparent,
            })
            .collect();
        let confirmed = publish(messages).await;
        let published: Vec<_> =
            ids.iter().zip(&confirmed).filter(|(_, confirmed)| **confirmed).map(|(id, _)| *id).collect();
        sqlx::query!("update tasks set state = 'dispatched', dispatched_at = now() where id = any($1)", &published)
            .execute(&mut *tx)
            .await
            .during("mark tasks dispatched")?;
        tx.commit().await.during("commit the dispatch")?;
        Ok(Dispatched { published: published.len() as u64, refused: (ids.len() - published.len()) as u64 })
    }
}
