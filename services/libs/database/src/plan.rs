//! A queued job becomes tasks. What a scoring job selects is frozen here, in one statement: ten million images are about twenty
//! thousand rows.
//!
//! A job whose planning fails for a reason that may pass (a statement that takes too long, a fault) is tried again after a while, and
//! those behind it are planned meanwhile.

use perito_domain::{
    lifecycle::{JobKind, JobState},
    names::{DatasetRef, ModelRef},
    retry::PLAN_BACKOFF,
    spec::{JobSpec, ScoreSpec, Selection, Split, TrainSpec},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Database, datasets,
    error::{During, Error, ErrorKind, Result},
    jobs::end_job,
    lease::interval,
    models::{self, Model, cannot_score},
    sweeps,
};

/// A job whose planning has failed so often (over most of an hour) has failed.
const MAX_FAILURES: i32 = 20;

/// What was planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The job.
    pub job_id: Uuid,
    /// Its kind.
    pub kind: JobKind,
    /// How many tasks it got.
    pub tasks: u64,
    /// How many images they cover.
    pub images: i64,
    /// Why it could not be planned, when it could not: the job has failed.
    pub refused: Option<String>,
    /// Why planning failed, when that may pass: it is tried again later.
    pub deferred: Option<String>,
}

/// What a specification's references mean now.
struct Resolved {
    model: Option<Model>,
    dataset_id: Option<i64>,
}

impl Database {
    /// Plans the next queued job: by priority, then by age. `None` when nothing is queued, or only jobs that another
    /// replica is planning.
    ///
    /// A job that cannot be planned (an unknown model, a dataset without training images) fails, and says so. Any other error is noted
    /// with the job, which is tried again after a backoff.
    ///
    /// # Errors
    /// `Unavailable`: not even that could be noted.
    pub async fn plan_next(&self) -> Result<Option<Planned>> {
        let mut tx = self.begin("begin planning").await?;
        let Some(job) = sqlx::query!(
            "select id, spec, plan_failures from jobs
             where state = 'queued' and paused_at is null and (plan_after is null or plan_after <= now())
             order by priority desc, created_at limit 1 for update skip locked"
        )
        .fetch_optional(&mut *tx)
        .await
        .during("take a queued job")?
        else {
            return Ok(None);
        };
        let spec = JobSpec::parse(job.spec).map_err(|error| {
            Error::new(
                ErrorKind::Schema,
                format!("the stored specification, which a newer release may have written: {error}"),
            )
        });
        let kind = spec.as_ref().map_or(JobKind::Score, JobSpec::kind);
        // In a savepoint, so that what a refused plan did is undone while the job stays locked.
        let mut attempt = sqlx::Acquire::begin(&mut *tx).await.during("begin a plan")?;
        let outcome = match &spec {
            Ok(spec) => plan(&mut attempt, job.id, spec).await,
            Err(error) => Err(Error::new(error.kind(), error.to_string())),
        };
        let planned = match outcome {
            Ok((tasks, images)) => {
                attempt.commit().await.during("keep the plan")?;
                Planned { job_id: job.id, kind, tasks, images, refused: None, deferred: None }
            }
            Err(error) => {
                attempt.rollback().await.during("undo the plan")?;
                let failures = job.plan_failures + 1;
                let mut planned = Planned { job_id: job.id, kind, tasks: 0, images: 0, refused: None, deferred: None };
                if let Some(reason) = refusal(&error, failures) {
                    end_job(&mut tx, job.id, JobState::Failed, Some(&reason)).await?;
                    planned.refused = Some(reason);
                } else {
                    defer(&mut tx, job.id, failures, &error).await?;
                    planned.deferred = Some(error.to_string());
                }
                planned
            }
        };
        tx.commit().await.during("commit the plan")?;
        Ok(Some(planned))
    }
}

/// Why a job cannot be planned, unless that may pass.
fn refusal(error: &Error, failures: i32) -> Option<String> {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Invalid => Some(error.to_string()),
        _ => (failures >= MAX_FAILURES).then(|| format!("planning failed {failures} times: {error}")),
    }
}

/// Notes that planning failed, and when it is tried again.
async fn defer(tx: &mut PgConnection, job_id: Uuid, failures: i32, error: &Error) -> Result<()> {
    let wait = PLAN_BACKOFF.delay(failures.unsigned_abs(), &mut rand::rng());
    sqlx::query!(
        "update jobs set plan_failures = $2, plan_after = now() + $3, error = $4 where id = $1",
        job_id,
        failures,
        interval(wait),
        format!("planning failed and is tried again ({failures} of {MAX_FAILURES} times): {error}")
    )
    .execute(tx)
    .await
    .during("put the plan off")?;
    Ok(())
}

