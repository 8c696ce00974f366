//! Results, behind the fence: each commit is one transaction that first ends the task, which only the attempt that owns it can,
//! and then writes. A zombie's transaction rolls back before it has written anything.

use std::{collections::HashSet, time::Instant};

use perito_domain::{
    Severity,
    failure::ImageFailure,
    lifecycle::TaskEvent,
    metrics::{Certainty, Metrics},
    spec::Split,
    stages::{Stage, StageSeconds},
};
use sqlx::{PgConnection, Postgres, Transaction};

use crate::{
    ClaimedTask, Database, Lease, Model, NewModel, copy,
    error::{During, Error, ErrorKind, Result},
    lease::{end_attempt, exactly_one},
    models::{self, Lineage},
    stages,
};

/// One image's score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// The image's id in the catalogue.
    pub image_id: i64,
    /// Probabilities by class index; they add up to 1.
    pub probabilities: [f32; 3],
}

/// What came of measuring a model on a split.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// The part of the dataset.
    pub split: Split,
    /// What follows from the confusion matrix.
    pub metrics: Metrics,
    /// What needs the probabilities.
    pub certainty: Certainty,
    /// The rows that all of it follows from.
    pub predictions: Vec<Prediction>,
}

/// What an epoch or a trained model was made from, and with: enough to make it again. The dataset comes from the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// The seed of everything random.
    pub seed: u64,
    /// SHA-256 of the specification as JSON, in hexadecimal.
    pub spec_sha256: String,
    /// The release.
    pub code_version: String,
    /// The version of libtorch.
    pub libtorch_version: String,
    /// The device.
    pub device: String,
}

/// What a scoring task found: each image of its shard once, in one list or the other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScoreResult {
    /// Images that have a score.
    pub predictions: Vec<Prediction>,
    /// Images that could not be scored.
    pub failures: Vec<ImageFailure>,
    /// What the stages did with their time; empty where that was not measured.
    pub stages: Vec<(Stage, StageSeconds)>,
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
    #[tracing::instrument(skip_all, fields(predictions = result.predictions.len(), failures = result.failures.len()))]
    pub async fn commit_score(&self, task: &ClaimedTask, result: &ScoreResult) -> Result<()> {
        check_coverage(task, result)?;
        let began = Instant::now();
        let mut tx = self.begin_bulk("begin the commit").await?;
        end_task(&mut tx, &task.lease, result.predictions.len(), result.failures.len()).await?;
        copy::predictions(&mut tx, &[(task.lease.job_id(), task.run_date, &result.predictions)]).await?;
        insert_failures(&mut tx, &task.lease, &result.failures).await?;
        stages::record(&mut tx, &task.lease, &result.stages, began.elapsed()).await?;
        tx.commit().await.during("commit the scores")?;
        count(result);
        Ok(())
    }

    /// Records an epoch. The task goes on; an epoch that is done again by a later attempt replaces the row.
    ///
    /// # Errors
    /// `StaleAttempt` when the task is not the caller's any more.
    pub async fn commit_epoch(&self, lease: &Lease, row: &EpochRow, made: &Provenance) -> Result<()> {
        let written = sqlx::query!(
            "insert into training_epochs (job_id, epoch, attempt, training_loss, training_accuracy, validation_loss,
                                          validation_accuracy, validation_macro_f1, learning_rate, seconds,
                                          images_per_second, device, seed, spec_sha256, dataset_digest, code_version,
                                          libtorch_version)
             select t.job_id, $3, t.attempt, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::text::numeric, $14,
                    (select d.digest from jobs j join datasets d on d.id = j.dataset_id where j.id = t.job_id), $15, $16
             from tasks t where t.id = $1 and t.attempt = $2 and t.state = 'running' for update
             on conflict (job_id, epoch) do update
             set attempt = excluded.attempt, training_loss = excluded.training_loss, training_accuracy = excluded.training_accuracy,
                 validation_loss = excluded.validation_loss, validation_accuracy = excluded.validation_accuracy,
                 validation_macro_f1 = excluded.validation_macro_f1, learning_rate = excluded.learning_rate,
                 seconds = excluded.seconds, images_per_second = excluded.images_per_second, device = excluded.device,
                 seed = excluded.seed, spec_sha256 = excluded.spec_sha256, dataset_digest = excluded.dataset_digest,
                 code_version = excluded.code_version, libtorch_version = excluded.libtorch_version, finished_at = now()",
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
            row.device,
            made.seed.to_string(),
            made.spec_sha256,
            made.code_version,
            made.libtorch_version
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
        measurement: &Measurement,
        failures: &[ImageFailure],
    ) -> Result<Model> {
        let dataset_id = dataset_of(task)?;
        let mut tx = self.begin_bulk("begin the commit").await?;
        end_task(&mut tx, &task.lease, measurement.predictions.len(), failures.len()).await?;
        let lineage = Lineage { job_id: task.lease.job_id(), dataset_id };
        let model_id = models::insert(&mut tx, model, Some(&lineage)).await?;
        sqlx::query!("update jobs set model_id = $2 where id = $1", task.lease.job_id(), model_id)
            .execute(&mut *tx)
            .await
            .during("name the job's model")?;
        measured(&mut tx, task, model_id, dataset_id, measurement).await?;
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
        measurement: &Measurement,
        failures: &[ImageFailure],
    ) -> Result<()> {
        let dataset_id = dataset_of(task)?;
        let model = task.model.as_ref().ok_or_else(|| Error::new(ErrorKind::Invalid, "the task has no model"))?;
        let mut tx = self.begin_bulk("begin the commit").await?;
        end_task(&mut tx, &task.lease, measurement.predictions.len(), failures.len()).await?;
        measured(&mut tx, task, model.id, dataset_id, measurement).await?;
        insert_failures(&mut tx, &task.lease, failures).await?;
        tx.commit().await.during("commit the evaluation")
    }
}

