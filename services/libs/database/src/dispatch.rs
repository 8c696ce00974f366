//! Runnable tasks go out: the transactional outbox.
//!
//! Rows are taken, published and marked within one transaction. If the process dies in between, nothing is marked, another replica
//! publishes again at once, and the duplicate message is dropped by the claim.
//!
//! What a round costs depends on the window and on how many jobs run, not on how many tasks wait: each job's next tasks are found
//! through an index.

use perito_domain::{
    lifecycle::{JobKind, TaskEvent},
    message::TaskMessage,
    window,
};
use sqlx::PgConnection;
use uuid::Uuid;

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
    /// Tasks that were taken back so that more urgent ones go before them: they are runnable again, and their messages mean nothing.
    pub recalled: u64,
}

impl Database {
    /// Publishes runnable tasks of one kind until `window` of them are dispatched and unclaimed, at most `batch` in this round. The most
    /// urgent come first: less urgent ones that nobody has claimed are taken back, and sent again behind them in a later round. Then
    /// come the jobs with the fewest tasks in hand. Tasks of paused jobs, and those above their job's limit, wait. `publish` tells for
    /// each message whether the broker confirmed it.
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
        // Most of the time there is nothing to do, and a coordinator that waits should cost next to nothing.
        if !self.any_running(Some(kind)).await? {
            return Ok(Dispatched::default());
        }
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
        let dispatched = in_the_broker(&mut tx, kind).await?;
        let full = dispatched.len() as i64 >= window;
        // Without room, only what is more urgent than the least urgent one there comes into question.
        let above = dispatched.iter().map(|(_, priority)| *priority).min().filter(|_| full).unwrap_or(-1);
        let candidates = candidates(&mut tx, kind, batch.min(window), above).await?;
        let round = window::round(usize::try_from(window).unwrap_or(0), &dispatched, &candidates);
        if round.send.is_empty() {
            return Ok(Dispatched::default());
        }
        let recalled = recall(&mut tx, &round.recall).await?;
        let messages = lock(&mut tx, kind, &round.send).await?;
        let ids: Vec<Uuid> = messages.iter().map(|message| message.task_id).collect();
        let confirmed = publish(messages).await;
        let published: Vec<Uuid> =
            ids.iter().zip(&confirmed).filter(|(_, confirmed)| **confirmed).map(|(id, _)| *id).collect();
        sqlx::query!("update tasks set state = 'dispatched', dispatched_at = now() where id = any($1)", &published)
            .execute(&mut *tx)
            .await
            .during("mark tasks dispatched")?;
        tx.commit().await.during("commit the dispatch")?;
        Ok(Dispatched { published: published.len() as u64, refused: (ids.len() - published.len()) as u64, recalled })
    }
}

impl Database {
    /// Whether a job runs, of this kind or of any.
    pub(crate) async fn any_running(&self, kind: Option<JobKind>) -> Result<bool> {
        sqlx::query_scalar!(
            r#"select exists (select from jobs where state = 'running' and kind = coalesce($1, kind)) as "any!""#,
            kind.map(JobKind::as_str)
        )
        .fetch_one(&self.control)
        .await
        .during("see whether a job runs")
    }
}

/// Tasks that have a place in the broker, with their priority.
async fn in_the_broker(tx: &mut PgConnection, kind: JobKind) -> Result<Vec<(Uuid, i16)>> {
    let rows = sqlx::query!(
        "select t.id, j.priority from tasks t join jobs j on j.id = t.job_id
         where t.kind = $1 and t.state = 'dispatched'",
        kind.as_str()
    )
    .fetch_all(tx)
    .await
    .during("look at what is dispatched")?;
    Ok(rows.into_iter().map(|row| (row.id, row.priority)).collect())
}

/// Runnable tasks of jobs above a priority, in the order in which they shall be sent. A job's turn counts the tasks that it has in
/// hand already, so that each job gets as many as the others; where there are more jobs than places, those come first whose next task is the
/// earliest of its job.
async fn candidates(tx: &mut PgConnection, kind: JobKind, limit: i64, above: i16) -> Result<Vec<(Uuid, i16)>> {
    // As many jobs as tasks are enough: each of them has one at least. `order by … limit 1` where `exists` would do makes sure of the
    // index, whatever the planner believes about a job that has few tasks left.
    let rows = sqlx::query!(
        r#"
        with in_hand as (
            select job_id, count(*) as tasks from tasks where kind = $1 and state in ('dispatched', 'running') group by job_id
        ), next_jobs as (
            select j.id, j.priority, coalesce(h.tasks, 0) as in_hand, any_task.ordinal as served,
                   least($2, coalesce(j.concurrency - coalesce(h.tasks, 0), $2)) as room
            from jobs j
            left join in_hand h on h.job_id = j.id
            cross join lateral (
                select t.ordinal from tasks t where t.job_id = j.id and t.state = 'runnable' and t.not_before <= now()
                order by t.ordinal limit 1
            ) any_task
            where j.state = 'running' and j.kind = $1 and j.paused_at is null and j.priority > $3
              and (j.concurrency is null or j.concurrency > coalesce(h.tasks, 0))
            order by j.priority desc, in_hand, served, j.id limit $2
        )
        select task.id as "id!", j.priority as "priority!"
        from next_jobs j
        cross join lateral (
            select next.id, row_number() over (order by next.ordinal) as turn
            from (select t.id, t.ordinal from tasks t
                  where t.job_id = j.id and t.state = 'runnable' and t.not_before <= now()
                  order by t.ordinal limit j.room) next
        ) task
        order by j.priority desc, j.in_hand + task.turn, j.served, j.id limit $2
        "#,
        kind.as_str(),
        limit,
        above
    )
    .fetch_all(tx)
    .await
    .during("find runnable tasks")?;
    Ok(rows.into_iter().map(|row| (row.id, row.priority)).collect())
}

/// Takes tasks, without waiting for those that somebody else holds. Their jobs are held too: one that is being paused, limited or ended
/// at this moment is left out, and one that would be has to wait until its messages are counted.
async fn lock(tx: &mut PgConnection, kind: JobKind, tasks: &[Uuid]) -> Result<Vec<TaskMessage>> {
    let rows = sqlx::query!(
        r#"select t.id, t.job_id, t.attempt, j.traceparent
           from unnest($1::uuid[]) with ordinality as chosen(id, place)
           join tasks t on t.id = chosen.id join jobs j on j.id = t.job_id
           where t.state = any($2) and j.state = 'running' and j.paused_at is null
           order by chosen.place
           for update of t skip locked for share of j skip locked"#,
        tasks,
        &TaskEvent::Dispatch.sources()
    )
    .fetch_all(tx)
    .await
    .during("take runnable tasks")?;
    Ok(rows
        .into_iter()
        .map(|row| TaskMessage {
            job_id: row.job_id,
            task_id: row.id,
            kind,
            attempt_hint: row.attempt.unsigned_abs() + 1,
            traceparent: row.traceparent,
        })
        .collect())
}

/// Takes back tasks that nobody has claimed yet. One that is being claimed at this moment stays where it is.
async fn recall(tx: &mut PgConnection, tasks: &[Uuid]) -> Result<u64> {
    let recalled = sqlx::query!(
        "update tasks set state = 'runnable', attempt = attempt + 1
         where id in (select id from tasks where id = any($1) and state = any($2) for update skip locked)",
        tasks,
        &TaskEvent::Recall.sources()
    )
    .execute(tx)
    .await
    .during("recall less urgent tasks")?;
    Ok(recalled.rows_affected())
}
