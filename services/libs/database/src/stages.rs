//! What the stages of a scoring run did with their time.

use std::time::Duration;

use perito_domain::stages::{Stage, StageSeconds};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Database, Lease,
    datasets::stored,
    error::{During, Result},
};

impl Database {
    /// What each stage of a job did with its time, summed over the tasks that have been committed; empty for a job that has none, or is
    /// no scoring job.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn job_stages(&self, job_id: Uuid) -> Result<Vec<(Stage, StageSeconds)>> {
        let rows = sqlx::query!(
            r#"select stage, sum(busy) as "busy!", sum(starved) as "starved!", sum(blocked) as "blocked!"
               from task_stages where job_id = $1 group by stage"#,
            job_id
        )
        .fetch_all(&self.control)
        .await
        .during("read the job's stages")?;
        let stage = |row: &str| stored::<Stage>(row);
        let mut stages = rows
            .into_iter()
            .map(|row| {
                let seconds = StageSeconds { busy: row.busy, starved: row.starved, blocked: row.blocked };
                Ok((stage(&row.stage)?, seconds))
            })
            .collect::<Result<Vec<_>>>()?;
        stages.sort_unstable_by_key(|(stage, _)| *stage);
        Ok(stages)
    }
}

/// Records a task's stages. Writing has taken as long as told: it is not over while this is written.
pub(crate) async fn record(
    tx: &mut PgConnection,
    lease: &Lease,
    stages: &[(Stage, StageSeconds)],
    written_for: Duration,
) -> Result<()> {
    if stages.is_empty() {
        return Ok(());
    }
    let (mut names, mut busy, mut starved, mut blocked) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (stage, seconds) in stages {
        let seconds = match stage {
            Stage::Write => {
                // Tasks are written side by side: no more than the time that is the task's own.
                let busy = written_for.as_secs_f64().min(seconds.total());
                StageSeconds { busy, starved: seconds.total() - busy, blocked: 0.0 }
            }
            _ => *seconds,
        };
        names.push(stage.as_str().to_owned());
        busy.push(seconds.busy.max(0.0));
        starved.push(seconds.starved.max(0.0));
        blocked.push(seconds.blocked.max(0.0));
    }
    sqlx::query!(
        "insert into task_stages (task_id, job_id, stage, busy, starved, blocked)
         select $1, $2, * from unnest($3::text[], $4::float8[], $5::float8[], $6::float8[])",
        lease.task_id(),
        lease.job_id(),
        &names,
        &busy,
        &starved,
        &blocked
    )
    .execute(tx)
    .await
    .during("record the task's stages")?;
    Ok(())
}
