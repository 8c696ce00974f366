//! One epoch: every training image once, in a random order, then the validation split.

use std::{sync::Arc, time::Instant};

use perito_database::{EpochRow, Measurement};
use perito_domain::{
    random::{Purpose, rng},
    spec::{Split, TrainSpec},
};
use perito_nets::{NetError, Trainer};
use rand::seq::SliceRandom;

use super::{
    Best, EpochOutcome, Sets,
    checkpoint::{Checkpoints, Position},
};
use crate::{error::TaskError, measure::measure, service::Context};

/// Runs an epoch from where it stands to its end. `None` when the process began to shut down before that; then a checkpoint says where.
pub(super) async fn run(
    context: &Context,
    spec: &TrainSpec,
    mut position: Position,
    trainer: &mut Option<Trainer>,
    sets: &Sets,
    checkpoints: &mut Checkpoints<'_>,
    best: Option<&Best>,
) -> Result<Option<EpochOutcome>, TaskError> {
    let started = Instant::now();
    let (epoch, images_before) = (position.epoch, position.images);
    let learning_rate = perito_nets::learning_rate(spec, &position.losses);
    let (seed, augment, side) = (spec.seed, spec.augment.clone(), spec.image_size);
    let mut order = order(spec, epoch, sets.training.len());
    order.drain(..order.len().min(position.step as usize * spec.batch_size as usize));
    let mut batches = sets.training.batches(order, spec.batch_size as usize, move |index, pixels| {
        perito_vision::augment(pixels, &augment, side, &mut rng(seed, Purpose::Augment, epoch.into(), index as u64))
    });
    while let Some(batch) = batches.recv().await {
        if context.shutdown.soft().is_cancelled() {
            checkpoints.save(&position, trainer, best).await?;
            return Ok(None);
        }
        if checkpoints.is_due() {
            checkpoints.save(&position, trainer, best).await?;
        }
        let (batch, step) = (batch?, position.step);
        let outcome = on_device(context, "a training step", trainer, move |trainer| {
            trainer.step(&batch.views(), &batch.labels, learning_rate, epoch, step)
        })
        .await?;
        position.loss_sum += outcome.loss_sum;
        position.correct += outcome.correct;
        position.images += outcome.images;
        position.step += 1;
    }
    let training_seconds = started.elapsed().as_secs_f64();

    let device = Arc::new(tokio::sync::Mutex::new(trainer));
    let measured = measure(&sets.validation, Split::Validation, |batch| {
        let device = Arc::clone(&device);
        async move {
            let mut trainer = device.lock().await;
            on_device(context, "validation", &mut trainer, move |trainer| trainer.probabilities(&batch.views())).await
        }
    })
    .await?;
    let Measurement { metrics, certainty, .. } = &measured.measurement;
    let row = EpochRow {
        epoch: epoch as i32,
        training_loss: position.loss_sum / position.images as f64,
        training_accuracy: position.correct as f64 / position.images as f64,
        validation_loss: certainty.log_loss,
        validation_accuracy: metrics.accuracy,
        validation_macro_f1: metrics.macro_average.f1,
        learning_rate,
        seconds: started.elapsed().as_secs_f64(),
        images_per_second: (position.images - images_before) as f64 / training_seconds,
        device: context.device.device().to_string(),
    };
    Ok(Some(EpochOutcome { row, measured }))
}

/// The order of an epoch's images. A last batch of a single image is left out, as batch norm needs two.
fn order(spec: &TrainSpec, epoch: u32, images: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..images).collect();
    order.shuffle(&mut rng(spec.seed, Purpose::Shuffle, epoch.into(), 0));
    if images % spec.batch_size as usize == 1 && images > 1 {
        order.pop();
    }
    order
}

/// Lends the trainer to the device thread for one call.
pub(super) async fn on_device<T: Send + 'static>(
    context: &Context,
    what: &'static str,
    trainer: &mut Option<Trainer>,
    call: impl FnOnce(&mut Trainer) -> Result<T, NetError> + Send + 'static,
) -> Result<T, TaskError> {
    // Gone only after a panic, which ended the task.
    let mut owned = trainer.take().ok_or(TaskError::Panic(what))?;
    let (owned, outcome) = context
        .device
        .run(what, move || {
            let outcome = call(&mut owned);
            (owned, outcome)
        })
        .await?;
    *trainer = Some(owned);
    Ok(outcome?)
}
