//! A network measured on labelled images, for training and evaluation alike.

use perito_database::{Measurement, Prediction};
use perito_domain::{Severity, metrics, spec::Split};

use crate::{
    error::TaskError,
    labelled::{Batch, LabelledSet},
};

/// Images in one forward pass of a measurement. Larger batches are no faster on a CPU.
const BATCH_SIZE: usize = 32;

/// A measurement, with the labels that it was made against.
#[derive(Clone)]
pub struct Measured {
    /// What is stored.
    pub measurement: Measurement,
    /// The actual class of each prediction.
    pub labels: Vec<Severity>,
}

impl Measured {
    /// Computes every metric.
    pub fn new(split: Split, labels: Vec<Severity>, predictions: Vec<Prediction>) -> Self {
        let scored: Vec<_> =
            labels.iter().copied().zip(predictions.iter().map(|prediction| prediction.probabilities)).collect();
        let (metrics, certainty) = metrics::measure(&scored);
        Self { measurement: Measurement { split, metrics, certainty, predictions }, labels }
    }
}

/// Runs `forward` over all images of a set. `forward` gives the class probabilities of a batch.
///
/// # Errors
/// Those of `forward` and of loading.
pub async fn measure<F>(
    set: &LabelledSet,
    split: Split,
    mut forward: impl FnMut(Batch) -> F,
) -> Result<Measured, TaskError>
where
    F: Future<Output = Result<Vec<[f32; 3]>, TaskError>>,
{
    let (mut labels, mut predictions) = (Vec::with_capacity(set.len()), Vec::with_capacity(set.len()));
    let mut batches = set.batches((0..set.len()).collect(), BATCH_SIZE, |_, pixels| pixels.clone());
    while let Some(batch) = batches.recv().await {
        let batch = batch?;
        labels.extend_from_slice(&batch.labels);
        let ids = batch.ids.clone();
        let rows = ids.into_iter().zip(forward(batch).await?);
        predictions.extend(rows.map(|(image_id, probabilities)| Prediction { image_id, probabilities }));
    }
    Ok(Measured::new(split, labels, predictions))
}
