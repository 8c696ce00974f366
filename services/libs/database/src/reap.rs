//! Dead leases and lost messages: what nobody works on any more runs again, or is split when its workers died of it. And which tasks nobody
//! will go on with.

use std::time::Duration;

use perito_domain::{
    failure::FailureReason,
    lifecycle::{JobKind, TaskEvent, TaskState},
    poison::{Expired, after_expiry},
    retry::Trouble,
};
use sqlx::PgConnection;
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
    /// Tasks whose workers died, and which were split in halves.
    pub split: u64,
    /// Images that crash workers, and were given up.
    pub given_up: u64,
}

impl Reaped {
    /// How many leases were found to have run out.
    pub fn total(&self) -> u64 {
        self.returned + self.failed + self.split + self.given_up
    }
}

/// A task whose lease has run out, and what is decided about it.
struct Verdict {
    id: Uuid,
    job_id: Uuid,
    attempt: i32,
    crashes: i32,
    event: TaskEvent,
    error: String,
}

impl Database {
    /// Takes tasks away from workers whose lease ran out, at most `limit` in this round, and decides by [`after_expiry`] what becomes
    /// of each. To be called by somebody who has seen the database answer for long enough that a worker that lives would have been
    /// heard of.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn reap_expired(&self, limit: i64) -> Result<Reaped> {
        self.reap(limit, Trouble::Silent).await
    }

    /// Likewise just after the database was away: workers that live had no chance to renew their leases. No attempt counts, and none
    /// is a crash.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn reap_after_outage(&self, limit: i64) -> Result<Reaped> {
        self.reap(limit, Trouble::Outage).await
    }

    async fn reap(&self, limit: i64, trouble: Trouble) -> Result<Reaped> {
        let mut tx = self.begin("begin reaping").await?;
        let mut verdicts = expired(&mut tx, limit, trouble == Trouble::Outage).await?;
        leave_locked_jobs(&mut tx, &mut verdicts).await?;
        let reaped = count(&verdicts);
        if reaped.total() > 0 {
            apply(&mut tx, &verdicts, trouble).await?;
            split(&mut tx, &verdicts).await?;
            give_up(&mut tx, &verdicts).await?;
        }
        tx.commit().await.during("commit what was reaped")?;
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
             ), free as (
                 -- What is being claimed at this moment is not lost.
                 select id from tasks where id in (select id from lost) and state = any($2) for update skip locked
             )
             update tasks t set state = 'runnable' from free where t.id = free.id",
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

/// Locks tasks whose lease has run out, and decides. A worker that was heard of after the end of an attempt, in the same life in which
/// it had begun it, did not die of it: attempts of which that turned out are no crashes.
async fn expired(tx: &mut PgConnection, limit: i64, outage: bool) -> Result<Vec<Verdict>> {
    let rows = sqlx::query!(
        r#"
        with expired as (
            select id, job_id, kind, attempt, attempts_spent, max_attempts, cardinality(image_ids) as images, parent_id, worker,
                   lease_expires_at
            from tasks where state = any($1) and lease_expires_at < now()
            order by lease_expires_at limit $2 for update skip locked
        )
        select e.id, e.job_id, e.kind, e.attempt, e.attempts_spent, e.max_attempts, e.images as "images!",
               e.parent_id is not null as "is_half!", e.worker as "worker!", crashed.attempts as "crashes!"
        from expired e
        cross join lateral (
            select count(*) as attempts from attempts a
            where a.task_id = e.id and (a.error_class = 'silent' or a.attempt = e.attempt and not $3)
              and not exists (
                  select from workers w
                  where w.name = a.worker and w.started_at <= a.started_at and w.heartbeat_at > coalesce(a.ended_at, e.lease_expires_at))
        ) crashed
        "#,
        &TaskEvent::Expire.sources(),
        limit,
        outage
    )
    .fetch_all(tx)
    .await
    .during("find expired leases")?;
    rows.into_iter()
        .map(|row| {
            let crashes = u32::try_from(row.crashes).unwrap_or(u32::MAX);
            let event = after_expiry(Expired {
                kind: stored(&row.kind)?,
                images: row.images.unsigned_abs() as usize,
                is_half: row.is_half,
                crashes,
                attempts_left: outage || row.attempts_spent < row.max_attempts,
            });
            let what = match event {
                _ if outage => "the lease ran out while the database was away".to_owned(),
                TaskEvent::Split => format!("{crashes} of its workers died: split into two tasks with half of its images each"),
                TaskEvent::Exhaust => format!(
                    "its workers went silent in {} of {} attempts, as when they are killed for want of memory: see their last lines of \
                     log, and their memory limits",
                    row.attempts_spent, row.max_attempts
                ),
                _ => "the worker went silent, and its lease ran out".to_owned(),
            };
            Ok(Verdict {
                id: row.id,
                job_id: row.job_id,
                attempt: row.attempt,
                crashes: crashes.cast_signed(),
                event,
                error: format!("attempt {} by worker {}: {what}", row.attempt, row.worker),
            })
        })
        .collect()
}

