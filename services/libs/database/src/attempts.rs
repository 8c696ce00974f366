//! What became of each attempt.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    Database,
    error::{During, Result},
};

/// One claim of a task by a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The task.
    pub task_id: Uuid,
    /// The task's number within its job.
    pub task: i32,
    /// How many images it has.
    pub images: i32,
    /// The attempt's number.
    pub attempt: i32,
    /// Who had it.
    pub worker: String,
    /// Since when.
    pub started_at: DateTime<Utc>,
    /// Until when; it runs.
    pub ended_at: Option<DateTime<Utc>>,
    /// What came of it.
    pub outcome: Option<String>,
    /// The class of what went wrong.
    pub error_class: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

/// Which attempts of a job to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttemptFilter {
    /// Only of this task.
    pub task: Option<i32>,
    /// Only those that did not succeed.
    pub lost: bool,
    /// At most so many.
    pub limit: i64,
}

impl Database {
    /// The attempts on a job's tasks, those that began last first.
    ///
    /// # Errors
    /// `NotFound` when there is no such job.
    pub async fn attempts(&self, job_id: Uuid, filter: AttemptFilter) -> Result<Vec<Attempt>> {
        self.job(job_id).await?;
        sqlx::query_as!(
            Attempt,
            r#"select a.task_id, t.ordinal as task, cardinality(t.image_ids) as "images!", a.attempt, a.worker, a.started_at, a.ended_at,
                      a.outcome, a.error_class, a.error
               from tasks t join attempts a on a.task_id = t.id
               where t.job_id = $1 and ($2::int is null or t.ordinal = $2) and (not $3 or a.outcome is distinct from 'succeeded')
               order by a.started_at desc, t.ordinal, a.attempt desc limit $4"#,
            job_id,
            filter.task,
            filter.lost,
            filter.limit
        )
        .fetch_all(&self.control)
        .await
        .during("list attempts")
    }
}
