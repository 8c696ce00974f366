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

use std::sync::Arc;

use perito_database::{ClaimedTask, EpochRow, NewModel, Provenance};
use perito_domain::{
    metrics::Metrics,
    preprocessing::Preprocessing,
    spec::{JobSpec, Split, TrainSpec},
};
use perito_nets::Trainer;

use self::checkpoint::{Checkpoints, Position};
use crate::{
    error::TaskError,
    execute::{Ending, commit},
    labelled::LabelledSet,
    measure::Measured,
    service::Context,
};

/// The best epoch so far.
struct Best {
    epoch: u32,
    measured: Measured,
    weights: Vec<u8>,
}

/// Trains, stores the best weights in S3 and commits the model with its lineage, metrics and predictions.
///
/// # Errors
/// A bad dataset or a loss that is not finite is permanent; a store or a database that fails is transient.
pub async fn run(context: &Context, task: &Arc<ClaimedTask>) -> Result<Ending, TaskError> {
    let (JobSpec::Train(spec), Some(dataset_id)) = (&task.spec, task.dataset_id) else {
        return Err(TaskError::Permanent("the training task was planned without a dataset".to_owned()));
    };
    let contract = Preprocessing::imagenet(spec.image_size);
    let (training, mut failures) = load(context, dataset_id, Split::Training, &contract).await?;
    let (validation, more_failures) = load(context, dataset_id, Split::Validation, &contract).await?;
    failures.extend(more_failures);
    tracing::info!(
        images.training = training.len(),
        images.validation = validation.len(),
        images.failed = failures.len(),
        "dataset loaded"
    );

    let provenance = provenance(context, spec)?;
    let sets = Sets { training, validation };
    let mut checkpoints = Checkpoints::new(context, task, provenance.spec_sha256.clone());
    let mut trainer = Some(start(context, task, spec, &contract).await?);
    let resumed = checkpoints.resume(&mut trainer).await?;
    let (mut position, mut best) = resumed.unwrap_or((Position::start_of(1), None));
    while position.epoch <= spec.epochs {
        let epoch = position.epoch;
        let outcome = epoch::run(context, spec, position, &mut trainer, &sets, &mut checkpoints, best.as_ref()).await?;
        let Some(EpochOutcome { row, measured }) = outcome else {
            return Ok(Ending::Interrupted);
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
        commit(|| context.database.commit_epoch(&task.lease, &row, &provenance)).await?;
        if is_better(&measured.measurement.metrics, best.as_ref()) {
            let weights =
                epoch::on_device(context, "saving weights", &mut trainer, |trainer| trainer.weights()).await?;
            best = Some(Best { epoch, measured, weights });
        }
        position = Position::start_of(epoch + 1);
        if checkpoints.is_due_after(epoch) && epoch < spec.epochs {
            checkpoints.save(&position, &mut trainer, best.as_ref()).await?;
        }
    }
    // A specification has at least one epoch, and the first one is always better than none.
    let best = best.ok_or(TaskError::Panic("training"))?;
    let model = store(context, task, spec, contract, provenance, &best).await?;
    let measurement = best.measured.measurement;
    commit(|| context.database.commit_training(task, &model, &measurement, &failures)).await?;
    checkpoints.clear().await;
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
    dataset_id: i64,
    split: Split,
    contract: &Preprocessing,
) -> Result<(LabelledSet, Vec<perito_domain::failure::ImageFailure>), TaskError> {
    let items = context.database.dataset_items(dataset_id, Some(split)).await?;
    // Training reads its split in every epoch: both splits share the memory by halves.
    LabelledSet::load(&context.images, items, contract, context.cache_bytes / 2).await
}

async fn start(
    context: &Context,
    task: &ClaimedTask,
    spec: &TrainSpec,
    contract: &Preprocessing,
) -> Result<Trainer, TaskError> {
    let initial = match &task.model {
        Some(model) => Some(context.artifacts.weights(model).await?),
        None => None,
    };
    let (spec, contract, device) = (spec.clone(), contract.clone(), context.device.device());
    let trainer = context
        .device
        .run("starting training", move || Trainer::new(&spec, &contract, initial.as_deref(), device))
        .await??;
    Ok(trainer)
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
        class_names: perito_domain::Severity::ALL.iter().map(ToString::to_string).collect(),
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
