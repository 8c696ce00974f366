//! A network measured on labelled images, for training and evaluation alike.

use perito_database::Prediction;
use perito_domain::{
    Severity,
    metrics::{ConfusionMatrix, Metrics},
};

use crate::{
    error::TaskError,
    labelled::{Batch, LabelledSet},
};

/// Images in one forward pass of a measurement. Larger batches are no faster on a CPU.
const BATCH_SIZE: usize = 32;

/// What came of a measurement.
pub struct Measured {
    /// Every figure that follows from the confusion matrix.
    pub metrics: Metrics,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// The rows from which all of it can be computed again.
    pub predictions: Vec<Prediction>,
}

/// Runs `forward` over all images of a set. `forward` gives the class probabilities of a batch.
///
/// # Errors
/// Those of `forward` and of loading.
pub async fn measure<F>(set: &LabelledSet, mut forward: impl FnMut(Batch) -> F) -> Result<Measured, TaskError>
where
    F: Future<Output = Result<Vec<[f32; 3]>, TaskError>>,
{
    let mut confusion = ConfusionMatrix::default();
    let mut loss = 0.0;
    let mut predictions = Vec::with_capacity(set.len());
    let mut batches = set.batches((0..set.len()).collect(), BATCH_SIZE, |_, pixels| pixels.clone());
    while let Some(batch) = batches.recv().await {
        let batch = batch?;
        let (labels, ids) = (batch.labels.clone(), batch.ids.clone());
        for ((probabilities, label), image_id) in forward(batch).await?.into_iter().zip(labels).zip(ids) {
            confusion.add(label, Severity::most_likely(&probabilities));
            // A probability that has underflowed to zero would make the mean infinite.
            loss -= f64::from(probabilities[label.index()].max(f32::MIN_POSITIVE)).ln();
            predictions.push(Prediction { image_id, probabilities });
        }
    }
    let metrics = confusion.metrics();
    Ok(Measured { loss: loss / metrics.images.max(1) as f64, metrics, predictions })
}
