//! Claims, and commits, of the same moment in one transaction each. With small tasks it is the transactions that cost: their round
//! trips, and the disk's confirmation. Whatever is special about a task is left to [`Database::claim`] and [`Database::commit_score`].

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use perito_domain::{lifecycle::TaskEvent, spec::JobSpec};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    ClaimedTask, Database, ImageObject, Lease, Model, ScoreResult,
    commit::{check_coverage, count, insert_failures},
    copy,
    datasets::stored,
    error::{During, Error, ErrorKind, Result},
    lease::interval,
    models, stages,
};

impl Database {
    /// Claims tasks, each for the attempt that its message is for. `None` for a task that could not be claimed, or that may be what
    /// crashes workers: [`Self::claim`] says why, or claims it. After an error none is claimed.
    ///
    /// # Errors
    /// What any of them runs into.
    pub async fn claim_together(
        &self,
        wanted: &[(Uuid, u32)],
        worker: &str,
        lease: Duration,
    ) -> Result<Vec<Option<ClaimedTask>>> {
        let mut tx = self.begin("begin the claims").await?;
        let rows = sqlx::query!(
            r#"
            with wanted as (
                select * from unnest($1::uuid[], $2::int[]) as wanted(id, attempt)
            ), locked as (
                -- As a single claim does, this waits for a dispatch that is under way. Who locks several tasks of a job does so in their order.
                select t.id, t.state, t.attempt from tasks t where t.id in (select id from wanted)
                order by t.job_id, t.ordinal for update
            ), claimed as (
                update tasks t
                set state = 'running', attempt = t.attempt + 1, attempts_spent = t.attempts_spent + 1, worker = $3,
                    lease_expires_at = now() + $4, started_at = now()
                from locked l, jobs j
                where t.id = l.id and l.state = any($5) and t.parent_id is null and t.crashes = 0
                  and exists (select from wanted w where w.id = l.id and w.attempt = l.attempt + 1)
                  and j.id = t.job_id and j.state = 'running' and j.paused_at is null
                returning t.id, t.job_id, t.kind, t.attempt, t.image_ids, j.spec, j.model_id, j.dataset_id, j.run_date
            ), recorded as (
                insert into attempts (task_id, attempt, worker) select id, attempt, $3 from claimed
            )
            select id, job_id, kind, attempt, image_ids, spec, model_id, dataset_id, run_date as "run_date!" from claimed
            "#,
            &wanted.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            &wanted.iter().map(|(_, attempt)| i32::try_from(*attempt).unwrap_or(i32::MAX)).collect::<Vec<_>>(),
            worker,
            interval(lease),
            &TaskEvent::Claim.sources()
        )
        .fetch_all(&mut *tx)
        .await
        .during("claim the tasks")?;
        let images = images(&mut tx, rows.iter().flat_map(|row| &row.image_ids).copied().collect()).await?;
        let mut models: HashMap<i64, Model> = HashMap::new();
        let mut claimed = HashMap::new();
        for row in rows {
            let model = match row.model_id {
                Some(id) => match models.get(&id) {
                    Some(model) => Some(model.clone()),
                    None => Some(models.entry(id).or_insert(models::by_id(&mut tx, id).await?).clone()),
                },
                None => None,
            };
            let mut shard: Vec<_> = row.image_ids.iter().filter_map(|id| images.get(id).cloned()).collect();
            shard.sort_unstable_by_key(|image| image.id);
            let spec = JobSpec::parse(row.spec)
                .map_err(|error| Error::new(ErrorKind::Internal, format!("read the job's specification: {error}")))?;
            let task = ClaimedTask {
                lease: Lease::new(row.id, row.job_id, row.attempt),
                kind: stored(&row.kind)?,
                spec,
                model,
                dataset_id: row.dataset_id,
                run_date: row.run_date,
                images: shard,
            };
            claimed.insert(row.id, task);
        }
        tx.commit().await.during("commit the claims")?;
        // Of two messages for one task the first has it.
        Ok(wanted.iter().map(|(id, _)| claimed.remove(id)).collect())
    }

