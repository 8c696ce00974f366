//! Results, behind the fence: each commit is one transaction that first ends the task, which only the attempt that owns it can,
//! and then writes. A zombie's transaction rolls back before it has written anything.

use std::collections::HashSet;

use perito_domain::{Severity, failure::ImageFailure, lifecycle::TaskEvent, metrics::Metrics, spec::Split};
use sqlx::{PgConnection, Postgres, Transaction};

use crate::{
    ClaimedTask, Database, Lease, Model, NewModel, copy,
    error::{During, Error, ErrorKind, Result},
    lease::{end_attempt, exactly_one},
    models::{self, Lineage},
};

/// One image's score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// The image's id in the catalogue.
    pub image_id: i64,
    /// Probabilities by class index; they add up to 1.
    pub probabilities: [f32; 3],
}

/// What a scoring task found: each image of its shard once, in one list or the other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScoreResult {
    /// Images that have a score.
    pub predictions: Vec<Prediction>,
    /// Images that could not be scored.
    pub failures: Vec<ImageFailure>,
}

/// One epoch of a training job.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochRow {
    /// The epoch, counted from 1.
    pub epoch: i32,
    /// Mean cross-entropy while weights changed.
    pub training_loss: f64,
    /// Share of right answers while weights changed.
    pub training_accuracy: f64,
    /// Mean cross-entropy after the epoch.
    pub validation_loss: f64,
    /// Share of right answers after the epoch.
    pub validation_accuracy: f64,
    /// Macro F1 after the epoch.
    pub validation_macro_f1: f64,
    /// The epoch's learning rate.
    pub learning_rate: f64,
    /// How long it took, validation included.
    pub seconds: f64,
    /// Training images per second, validation not included.
    pub images_per_second: f64,
    /// What it ran on.
    pub device: String,
}

impl Database {
    /// Commits a scoring task: predictions by COPY, failures, counters and the task's end.
    ///
    /// # Errors
    /// `StaleAttempt` when the task is not the caller's any more; `Invalid` when the result is not exactly the task's shard.
    pub async fn commit_score(&self, task: &ClaimedTask, result: &ScoreResult) -> Result<()> {
        check_coverage(task, result)?;
        let mut tx = self.bulk.begin().await.during("begin the commit")?;
        end_task(&mut tx, &task.lease, result.predictions.len(), result.failures.len()).await?;
        copy::predictions(&mut tx, task.lease.job_id(), task.run_date, &result.predictions).await?;
        insert_failures(&mut tx, &task.lease, &result.failures).await?;
        tx.commit().await.during("commit the scores")
    }

    /// Records an epoch. The task goes on; an epoch that is done again by a later attempt replaces the row.
    ///
    /// # Errors
    /// `StaleAttempt` when the task is not the caller's any more.
    pub async fn commit_epoch(&self, lease: &Lease, row: &EpochRow) -> Result<()> {
        let written = sqlx::query!(
            "insert into training_epochs (job_id, epoch, attempt, training_loss, training_accuracy, validation_loss,
                                          validation_accuracy, validation_macro_f1, learning_rate, seconds,
                                          images_per_second, device)
             select t.job_id, $3, t.attempt, $4, $5, $6, $7, $8, $9, $10, $11, $12
             from tasks t where t.id = $1 and t.attempt = $2 and t.state = 'running' for update
             on conflict (job_id, epoch) do update
             set attempt = excluded.attempt, training_loss = excluded.training_loss, training_accuracy = excluded.training_accuracy,
                 validation_loss = excluded.validation_loss, validation_accuracy = excluded.validation_accuracy,
                 validation_macro_f1 = excluded.validation_macro_f1, learning_rate = excluded.learning_rate,
                 seconds = excluded.seconds, images_per_second = excluded.images_per_second, device = excluded.device,
                 finished_at = now()",
            lease.task_id(),
            lease.attempt(),
            row.epoch,
            row.training_loss,
            row.training_accuracy,
            row.validation_loss,
            row.validation_accuracy,
            row.validation_macro_f1,
            row.learning_rate,
            row.seconds,
            row.images_per_second,
            row.device
        )
        .execute(&self.control)
        .await
        .during("record the epoch")?;
        exactly_one(written.rows_affected(), lease)
    }

    /// Commits a training task: the model with its lineage, its measurement with every prediction behind it, and the task's end.
    ///
    /// # Errors
    /// `StaleAttempt` when the task is not the caller's any more.
    pub async fn commit_training(
        &self,
        task: &ClaimedTask,
        model: &NewModel,
        metrics: &Metrics,
        split: Split,
        predictions: &[Prediction],
        failures: &[ImageFailure],
    ) -> Result<Model> {
        let dataset_id = dataset_of(task)?;
        let mut tx = self.bulk.begin().await.during("begin the commit")?;
        end_task(&mut tx, &task.lease, predictions.len(), failures.len()).await?;
        let lineage = Lineage { job_id: task.lease.job_id(), dataset_id };
        let model_id = models::insert(&mut tx, model, Some(&lineage)).await?;
        sqlx::query!("update jobs set model_id = $2 where id = $1", task.lease.job_id(), model_id)
            .execute(&mut *tx)
            .await
            .during("name the job's model")?;
        measured(&mut tx, task, model_id, dataset_id, metrics, split, predictions).await?;
        insert_failures(&mut tx, &task.lease, failures).await?;
        let model = models::by_id(&mut tx, model_id).await?;
        tx.commit().await.during("commit the model")?;
        Ok(model)
    }

    /// Commits an evaluation task: the measurement with every prediction behind it, and the task's end.
    ///
    /// # Errors
    /// `StaleAttempt` when the task is not the caller's any more.
    pub async fn commit_evaluation(
        &self,
        task: &ClaimedTask,
        metrics: &Metrics,
        split: Split,
        predictions: &[Prediction],
        failures: &[ImageFailure],
    ) -> Result<()> {
        let dataset_id = dataset_of(task)?;
        let model = task.model.as_ref().ok_or_else(|| Error::new(ErrorKind::Invalid, "the task has no model"))?;
        let mut tx = self.bulk.begin().await.during("begin the commit")?;
        end_task(&mut tx, &task.lease, predictions.len(), failures.len()).await?;
        measured(&mut tx, task, model.id, dataset_id, metrics, split, predictions).await?;
        insert_failures(&mut tx, &task.lease, failures).await?;
        tx.commit().await.during("commit the evaluation")
    }
}