async fn plan(tx: &mut PgConnection, job_id: Uuid, spec: &JobSpec) -> Result<(u64, i64)> {
    let resolved = resolve(tx, spec).await?;
    sqlx::query!(
        "with day as (select (now() at time zone 'UTC')::date as today)
         update jobs set state = 'running', model_id = $2, dataset_id = $3, run_date = day.today, planned_at = now(),
                         plan_failures = 0, plan_after = null, error = null
         from day where id = $1",
        job_id,
        resolved.model.as_ref().map(|model| model.id),
        resolved.dataset_id
    )
    .execute(&mut *tx)
    .await
    .during("mark the job planned")?;
    sqlx::query!("select ensure_prediction_partition((now() at time zone 'UTC')::date)")
        .fetch_one(&mut *tx)
        .await
        .during("make the partition for predictions")?;
    let tasks = match (spec, &resolved.model) {
        (JobSpec::Score(spec), Some(model)) => shard(tx, job_id, spec, model, resolved.dataset_id).await?,
        (JobSpec::Sweep(spec), _) => sweeps::plan_runs(tx, job_id, spec).await?,
        _ => single(tx, job_id, spec.kind()).await?,
    };
    let images = count_images(tx, job_id, spec, resolved.dataset_id).await?;
    sqlx::query!("update jobs set images_total = $2 where id = $1", job_id, images)
        .execute(tx)
        .await
        .during("count the job's images")?;
    Ok((tasks, images))
}

async fn resolve(tx: &mut PgConnection, spec: &JobSpec) -> Result<Resolved> {
    match spec {
        JobSpec::Train(spec) => resolve_training(tx, spec).await,
        JobSpec::Sweep(spec) => {
            // What is looked up is the same for all trials.
            let trials = spec.trials().map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
            let first = trials.first().ok_or_else(|| Error::new(ErrorKind::Invalid, "the sweep has no trial"))?;
            resolve_training(tx, &first.spec).await
        }
        JobSpec::Evaluate(spec) => {
            let model = scorer(tx, &spec.model).await?;
            let dataset_id = find_dataset(tx, &spec.dataset, &[spec.split]).await?;
            Ok(Resolved { model: Some(model), dataset_id: Some(dataset_id) })
        }
        JobSpec::Score(spec) => {
            let model = scorer(tx, &spec.model).await?;
            let dataset_id = match &spec.selection {
                Selection::Dataset { dataset, split } => Some(find_dataset(tx, dataset, split.as_slice()).await?),
                Selection::Prefix { .. } | Selection::Backlog { .. } => None,
            };
            Ok(Resolved { model: Some(model), dataset_id })
        }
    }
}

async fn resolve_training(tx: &mut PgConnection, spec: &TrainSpec) -> Result<Resolved> {
    let dataset_id = find_dataset(tx, &spec.dataset, &[Split::Training, Split::Validation]).await?;
    let Some(reference) = &spec.weights else {
        return Ok(Resolved { model: None, dataset_id: Some(dataset_id) });
    };
    let model = models::find(tx, reference).await?;
    if model.architecture != spec.architecture {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("weights: {} is a {}, not a {}", model.reference(), model.architecture, spec.architecture),
        ));
    }
    Ok(Resolved { model: Some(model), dataset_id: Some(dataset_id) })
}

async fn scorer(tx: &mut PgConnection, reference: &ModelRef) -> Result<Model> {
    let model = models::find(tx, reference).await?;
    if model.class_names.is_empty() { Err(cannot_score(&model)) } else { Ok(model) }
}

/// Finds a frozen dataset that has images in each of these splits.
async fn find_dataset(tx: &mut PgConnection, reference: &DatasetRef, splits: &[Split]) -> Result<i64> {
    let (id, _) = datasets::find(tx, reference).await?;
    for split in splits {
        let any = sqlx::query_scalar!(
            r#"select exists(select from dataset_items where dataset_id = $1 and split = $2) as "any!""#,
            id,
            split.as_str()
        )
        .fetch_one(&mut *tx)
        .await
        .during("look into the dataset")?;
        if !any {
            return Err(Error::new(ErrorKind::Invalid, format!("dataset {reference} has no {split} images")));
        }
    }
    Ok(id)
}

