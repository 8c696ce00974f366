//! A scoring task: images in, probabilities out.
//!
//! ```text
//! fetch (concurrent GETs) -> decode (thread pool) -> batch -> infer (device thread) -> rows
//! ```
//!
//! Loading runs in a task of its own and stays ahead of the device by two batches. A worker has three scoring tasks in hand: while one
//! has its turn at the device, the next one is fetched and decoded as far as its first batches, and the one before is written.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use perito_database::{ClaimedTask, Prediction, ScoreResult};
use perito_domain::stages::Stage;

use crate::{artifacts::LoadedModel, error::TaskError, service::Context, stall::TaskInHand};
use perito_vision::Pixels;

/// Batches that are on their way to the device or on it: one runs while the next one waits.
const BATCHES_IN_FLIGHT: usize = 2;

/// Scores the images of a shard. Every image of the task is in the result, once.
///
/// # Errors
/// A missing or altered model is permanent; a store or a database that fails is transient.
pub async fn run(context: &Context, task: &ClaimedTask, in_hand: &TaskInHand) -> Result<ScoreResult, TaskError> {
    if task.images.is_empty() {
        return Ok(ScoreResult::default());
    }
    let model = task
        .model
        .as_ref()
        .ok_or_else(|| TaskError::Permanent("the scoring task was planned without a model".to_owned()))?;
    let scorer = context.artifacts.model(model).await?;
    let loaded =
        context.images.load(task.images.clone(), model.preprocessing.clone(), scorer.batch_size * BATCHES_IN_FLIGHT);
    let mut batches =
        std::pin::pin!(loaded.try_chunks(scorer.batch_size).map(|chunk| chunk.map_err(|error| error.1)).peekable());
    // One task after the other, so that they do not all end at once and leave the device without work. Not before it has some.
    batches.as_mut().peek().await;
    // Closed never: the semaphore lives as long as the context.
    let turn = context.turns.acquire().await;
    let mut result = ScoreResult::default();
    let mut scored = batches
        .map_ok(|chunk| {
            let scorer = Arc::clone(&scorer);
            async move {
                let (mut positions, mut batch, mut failures) = (Vec::new(), Vec::new(), Vec::new());
                for (position, outcome) in chunk {
                    match outcome {
                        Ok(pixels) => {
                            positions.push(position);
                            batch.push(pixels);
                        }
                        Err(failure) => failures.push(failure),
                    }
                }
                let probabilities = infer(context, scorer, batch).await?;
                Ok::<_, TaskError>((positions, probabilities, failures))
            }
        })
        .try_buffered(BATCHES_IN_FLIGHT);
    while let Some((positions, probabilities, failures)) = scored.try_next().await? {
        let rows = positions.into_iter().zip(probabilities);
        result.predictions.extend(
            rows.map(|(position, probabilities)| Prediction { image_id: task.images[position].id, probabilities }),
        );
        result.failures.extend(failures);
    }
    drop(turn);
    result.stages = in_hand.report();
    Ok(result)
}

#[tracing::instrument(skip_all, fields(images = batch.len()))]
async fn infer(context: &Context, model: Arc<LoadedModel>, batch: Vec<Pixels>) -> Result<Vec<[f32; 3]>, TaskError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let images = batch.len();
    let began = std::time::Instant::now();
    let _working = context.stall_clock.working(Stage::Infer);
    let start = move || model.engine().start(&batch.iter().map(Pixels::as_bytes).collect::<Vec<_>>());
    let started = context.device.run("inference", start).await??;
    // In a visit of its own: the next batch may be started in between, and a GPU never waits for this thread.
    let probabilities = context.device.run("inference", move || started.finish()).await??;
    metrics::counter!("perito_images_inferred_total").increment(images as u64);
    metrics::histogram!("perito_inference_batch_seconds").record(began.elapsed().as_secs_f64());
    Ok(probabilities)
}