    /// Commits scoring tasks together, in one transaction that waits for nobody. Which of them it has committed; the others, whose rows
    /// somebody else holds or has moved, are for [`Self::commit_score`] to commit or refuse. After an error none is.
    ///
    /// # Errors
    /// What any of them runs into.
    #[tracing::instrument(skip_all, fields(tasks = done.len()))]
    pub async fn commit_scores_together(&self, done: &[(&ClaimedTask, &ScoreResult)]) -> Result<Vec<bool>> {
        let began = Instant::now();
        let whole: Vec<_> = done.iter().filter(|(task, result)| check_coverage(task, result).is_ok()).collect();
        let mut tx = self.begin_bulk("begin the commit").await?;
        let ended = end_tasks(&mut tx, &whole).await?;
        let ours: Vec<_> = whole.into_iter().filter(|(task, _)| ended.contains(&task.lease.task_id())).collect();
        let rows: Vec<_> = ours
            .iter()
            .map(|(task, result)| (task.lease.job_id(), task.run_date, result.predictions.as_slice()))
            .collect();
        copy::predictions(&mut tx, &rows).await?;
        for (task, result) in &ours {
            insert_failures(&mut tx, &task.lease, &result.failures).await?;
            stages::record(&mut tx, &task.lease, &result.stages, began.elapsed()).await?;
        }
        tx.commit().await.during("commit the scores")?;
        ours.iter().for_each(|(_, result)| count(result));
        Ok(done.iter().map(|(task, _)| ended.contains(&task.lease.task_id())).collect())
    }
}

async fn images(tx: &mut PgConnection, ids: Vec<i64>) -> Result<HashMap<i64, ImageObject>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let images =
        sqlx::query_as!(ImageObject, "select id, bucket, key, etag, size_bytes from images where id = any($1)", &ids)
            .fetch_all(tx)
            .await
            .during("read the shards")?;
    Ok(images.into_iter().map(|image| (image.id, image)).collect())
}

/// Ends those tasks, with their attempts, that are still their claimants' and that nobody else holds at this moment.
async fn end_tasks(tx: &mut PgConnection, done: &[&(&ClaimedTask, &ScoreResult)]) -> Result<HashSet<Uuid>> {
    let each = |number: fn(&ClaimedTask, &ScoreResult) -> usize| -> Vec<i32> {
        done.iter().map(|(task, result)| i32::try_from(number(task, result)).unwrap_or(i32::MAX)).collect()
    };
    let ended = sqlx::query_scalar!(
        r#"
        with done as (
            select * from unnest($1::uuid[], $2::int[], $3::int[], $4::int[]) as done(id, attempt, scored, failed)
        ), ours as (
            select t.id, done.scored, done.failed from done join tasks t on t.id = done.id and t.attempt = done.attempt
            where t.state = any($5) for update of t skip locked
        ), ended as (
            update tasks t set state = 'succeeded', lease_expires_at = null, finished_at = now(), error = null,
                               images_scored = ours.scored, images_failed = ours.failed
            from ours where t.id = ours.id
            returning t.id, t.attempt
        ), recorded as (
            update attempts a set ended_at = now(), outcome = 'succeeded', error = null, error_class = null
            from ended where a.task_id = ended.id and a.attempt = ended.attempt
        )
        select id from ended
        "#,
        &done.iter().map(|(task, _)| task.lease.task_id()).collect::<Vec<_>>(),
        &done.iter().map(|(task, _)| task.lease.attempt()).collect::<Vec<_>>(),
        &each(|_, result| result.predictions.len()),
        &each(|_, result| result.failures.len()),
        &TaskEvent::Succeed.sources()
    )
    .fetch_all(tx)
    .await
    .during("end the tasks")?;
    Ok(ended.into_iter().collect())
}