/// One task without a shard, for training and evaluation.
async fn single(tx: &mut PgConnection, job_id: Uuid, kind: JobKind) -> Result<u64> {
    let inserted = sqlx::query!(
        "insert into tasks (id, job_id, kind, ordinal) values ($1, $2, $3, 0)",
        Uuid::now_v7(),
        job_id,
        kind.as_str()
    )
    .execute(tx)
    .await
    .during("make the task")?;
    Ok(inserted.rows_affected())
}

/// The tasks of a scoring job. `$1` is the job, `$2` the shard size; the rest belongs to the selection.
macro_rules! insert_shards {
    ($selection:literal, $($argument:expr),*) => {
        sqlx::query!(
            "insert into tasks (id, job_id, kind, ordinal, image_ids)
             select gen_random_uuid(), $1, 'score', shard::int, array_agg(id order by id)
             from (select id, (row_number() over (order by id) - 1) / $2::int as shard from (" + $selection + ") selected) numbered
             group by shard",
            $($argument),*
        )
    };
}

async fn shard(
    tx: &mut PgConnection,
    job_id: Uuid,
    spec: &ScoreSpec,
    model: &Model,
    dataset_id: Option<i64>,
) -> Result<u64> {
    let shard_size = spec.shard_size.cast_signed();
    let inserted = match &spec.selection {
        Selection::Prefix { bucket, prefix } => {
            insert_shards!(
                "select id from images where superseded_at is null and bucket = $3 and key like $4",
                job_id,
                shard_size,
                bucket,
                starting_with(prefix)
            )
            .execute(tx)
            .await
        }
        Selection::Dataset { split, .. } => {
            insert_shards!(
                "select image_id as id from dataset_items where dataset_id = $3 and ($4::text is null or split = $4)",
                job_id,
                shard_size,
                dataset_id,
                split.map(Split::as_str)
            )
            .execute(tx)
            .await
        }
        Selection::Backlog { bucket, prefix } => {
            // Two backlog jobs of one model must not select the same images: the second one sees the first one's tasks.
            sqlx::query!("select pg_advisory_xact_lock(hashtext('backlog'), $1::bigint::int)", model.id)
                .fetch_one(&mut *tx)
                .await
                .during("lock the model's backlog")?;
            insert_shards!(
                "select i.id from images i
                 where i.superseded_at is null and i.label is null
                   and ($4::text is null or i.bucket = $4) and ($5::text is null or i.key like $5)
                   and not exists (select from jobs j join predictions p on p.job_id = j.id and p.run_date = j.run_date
                                   where j.kind = 'score' and j.state = 'succeeded' and j.model_id = $3 and p.image_id = i.id)
                   and not exists (select from jobs j join image_failures f on f.job_id = j.id
                                   where j.kind = 'score' and j.state = 'succeeded' and j.model_id = $3 and f.image_id = i.id)
                   and i.id not in (select unnest(t.image_ids) from jobs j join tasks t on t.job_id = j.id
                                    where j.kind = 'score' and j.model_id = $3
                                      -- Of an archived run the predictions are away.
                                      and (j.state = 'running' or j.state = 'succeeded' and j.archived_at is not null))",
                job_id,
                shard_size,
                model.id,
                bucket.as_deref(),
                prefix.as_deref().map(starting_with)
            )
            .execute(tx)
            .await
        }
    };
    Ok(inserted.during("freeze the selection into tasks")?.rows_affected())
}

async fn count_images(tx: &mut PgConnection, job_id: Uuid, spec: &JobSpec, dataset_id: Option<i64>) -> Result<i64> {
    let split = match spec {
        JobSpec::Score(_) => {
            return sqlx::query_scalar!(
                r#"select coalesce(sum(cardinality(image_ids)), 0)::bigint as "images!" from tasks where job_id = $1"#,
                job_id
            )
            .fetch_one(tx)
            .await
            .during("count the job's images");
        }
        JobSpec::Evaluate(spec) => Some(spec.split.as_str()),
        JobSpec::Train(_) | JobSpec::Sweep(_) => None,
    };
    sqlx::query_scalar!(
        r#"select count(*) as "images!" from dataset_items where dataset_id = $1 and ($2::text is null or split = $2)"#,
        dataset_id,
        split
    )
    .fetch_one(tx)
    .await
    .during("count the job's images")
}

/// A LIKE pattern for what starts with exactly this text.
fn starting_with(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for character in prefix.chars() {
        if matches!(character, '\\' | '%' | '_') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    #[test]
    fn patterns_match_the_prefix_to_the_letter() {
        assert_eq!(super::starting_with(r"50%_off\x"), r"50\%\_off\\x%");
        assert_eq!(super::starting_with(""), "%");
    }
}
