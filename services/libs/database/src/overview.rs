//! What waits, and for how long, and what was done lately: the figures behind `/metrics` and `perito status`.

use perito_domain::lifecycle::{JobKind, TaskState};

use crate::{
    Database,
    datasets::stored,
    error::{During, Result},
};

/// Open tasks of one kind in one state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaskCount {
    /// The kind.
    pub kind: JobKind,
    /// Runnable, dispatched or running.
    pub state: TaskState,
    /// How many.
    pub tasks: i64,
    /// Seconds since the oldest of them became claimable, was dispatched, or was claimed.
    pub oldest_seconds: f64,
}

/// Images that scoring tasks have dealt with, per second, over the time that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Throughput {
    /// Over the last minute.
    pub minute: f64,
    /// Over the last five minutes.
    pub five_minutes: f64,
    /// Over the last fifteen minutes.
    pub fifteen_minutes: f64,
}

/// Jobs that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenJobs {
    /// Not planned yet.
    pub queued: i64,
    /// Planned.
    pub running: i64,
    /// Of both, those that are paused.
    pub paused: i64,
}

impl Database {
    /// How many jobs have not ended.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn open_jobs(&self) -> Result<OpenJobs> {
        sqlx::query_as!(
            OpenJobs,
            r#"select count(*) filter (where state = 'queued') as "queued!", count(*) filter (where state = 'running') as "running!",
                      count(paused_at) as "paused!"
               from jobs where state in ('queued', 'running')"#
        )
        .fetch_one(&self.control)
        .await
        .during("count open jobs")
    }

    /// How fast images are being scored, by what was committed.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn throughput(&self) -> Result<Throughput> {
        sqlx::query_as!(
            Throughput,
            r#"select coalesce(sum(images_scored + images_failed) filter (where finished_at > now() - interval '1 minute'), 0)
                          / 60.0::double precision as "minute!",
                      coalesce(sum(images_scored + images_failed) filter (where finished_at > now() - interval '5 minutes'), 0)
                          / 300.0::double precision as "five_minutes!",
                      coalesce(sum(images_scored + images_failed), 0) / 900.0::double precision as "fifteen_minutes!"
               from tasks where kind = 'score' and state = 'succeeded' and finished_at > now() - interval '15 minutes'"#
        )
        .fetch_one(&self.control)
        .await
        .during("measure the throughput")
    }

    /// Open tasks by kind and state. What is not listed is zero.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn task_counts(&self) -> Result<Vec<TaskCount>> {
        let rows = sqlx::query!(
            r#"select kind, state, count(*) as "tasks!",
                      greatest(0, extract(epoch from now() - min(case state when 'runnable' then not_before
                                                                            when 'dispatched' then dispatched_at
                                                                            else started_at end)))::double precision as "oldest!"
               from tasks where state in ('runnable', 'dispatched', 'running')
               group by kind, state"#
        )
        .fetch_all(&self.control)
        .await
        .during("count open tasks")?;
        rows.into_iter()
            .map(|row| {
                Ok(TaskCount {
                    kind: stored(&row.kind)?,
                    state: stored(&row.state)?,
                    tasks: row.tasks,
                    oldest_seconds: row.oldest,
                })
            })
            .collect()
    }
}