fn dataset_of(task: &ClaimedTask) -> Result<i64> {
    task.dataset_id.ok_or_else(|| Error::new(ErrorKind::Invalid, "the task has no dataset"))
}

fn check_coverage(task: &ClaimedTask, result: &ScoreResult) -> Result<()> {
    let expected: HashSet<i64> = task.images.iter().map(|image| image.id).collect();
    let predicted = result.predictions.iter().map(|prediction| prediction.image_id);
    let failed = result.failures.iter().map(|failure| failure.image_id);
    let found: Vec<i64> = predicted.chain(failed).collect();
    let distinct: HashSet<i64> = found.iter().copied().collect();
    if found.len() == expected.len() && distinct == expected {
        return Ok(());
    }
    let message =
        format!("the result has {} images ({} distinct), the task {}", found.len(), distinct.len(), expected.len());
    Err(Error::new(ErrorKind::Invalid, message))
}

async fn end_task(tx: &mut PgConnection, lease: &Lease, scored: usize, failed: usize) -> Result<()> {
    let ended = sqlx::query!(
        "update tasks set state = 'succeeded', lease_expires_at = null, finished_at = now(), error = null,
                          images_scored = $4, images_failed = $5
         where id = $1 and attempt = $2 and state = any($3)",
        lease.task_id(),
        lease.attempt(),
        &TaskEvent::Succeed.sources(),
        i32::try_from(scored).unwrap_or(i32::MAX),
        i32::try_from(failed).unwrap_or(i32::MAX)
    )
    .execute(&mut *tx)
    .await
    .during("end the task")?;
    exactly_one(ended.rows_affected(), lease)?;
    end_attempt(tx, lease, "succeeded", None).await
}

async fn insert_failures(tx: &mut PgConnection, lease: &Lease, failures: &[ImageFailure]) -> Result<()> {
    if failures.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = failures.iter().map(|failure| failure.image_id).collect();
    let reasons: Vec<_> = failures.iter().map(|failure| failure.reason.to_string()).collect();
    let details: Vec<_> = failures.iter().map(|failure| failure.detail.replace('\0', "")).collect();
    sqlx::query!(
        "insert into image_failures (job_id, image_id, task_id, reason, detail)
         select $1, image_id, $2, reason, detail
         from unnest($3::bigint[], $4::text[], $5::text[]) as failed(image_id, reason, detail)",
        lease.job_id(),
        lease.task_id(),
        &ids,
        &reasons,
        &details
    )
    .execute(tx)
    .await
    .during("record failed images")?;
    Ok(())
}

async fn measured(
    tx: &mut Transaction<'_, Postgres>,
    task: &ClaimedTask,
    model_id: i64,
    dataset_id: i64,
    metrics: &Metrics,
    split: Split,
    predictions: &[Prediction],
) -> Result<()> {
    let (macro_average, weighted) = (metrics.macro_average, metrics.weighted_average);
    let evaluation_id = sqlx::query_scalar!(
        "insert into evaluations (job_id, model_id, dataset_id, split, images, accuracy, macro_precision, macro_recall, macro_f1,
                                  weighted_precision, weighted_recall, weighted_f1)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) returning id",
        task.lease.job_id(),
        model_id,
        dataset_id,
        split.as_str(),
        metrics.images.cast_signed(),
        metrics.accuracy,
        macro_average.precision,
        macro_average.recall,
        macro_average.f1,
        weighted.precision,
        weighted.recall,
        weighted.f1
    )
    .fetch_one(&mut **tx)
    .await
    .during("record the evaluation")?;
    for class in Severity::ALL {
        let figures = metrics.classes[class.index()];
        sqlx::query!(
            "insert into evaluation_classes (evaluation_id, severity, precision, recall, f1, support)
             values ($1, $2::text::severity, $3, $4, $5, $6)",
            evaluation_id,
            class.as_str(),
            figures.precision,
            figures.recall,
            figures.f1,
            figures.support.cast_signed()
        )
        .execute(&mut **tx)
        .await
        .during("record a class")?;
        for predicted in Severity::ALL {
            sqlx::query!(
                "insert into confusion_cells (evaluation_id, actual, predicted, images)
                 values ($1, $2::text::severity, $3::text::severity, $4)",
                evaluation_id,
                class.as_str(),
                predicted.as_str(),
                metrics.confusion.counts[class.index()][predicted.index()].cast_signed()
            )
            .execute(&mut **tx)
            .await
            .during("record the confusion matrix")?;
        }
    }
    copy::predictions(tx, task.lease.job_id(), task.run_date, predictions).await
}
