//! The registry of workers: who lives, and who is to take nothing new.

use std::time::Duration;

use chrono::{DateTime, Utc};
use perito_domain::lifecycle::JobKind;
use serde::Deserialize;
use sqlx::types::Json;
use uuid::Uuid;

use crate::{
    Database, Lease,
    datasets::stored,
    error::{During, Error, ErrorKind, Result},
    lease::interval,
};

/// A worker, as it reports itself.
#[derive(Debug, Clone)]
pub struct WorkerReport {
    /// Its name.
    pub name: String,
    /// This life of the process.
    pub instance: Uuid,
    /// The release.
    pub version: String,
    /// What it computes on.
    pub device: String,
    /// The kinds of task that it takes.
    pub kinds: Vec<JobKind>,
}

/// What a worker learns from its beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Whether it is to take nothing new.
    pub draining: bool,
    /// Which of its tasks are still its own.
    pub held: Vec<Uuid>,
}

/// A worker in the registry.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// The release.
    pub version: String,
    /// What it computes on.
    pub device: String,
    /// The kinds of task that it takes.
    pub kinds: Vec<JobKind>,
    /// When the process began.
    pub started_at: DateTime<Utc>,
    /// When it was heard of last.
    pub heartbeat_at: DateTime<Utc>,
    /// Seconds since then, by the database's clock.
    pub silent_seconds: f64,
    /// Since when it is to take nothing new.
    pub drained_at: Option<DateTime<Utc>>,
    /// The tasks that it holds a lease on, the oldest first.
    pub running: Vec<RunningTask>,
}

/// A task in a worker's hands.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct RunningTask {
    /// The task.
    pub task_id: Uuid,
    /// Its job.
    pub job_id: Uuid,
    /// Its kind.
    pub kind: JobKind,
    /// Since when.
    pub started_at: DateTime<Utc>,
    /// How long that is, in seconds, by the database's clock.
    pub seconds: f64,
}

impl Database {
    /// Reports that a worker lives, and tells it whether to take new tasks and which of its leases are still good. It renews none.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn beat(&self, worker: &WorkerReport, leases: &[&Lease]) -> Result<Beat> {
        let tasks: Vec<_> = leases.iter().map(|lease| lease.task_id()).collect();
        let attempts: Vec<_> = leases.iter().map(|lease| lease.attempt()).collect();
        let kinds: Vec<String> = worker.kinds.iter().map(ToString::to_string).collect();
        let row = sqlx::query!(
            r#"with beat as (
                   insert into workers (name, instance, version, device, kinds) values ($1, $2, $3, $4, $5)
                   on conflict (name) do update
                   set heartbeat_at = now(), instance = excluded.instance, version = excluded.version, device = excluded.device,
                       kinds = excluded.kinds,
                       started_at = case when workers.instance = excluded.instance then workers.started_at else now() end
                   returning drained_at
               )
               select beat.drained_at is not null as "draining!",
                      array(select t.id from unnest($6::uuid[], $7::int[]) as held(id, attempt) join tasks t on t.id = held.id
                            where t.attempt = held.attempt and t.state = 'running') as "held!"
               from beat"#,
            worker.name,
            worker.instance,
            worker.version,
            worker.device,
            &kinds,
            &tasks,
            &attempts
        )
        .fetch_one(&self.control)
        .await
        .during("report that the worker lives")?;
        Ok(Beat { draining: row.draining, held: row.held })
    }

    /// Takes a worker that ends out of the registry. One that was drained stays in it, so that it is still drained when it comes back.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn leave(&self, name: &str, instance: Uuid) -> Result<()> {
        sqlx::query!("delete from workers where name = $1 and instance = $2 and drained_at is null", name, instance)
            .execute(&self.control)
            .await
            .during("take the worker out of the registry")?;
        Ok(())
    }

    /// Tells a worker to take nothing new, or to take new tasks again. It learns of it at its next beat. Doing it twice is fine.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn drain_worker(&self, name: &str, drain: bool) -> Result<()> {
        let found = sqlx::query!(
            "update workers set drained_at = case when $2 then coalesce(drained_at, now()) end where name = $1",
            name,
            drain
        )
        .execute(&self.control)
        .await
        .during("drain the worker")?;
        if found.rows_affected() == 1 {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, format!("there is no worker {name:?}: see `perito worker list`")))
    }

    /// The workers, by name.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list_workers(&self) -> Result<Vec<Worker>> {
        let rows = sqlx::query!(
            r#"select w.name, w.version, w.device, w.kinds, w.started_at, w.heartbeat_at, w.drained_at,
                      extract(epoch from now() - w.heartbeat_at)::double precision as "silent_seconds!",
                      coalesce(r.tasks, '[]') as "running!: Json<Vec<RunningTask>>"
               from workers w
               left join (
                   select worker, jsonb_agg(jsonb_build_object(
                       'task_id', id, 'job_id', job_id, 'kind', kind, 'started_at', started_at,
                       'seconds', extract(epoch from now() - started_at)::double precision) order by started_at) as tasks
                   from tasks where state = 'running' group by worker
               ) r on r.worker = w.name
               order by w.name"#
        )
        .fetch_all(&self.control)
        .await
        .during("list workers")?;
        rows.into_iter()
            .map(|row| {
                Ok(Worker {
                    name: row.name,
                    version: row.version,
                    device: row.device,
                    kinds: row.kinds.iter().map(|kind| stored(kind)).collect::<Result<_>>()?,
                    started_at: row.started_at,
                    heartbeat_at: row.heartbeat_at,
                    silent_seconds: row.silent_seconds,
                    drained_at: row.drained_at,
                    running: row.running.0,
                })
            })
            .collect()
    }

    /// Forgets workers that were not heard of for so long; drained ones after `drained`.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn forget_workers(&self, silent: Duration, drained: Duration) -> Result<u64> {
        let forgotten = sqlx::query!(
            "delete from workers where heartbeat_at < now() - case when drained_at is null then $1::interval else $2::interval end",
            interval(silent),
            interval(drained)
        )
        .execute(&self.control)
        .await
        .during("forget workers")?;
        Ok(forgotten.rows_affected())
    }
}
