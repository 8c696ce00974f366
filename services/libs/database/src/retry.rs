//! A failed job runs again, by an operator's hand: what failed of it, and what was cancelled because of that.

use perito_domain::lifecycle::{JobState, TaskEvent};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Database, Job,
    datasets::stored,
    error::{During, Error, ErrorKind, Result},
};

impl Database {
    /// Lets a failed job run again. Tasks that have succeeded keep their results; the others start anew, with all their attempts. With
    /// `images`, the images that could not be scored are tried again too, in tasks of their own. A job that has not ended is left as it is,
    /// so that asking twice is as good as once.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it has succeeded or was cancelled, when its month is archived, or when there is nothing to try again.
    pub async fn retry_job(&self, id: Uuid, images: bool) -> Result<Job> {
        let mut tx = self.begin("begin retrying").await?;
        let job = sqlx::query!(
            r#"select state, planned_at is not null as "planned!", coalesce(images_failed, 0) as "images_failed!",
                      exists (select from archives a where a.month = date_trunc('month', j.run_date)) as "archived!"
               from jobs j where id = $1 for update of j"#,
            id
        )
        .fetch_optional(&mut *tx)
        .await
        .during("find the job")?
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no job {id}: see `perito job list`")))?;
        let refused = |why: String| Err(Error::new(ErrorKind::Conflict, format!("job {id} {why}")));
        match stored::<JobState>(&job.state)? {
            JobState::Queued | JobState::Running => return self.job(id).await,
            JobState::Failed if job.archived => {
                return refused("is of a month that has been archived: submit it again".to_owned());
            }
            JobState::Failed => {}
            ended => return refused(format!("has {ended}: only a failed job is retried; submit another one")),
        }
        let images = if images { reopen_images(&mut tx, id).await? } else { 0 };
        let tasks = reopen_tasks(&mut tx, id).await?;
        if job.planned && images + tasks == 0 {
            let failed = job.images_failed;
            return refused(format!(
                "has no failed task: with `--images` the {failed} images that failed are tried again"
            ));
        }
        reopen(&mut tx, id, if job.planned { JobState::Running } else { JobState::Queued }).await?;
        tx.commit().await.during("commit the retry")?;
        self.job(id).await
    }
}

async fn reopen_tasks(tx: &mut PgConnection, id: Uuid) -> Result<u64> {
    let tasks = sqlx::query!(
        "update tasks set state = 'runnable', attempts_spent = 0, crashes = 0, not_before = now(), finished_at = null, error = null
         where job_id = $1 and state = any($2)",
        id,
        &TaskEvent::Reopen.sources()
    )
    .execute(tx)
    .await
    .during("let tasks run again")?;
    Ok(tasks.rows_affected())
}

/// Failed images of tasks that have succeeded leave them, and their failures, for new tasks of the job's shard size.
async fn reopen_images(tx: &mut PgConnection, id: Uuid) -> Result<u64> {
    let tasks = sqlx::query!(
        "with removed as (
             delete from image_failures f using jobs j
             where f.job_id = $1 and j.id = f.job_id and j.kind = 'score'
             returning f.image_id, f.task_id, (j.spec ->> 'shard_size')::int as shard_size
         ), left_behind as (
             update tasks t
             set images_failed = images_failed - gone.images,
                 image_ids = array(select image_id from unnest(t.image_ids) with ordinality as has(image_id, place)
                                   where not has.image_id = any(gone.ids) order by has.place)
             from (select task_id, count(*) as images, array_agg(image_id) as ids from removed group by task_id) gone
             where t.id = gone.task_id
         ), placed as (
             select image_id, (row_number() over (order by image_id) - 1) / shard_size as shard from removed
         )
         insert into tasks (id, job_id, kind, ordinal, image_ids)
         select gen_random_uuid(), $1, 'score',
                (select max(ordinal) from tasks where job_id = $1) + 1 + shard, array_agg(image_id order by image_id)
         from placed group by shard",
        id
    )
    .execute(tx)
    .await
    .during("let failed images be tried again")?;
    Ok(tasks.rows_affected())
}

async fn reopen(tx: &mut PgConnection, id: Uuid, state: JobState) -> Result<()> {
    // Counters are sums again, and what the run costs is summed up at its next end.
    sqlx::query!("delete from run_costs where job_id = $1", id)
        .execute(&mut *tx)
        .await
        .during("forget the run's costs")?;
    sqlx::query!(
        "update jobs set state = $2, error = null, finished_at = null, images_scored = null, images_failed = null, task_counts = null,
                         plan_failures = 0, plan_after = null
         where id = $1",
        id,
        state.as_str()
    )
    .execute(&mut *tx)
    .await
    .during("let the job run again")?;
    sqlx::query!("select ensure_prediction_partition(run_date) from jobs where id = $1 and run_date is not null", id)
        .execute(tx)
        .await
        .during("make sure of the run's partition")?;
    Ok(())
}
