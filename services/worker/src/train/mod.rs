//! A training task: epochs over a dataset, the best of them registered as a model.
//!
//! ```text
//! load once (fetch, decode) -> [augment (thread pool) -> step (device thread)] per batch -> measure -> row per epoch
//! ```
//!
//! A checkpoint says between which two steps the run stands; all randomness is a function of the place in the run. So a run that
//! was interrupted anywhere ends with the same weights, bit for bit on the same kind of machine.

pub mod checkpoint;
mod epoch;
pub(crate) mod leftovers;

use std::sync::Arc;

use perito_database::{ClaimedTask, EpochRow, LabelledImage, Measurement, NewModel, Provenance};
use perito_domain::{
    Severity,
    failure::ImageFailure,
    metrics::Metrics,
    preprocessing::Preprocessing,
    severity::CLASSES,
    spec::{JobSpec, Split, TrainSpec},
};
use perito_nets::Trainer;

use self::checkpoint::{Checkpoints, Position};
use crate::{
    error::TaskError,
    execute::{Ending, commit},
    labelled::LabelledSet,
    measure::Measured,
    pixel_cache::PixelCache,
    service::Context,
};

/// The best epoch so far.
struct Best {
    epoch: u32,
    measured: Measured,
    weights: Vec<u8>,
}

/// What training came to.
pub(crate) struct Trained {
    best: Best,
    contract: Preprocessing,
    provenance: Provenance,
    failures: Vec<ImageFailure>,
}

impl Trained {
    /// The best epoch and its measurement.
    pub(crate) fn best(&self) -> (u32, &Measurement) {
        (self.best.epoch, &self.best.measured.measurement)
    }
}

/// What to train on, and what to measure by.
pub(crate) struct Data {
    pub(crate) training: Vec<LabelledImage>,
    pub(crate) validation: Vec<LabelledImage>,
}

/// Trains, stores the best weights in S3 and commits the model with its lineage, metrics and predictions.
///
/// # Errors
/// A bad dataset or a loss that is not finite is permanent; a store or a database that fails is transient.
pub async fn run(context: &Context, task: &Arc<ClaimedTask>) -> Result<Ending, TaskError> {
    let (JobSpec::Train(spec), Some(dataset_id)) = (&task.spec, task.dataset_id) else {
        return Err(TaskError::Permanent("the training task was planned without a dataset".to_owned()));
    };
    fit_and_register(context, task, spec, dataset_id).await
}

/// Trains on a dataset's training split and registers the epoch that is best on its validation split.
///
/// # Errors
/// As [`run`].
pub(crate) async fn fit_and_register(
    context: &Context,
    task: &Arc<ClaimedTask>,
    spec: &TrainSpec,
    dataset_id: i64,
) -> Result<Ending, TaskError> {
    let data = Data {
        training: context.database.dataset_items(dataset_id, Some(Split::Training)).await?,
        validation: context.database.dataset_items(dataset_id, Some(Split::Validation)).await?,
    };
    let recorded = |row: EpochRow, provenance: Provenance| async move {
        commit(|| context.database.commit_epoch(&task.lease, &row, &provenance)).await
    };
    match fit(context, task, spec, data, recorded).await? {
        Some(trained) => register(context, task, spec, trained).await,
        None => Ok(Ending::Interrupted),
    }
}

/// Trains. `record` gets the row of each epoch. `None` when the process began to shut down before the end; then a checkpoint says where.
///
/// # Errors
/// As [`run`], and those of `record`.
pub(crate) async fn fit<F: Future<Output = Result<(), perito_database::Error>>>(
    context: &Context,
    task: &ClaimedTask,
    spec: &TrainSpec,
    data: Data,
    record: impl Fn(EpochRow, Provenance) -> F,
) -> Result<Option<Trained>, TaskError> {
    let contract = spec.preprocessing();
    // Random parts are cut from larger pictures.
    let side = spec.augment.crop.as_ref().map_or(spec.image_size, |crop| crop.from);
    let larger = Preprocessing { image_size: side, ..contract.clone() };
    let (training, mut failures) = load(context, data.training, &larger).await?;
    let (validation, more_failures) = load(context, data.validation, &contract).await?;
    failures.extend(more_failures);
    let class_images = training.class_images();
    if let Some(empty) = Severity::ALL.into_iter().find(|class| class_images[class.index()] == 0) {
        return Err(TaskError::Permanent(format!(
            "there is no usable image of the class {empty} to train on: add some to the dataset, as a new version"
        )));
    }
    tracing::info!(
        images.training = training.len(),
        images.validation = validation.len(),
        images.failed = failures.len(),
        "dataset loaded"
    );

    let provenance = provenance(context, spec)?;
    let sets = Sets { training, validation };
    let mut checkpoints = Checkpoints::new(context, task, provenance.spec_sha256.clone());
    let mut trainer = Some(start(context, task, spec, &contract, class_images).await?);
    let resumed = checkpoints.resume(&mut trainer).await?;
    let (mut position, mut best) = resumed.unwrap_or((Position::start(), None));
    while position.epoch <= spec.epochs && !is_patience_over(spec, position.epoch, best.as_ref()) {
        let epoch = position.epoch;
        let mut losses = position.losses.clone();
        let outcome = epoch::run(context, spec, position, &mut trainer, &sets, &mut checkpoints, best.as_ref()).await?;
        let Some(EpochOutcome { row, measured }) = outcome else {
            return Ok(None);
        };
        tracing::info!(
            epoch,
            loss.training = row.training_loss,
            loss.validation = row.validation_loss,
            accuracy.validation = row.validation_accuracy,
            f1.validation = row.validation_macro_f1,
            images_per_second = row.images_per_second,
            "epoch done"
        );
        losses.push(row.validation_loss);
        record(row, provenance.clone()).await?;
        if is_better(&measured.measurement.metrics, best.as_ref()) {
            let weights =
                epoch::on_device(context, "saving weights", &mut trainer, |trainer| trainer.weights()).await?;
            best = Some(Best { epoch, measured, weights });
        }
        position = Position::start_after(losses);
        if checkpoints.is_due_after(epoch) && epoch < spec.epochs {
            checkpoints.save(&position, &mut trainer, best.as_ref()).await?;
        }
    }
    // A specification has at least one epoch, and the first one is always better than none.
    let best = best.ok_or(TaskError::Panic("training"))?;
    Ok(Some(Trained { best, contract, provenance, failures }))
}