fn dataset_of(task: &ClaimedTask) -> Result<i64> {
    task.dataset_id.ok_or_else(|| Error::new(ErrorKind::Invalid, "the task has no dataset"))
}

pub(crate) fn check_coverage(task: &ClaimedTask, result: &ScoreResult) -> Result<()> {
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

pub(crate) fn count(result: &ScoreResult) {
    for (outcome, images) in [("scored", result.predictions.len()), ("failed", result.failures.len())] {
        metrics::counter!("perito_images_scored_total", "outcome" => outcome).increment(images as u64);
    }
}

pub(crate) async fn end_task(tx: &mut PgConnection, lease: &Lease, scored: usize, failed: usize) -> Result<()> {
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
    end_attempt(tx, lease, "succeeded", None, None).await
}

pub(crate) async fn insert_failures(tx: &mut PgConnection, lease: &Lease, failures: &[ImageFailure]) -> Result<()> {
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
    Measurement { split, metrics, certainty, predictions }: &Measurement,
) -> Result<()> {
    let (macro_average, weighted) = (metrics.macro_average, metrics.weighted_average);
    let evaluation_id = sqlx::query_scalar!(
        "insert into evaluations (job_id, model_id, dataset_id, split, images, accuracy, macro_precision, macro_recall, macro_f1,
                                  weighted_precision, weighted_recall, weighted_f1, log_loss, calibration_error,
                                  accuracy_low, accuracy_high, macro_f1_low, macro_f1_high)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) returning id",
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
        weighted.f1,
        certainty.log_loss,
        certainty.calibration_error,
        certainty.accuracy.low,
        certainty.accuracy.high,
        certainty.macro_f1.low,
        certainty.macro_f1.high
    )
    .fetch_one(&mut **tx)
    .await
    .during("record the evaluation")?;
    for class in Severity::ALL {
        let figures = metrics.classes[class.index()];
        sqlx::query!(
            "insert into evaluation_classes (evaluation_id, severity, precision, recall, f1, support, roc_auc)
             values ($1, $2::text::severity, $3, $4, $5, $6, $7)",
            evaluation_id,
            class.as_str(),
            figures.precision,
            figures.recall,
            figures.f1,
            figures.support.cast_signed(),
            certainty.roc_auc[class.index()]
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
    copy::predictions(tx, &[(task.lease.job_id(), task.run_date, predictions)]).await
}