/// New tasks of a job are made while nothing else changes the job: where that is not so at this moment, the task is left for the next
/// round. Nothing waits here, since others lock a job before its tasks.
async fn leave_locked_jobs(tx: &mut PgConnection, verdicts: &mut Vec<Verdict>) -> Result<()> {
    let is_split = |verdict: &Verdict| verdict.event == TaskEvent::Split;
    let jobs: Vec<Uuid> = verdicts.iter().filter(|verdict| is_split(verdict)).map(|verdict| verdict.job_id).collect();
    if jobs.is_empty() {
        return Ok(());
    }
    let locked = sqlx::query_scalar!(
        "select id from jobs where id = any($1) and state = 'running' for no key update skip locked",
        &jobs
    )
    .fetch_all(tx)
    .await
    .during("lock the jobs of tasks to be split")?;
    verdicts.retain(|verdict| !is_split(verdict) || locked.contains(&verdict.job_id));
    Ok(())
}

fn count(verdicts: &[Verdict]) -> Reaped {
    let mut reaped = Reaped::default();
    for verdict in verdicts {
        match verdict.event {
            TaskEvent::Expire => reaped.returned += 1,
            TaskEvent::Split => reaped.split += 1,
            TaskEvent::GiveUp => reaped.given_up += 1,
            _ => reaped.failed += 1,
        }
    }
    reaped
}

/// Moves the tasks, and ends their attempts.
async fn apply(tx: &mut PgConnection, verdicts: &[Verdict], trouble: Trouble) -> Result<()> {
    let ids: Vec<_> = verdicts.iter().map(|verdict| verdict.id).collect();
    let attempts: Vec<_> = verdicts.iter().map(|verdict| verdict.attempt).collect();
    let crashes: Vec<_> = verdicts.iter().map(|verdict| verdict.crashes).collect();
    let errors: Vec<_> = verdicts.iter().map(|verdict| verdict.error.clone()).collect();
    let states: Vec<String> = verdicts
        .iter()
        .map(|verdict| verdict.event.apply(TaskState::Running).unwrap_or(TaskState::Failed).to_string())
        .collect();
    let failures: Vec<_> = verdicts.iter().map(|verdict| i32::from(verdict.event == TaskEvent::GiveUp)).collect();
    sqlx::query!(
        "with verdicts as (
             select * from unnest($1::uuid[], $2::int[], $3::text[], $4::int[], $5::int[], $6::text[])
                 as verdict(id, attempt, state, crashes, failures, error)
         ), moved as (
             update tasks t
             set state = v.state, crashes = v.crashes, images_failed = v.failures, error = v.error, lease_expires_at = null,
                 not_before = now(), finished_at = case when v.state = 'runnable' then null else now() end,
                 attempts_spent = t.attempts_spent - $9
             from verdicts v
             where t.id = v.id and t.attempt = v.attempt and t.state = any($8)
             returning t.id, t.attempt, v.error
         )
         update attempts a
         set ended_at = now(), outcome = 'expired', error = moved.error, error_class = $7
         from moved where a.task_id = moved.id and a.attempt = moved.attempt",
        &ids,
        &attempts,
        &states,
        &crashes,
        &failures,
        &errors,
        trouble.as_str(),
        &TaskEvent::Expire.sources(),
        i32::from(!trouble.policy().counts)
    )
    .execute(tx)
    .await
    .during("reap expired leases")?;
    Ok(())
}

/// Halves take the place of a task, behind all others of its job.
async fn split(tx: &mut PgConnection, verdicts: &[Verdict]) -> Result<()> {
    let split: Vec<_> =
        verdicts.iter().filter(|verdict| verdict.event == TaskEvent::Split).map(|verdict| verdict.id).collect();
    if split.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into tasks (id, job_id, kind, ordinal, image_ids, max_attempts, parent_id)
         select gen_random_uuid(), p.job_id, p.kind,
                last.ordinal + row_number() over (partition by p.job_id order by p.ordinal, half.place),
                half.image_ids, p.max_attempts, p.id
         from tasks p
         cross join lateral (select t.ordinal from tasks t where t.job_id = p.job_id order by t.ordinal desc limit 1) last
         cross join lateral (
             values (1, p.image_ids[:cardinality(p.image_ids) / 2]), (2, p.image_ids[cardinality(p.image_ids) / 2 + 1:])
         ) half(place, image_ids)
         where p.id = any($1)",
        &split
    )
    .execute(tx)
    .await
    .during("split tasks")?;
    Ok(())
}

/// An image that crashes workers is a result: it has no score.
async fn give_up(tx: &mut PgConnection, verdicts: &[Verdict]) -> Result<()> {
    let (tasks, errors): (Vec<_>, Vec<_>) = verdicts
        .iter()
        .filter(|verdict| verdict.event == TaskEvent::GiveUp)
        .map(|verdict| {
            (verdict.id, format!("{} workers died with this image alone; {}", verdict.crashes, verdict.error))
        })
        .unzip();
    if tasks.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into image_failures (job_id, image_id, task_id, reason, detail)
         select t.job_id, t.image_ids[1], t.id, $3, given_up.detail
         from unnest($1::uuid[], $2::text[]) as given_up(id, detail) join tasks t on t.id = given_up.id",
        &tasks,
        &errors,
        FailureReason::CrashedWorker.as_str()
    )
    .execute(tx)
    .await
    .during("record images that crash workers")?;
    Ok(())
}
