//! What waits, and for how long: the figures behind `/metrics`.

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

impl Database {
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