/// Commits what [`fit`] gave as a model.
async fn register(
    context: &Context,
    task: &ClaimedTask,
    spec: &TrainSpec,
    Trained { best, contract, provenance, failures }: Trained,
) -> Result<Ending, TaskError> {
    let model = store(context, task, spec, contract, provenance, &best).await?;
    commit(|| context.database.commit_training(task, &model, &best.measured.measurement, &failures)).await?;
    Ok(Ending::Committed)
}

fn provenance(context: &Context, spec: &TrainSpec) -> Result<Provenance, TaskError> {
    let json = serde_json::to_vec(spec)
        .map_err(|error| TaskError::Permanent(format!("writing the specification as JSON: {error}")))?;
    Ok(Provenance {
        seed: spec.seed,
        spec_sha256: checkpoint::digest(&json),
        code_version: perito_runtime::version().to_owned(),
        libtorch_version: perito_nets::libtorch_version().to_owned(),
        device: context.device.device().to_string(),
    })
}

async fn load(
    context: &Context,
    items: Vec<LabelledImage>,
    contract: &Preprocessing,
) -> Result<(LabelledSet, Vec<ImageFailure>), TaskError> {
    // Each epoch reads both parts: they share the cache by halves.
    LabelledSet::load(&context.images, items, contract, PixelCache::new(context.cache.halved())).await
}

async fn start(
    context: &Context,
    task: &ClaimedTask,
    spec: &TrainSpec,
    contract: &Preprocessing,
    class_images: [u64; CLASSES],
) -> Result<Trainer, TaskError> {
    let initial = match &task.model {
        Some(model) => Some(context.artifacts.weights(model).await?),
        None => None,
    };
    let (spec, contract, device) = (spec.clone(), contract.clone(), context.device.device());
    let trainer = context
        .device
        .run("starting training", move || Trainer::new(&spec, &contract, class_images, initial.as_deref(), device))
        .await??;
    if !trainer.random().is_empty() {
        tracing::info!(parameters = ?trainer.random(), "not among the initial weights: drawn at random");
    }
    Ok(trainer)
}

/// Whether the recipe's early stopping ends the run before this epoch (Prechelt, 1998: no better one for that many epochs).
fn is_patience_over(spec: &TrainSpec, epoch: u32, best: Option<&Best>) -> bool {
    best.zip(spec.early_stopping).is_some_and(|(best, patience)| epoch > best.epoch + patience)
}

/// By macro F1; the earlier epoch on a tie.
fn is_better(metrics: &Metrics, best: Option<&Best>) -> bool {
    best.is_none_or(|best| metrics.macro_average.f1 > best.measured.measurement.metrics.macro_average.f1)
}

/// Puts the weights under a key of this attempt's own, so that a zombie's upload can overwrite nothing.
async fn store(
    context: &Context,
    task: &ClaimedTask,
    spec: &TrainSpec,
    preprocessing: Preprocessing,
    provenance: Provenance,
    best: &Best,
) -> Result<NewModel, TaskError> {
    let key = format!("models/{}/{}/model.safetensors", task.lease.job_id(), task.lease.attempt());
    let sha256 = checkpoint::digest(&best.weights);
    let bytes = best.weights.len() as i64;
    context
        .objects
        .put(&context.bucket, &key, best.weights.clone(), "application/octet-stream")
        .await
        .map_err(|source| TaskError::Objects { context: format!("put model {key}"), source })?;
    let hyperparameters = serde_json::to_value(spec)
        .map_err(|error| TaskError::Permanent(format!("writing the specification as JSON: {error}")))?;
    Ok(NewModel {
        name: spec.model.clone(),
        architecture: spec.architecture,
        dropout: spec.dropout,
        class_names: Severity::ALL.iter().map(ToString::to_string).collect(),
        preprocessing,
        artifact_bucket: context.bucket.clone(),
        artifact_key: key,
        artifact_sha256: sha256,
        artifact_bytes: bytes,
        hyperparameters: Some(hyperparameters),
        best_epoch: Some(best.epoch as i32),
        code_version: provenance.code_version.clone(),
        source: format!("libtorch {} on {}", provenance.libtorch_version, provenance.device),
        provenance: Some(provenance),
    })
}

/// The dataset's two parts.
struct Sets {
    training: LabelledSet,
    validation: LabelledSet,
}

/// What one epoch leaves.
struct EpochOutcome {
    row: EpochRow,
    measured: Measured,
}
