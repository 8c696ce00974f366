//! Checkpoints of a training task in S3, from which any worker goes on exactly.
//!
//! ```text
//! checkpoints/JOB/EPOCH-STEP-ATTEMPT/state.safetensors   weights and the optimiser's state
//!                                   /best.safetensors    the best epoch's weights, if there was one
//!                                   /complete.json       written last: what is there, with digests, and where the run stood
//! ```
//!
//! A folder without its marker was never finished and is passed over; one whose files do not have the digests in the marker is broken,
//! and the one before it serves. What a run leaves when it has ended goes in [`super::leftovers`].

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use perito_database::{ClaimedTask, Prediction};
use perito_domain::{
    Severity,
    limits::{MAX_CHECKPOINT_BYTES, MAX_MARKER_BYTES},
    spec::Split,
};
use perito_nets::Trainer;
use perito_objects::ErrorKind;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Best, epoch::on_device};
use crate::{error::TaskError, measure::Measured, service::Context};

/// The folder of all checkpoints; below it one for each job, and in that one for each task.
pub(super) const ROOT: &str = "checkpoints/";
const VERSION: u32 = 2;
const STATE: &str = "state.safetensors";
const BEST: &str = "best.safetensors";
const MARKER: &str = "complete.json";
/// How many finished checkpoints of a run are kept: the newest, and one for the case that it is broken.
const KEPT: usize = 2;

/// When checkpoints are written, besides on SIGTERM.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// After this long, between two steps.
    pub interval: Duration,
    /// After every so many epochs.
    pub epochs: Option<u32>,
}

/// Where a run stands: before a step of an epoch, with the epoch's sums so far.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Position {
    /// Counted from 1.
    pub(super) epoch: u32,
    /// Steps of this epoch that are done.
    pub(super) step: u32,
    /// Sum of the images' cross-entropies.
    pub(super) loss_sum: f64,
    /// Images that were right.
    pub(super) correct: u64,
    /// Images that were seen.
    pub(super) images: u64,
    /// The loss on the validation split after each epoch before this one.
    pub(super) losses: Vec<f64>,
}

impl Position {
    /// Before the first step of the first epoch.
    pub(super) fn start() -> Self {
        Self::start_after(Vec::new())
    }

    /// Before the first step of the epoch after those with these losses on the validation split.
    pub(super) fn start_after(losses: Vec<f64>) -> Self {
        Self { epoch: losses.len() as u32 + 1, step: 0, loss_sum: 0.0, correct: 0, images: 0, losses }
    }
}

/// The contents of the marker. Floating-point numbers are stored as their bits, since a run goes on exactly or not at all.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    version: u32,
    spec_sha256: String,
    libtorch: String,
    epoch: u32,
    step: u32,
    loss_sum: u64,
    correct: u64,
    images: u64,
    losses: Vec<u64>,
    state_sha256: String,
    best: Option<BestMarker>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BestMarker {
    epoch: u32,
    sha256: String,
    /// Image ids, class indices of their labels, and the bits of their three probabilities.
    predictions: Vec<(i64, usize, [u32; 3])>,
}

/// The checkpoints of one training task.
pub(super) struct Checkpoints<'a> {
    context: &'a Context,
    prefix: String,
    attempt: i32,
    spec_sha256: String,
    /// Finished ones, oldest first.
    kept: Vec<String>,
    last: Instant,
}

/// Why a checkpoint does not serve.
enum Unusable {
    /// Broken, or of another run: the one before may do.
    Broken(String),
    /// Perhaps later.
    Failed(TaskError),
}

impl<'a> Checkpoints<'a> {
    /// Those of this task. `spec_sha256` is the digest of its specification.
    pub(super) fn new(context: &'a Context, task: &ClaimedTask, spec_sha256: String) -> Self {
        let prefix = format!("{ROOT}{}/{}/", task.lease.job_id(), task.lease.task_id());
        Self { context, prefix, attempt: task.lease.attempt(), spec_sha256, kept: Vec::new(), last: Instant::now() }
    }

    /// Brings the trainer to where the newest good checkpoint stands. `None`: there is none, the run begins at its beginning.
    ///
    /// # Errors
    /// A store that cannot be reached. A broken checkpoint is logged and passed over.
    pub(super) async fn resume(
        &mut self,
        trainer: &mut Option<Trainer>,
    ) -> Result<Option<(Position, Option<Best>)>, TaskError> {
        let listed: Vec<_> = self
            .context
            .objects
            .list(&self.context.bucket, &self.prefix)
            .try_collect()
            .await
            .map_err(|source| TaskError::Objects { context: format!("list {}", self.prefix), source })?;
        let marker = format!("/{MARKER}");
        self.kept =
            listed.into_iter().filter_map(|object| object.key.strip_suffix(&marker).map(str::to_owned)).collect();
        self.kept.sort();
        for folder in self.kept.clone().into_iter().rev() {
            match self.load(&folder, trainer).await {
                Ok((position, best)) => {
                    tracing::info!(
                        checkpoint = folder,
                        epoch = position.epoch,
                        step = position.step,
                        "resumed from a checkpoint"
                    );
                    self.last = Instant::now();
                    return Ok(Some((position, best)));
                }
                Err(Unusable::Broken(problem)) => {
                    tracing::warn!(checkpoint = folder, error = problem, "checkpoint passed over");
                    self.kept.retain(|kept| *kept != folder);
                    self.remove(&folder).await;
                }
                Err(Unusable::Failed(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether enough time has passed for another one in the middle of an epoch.
    pub(super) fn is_due(&self) -> bool {
        self.last.elapsed() >= self.context.checkpoints.interval
    }

    /// Whether one is due now that an epoch is done.
    pub(super) fn is_due_after(&self, epoch: u32) -> bool {
        self.is_due() || self.context.checkpoints.epochs.is_some_and(|epochs| epoch.is_multiple_of(epochs))
    }

    /// Writes a checkpoint and removes those that it makes superfluous.
    ///
    /// # Errors
    /// A store that cannot be reached.
    pub(super) async fn save(
        &mut self,
        position: &Position,
        trainer: &mut Option<Trainer>,
        best: Option<&Best>,
    ) -> Result<(), TaskError> {
        let started = Instant::now();
        let folder = format!("{}{:06}-{:08}-{:04}", self.prefix, position.epoch, position.step, self.attempt);
        let state = on_device(self.context, "saving a checkpoint", trainer, |trainer| trainer.checkpoint()).await?;
        let marker = Marker {
            version: VERSION,
            spec_sha256: self.spec_sha256.clone(),
            libtorch: perito_nets::libtorch_version().to_owned(),
            epoch: position.epoch,
            step: position.step,
            loss_sum: position.loss_sum.to_bits(),
            correct: position.correct,
            images: position.images,
            losses: position.losses.iter().map(|loss| loss.to_bits()).collect(),
            state_sha256: digest(&state),
            best: best.map(BestMarker::of),
        };
        let bytes = state.len();
        self.put(&folder, STATE, state).await?;
        if let Some(best) = best {
            self.put(&folder, BEST, best.weights.clone()).await?;
        }
        let marker = serde_json::to_vec(&marker)
            .map_err(|error| TaskError::Permanent(format!("writing a checkpoint's marker as JSON: {error}")))?;
        self.put(&folder, MARKER, marker).await?;
        self.kept.retain(|kept| *kept != folder);
        self.kept.push(folder);
        while self.kept.len() > KEPT {
            let oldest = self.kept.remove(0);
            self.remove(&oldest).await;
        }
        self.last = Instant::now();
        tracing::info!(
            epoch = position.epoch,
            step = position.step,
            checkpoint.bytes = bytes,
            checkpoint.seconds = started.elapsed().as_secs_f64(),
            "checkpoint written"
        );
        Ok(())
    }

    async fn load(&self, folder: &str, trainer: &mut Option<Trainer>) -> Result<(Position, Option<Best>), Unusable> {
        let marker = self.get(folder, MARKER, MAX_MARKER_BYTES).await?;
        let marker: Marker = serde_json::from_slice(&marker)
            .map_err(|error| Unusable::Broken(format!("its {MARKER} cannot be read: {error}")))?;
        let libtorch = perito_nets::libtorch_version();
        if (marker.version, marker.spec_sha256.as_str(), marker.libtorch.as_str())
            != (VERSION, self.spec_sha256.as_str(), libtorch)
        {
            return Err(Unusable::Broken(format!(
                "it is of version {} for specification {} on libtorch {}, expected {VERSION}, {} and {libtorch}",
                marker.version, marker.spec_sha256, marker.libtorch, self.spec_sha256
            )));
        }
        let state = self.checked(folder, STATE, &marker.state_sha256).await?;
        let best = match marker.best {
            None => None,
            Some(best) => {
                let weights = self.checked(folder, BEST, &best.sha256).await?;
                Some(best.with(weights)?)
            }
        };
        on_device(self.context, "restoring a checkpoint", trainer, move |trainer| trainer.restore(&state))
            .await
            .map_err(|error| match error {
                TaskError::Network(error) => Unusable::Broken(error.to_string()),
                error => Unusable::Failed(error),
            })?;
        let position = Position {
            epoch: marker.epoch,
            step: marker.step,
            loss_sum: f64::from_bits(marker.loss_sum),
            correct: marker.correct,
            images: marker.images,
            losses: marker.losses.into_iter().map(f64::from_bits).collect(),
        };
        Ok((position, best))
    }

    /// A file of a checkpoint that has this digest.
    async fn checked(&self, folder: &str, file: &str, sha256: &str) -> Result<Vec<u8>, Unusable> {
        let bytes = self.get(folder, file, MAX_CHECKPOINT_BYTES).await?;
        if digest(&bytes) == sha256 {
            return Ok(bytes);
        }
        Err(Unusable::Broken(format!("its {file} of {} bytes has another SHA-256 than its marker says", bytes.len())))
    }

    async fn get(&self, folder: &str, file: &str, limit: u64) -> Result<Vec<u8>, Unusable> {
        let key = format!("{folder}/{file}");
        match self.context.objects.get(&self.context.bucket, &key, None, limit).await {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::TooLarge) => {
                Err(Unusable::Broken(format!("its {file}: {error}")))
            }
            Err(source) => Err(Unusable::Failed(TaskError::Objects { context: format!("get {key}"), source })),
        }
    }

    async fn put(&self, folder: &str, file: &str, bytes: Vec<u8>) -> Result<(), TaskError> {
        let key = format!("{folder}/{file}");
        let stored = self.context.objects.put(&self.context.bucket, &key, bytes, "application/octet-stream").await;
        stored.map(|_| ()).map_err(|source| TaskError::Objects { context: format!("put {key}"), source })
    }

    /// The marker first, so that what is left of it when this is interrupted is no checkpoint.
    async fn remove(&self, folder: &str) {
        for file in [MARKER, BEST, STATE] {
            delete(self.context, &format!("{folder}/{file}")).await;
        }
    }
}

/// Removes an object. What cannot be removed is logged and stays.
pub(super) async fn delete(context: &Context, key: &str) {
    if let Err(error) = context.objects.delete(&context.bucket, key).await {
        tracing::warn!(error = %error, key, "removing an old checkpoint failed");
    }
}

impl BestMarker {
    fn of(best: &Best) -> Self {
        let Measured { measurement, labels } = &best.measured;
        let rows = measurement.predictions.iter().zip(labels);
        let rows = rows.map(|(row, label)| (row.image_id, label.index(), row.probabilities.map(f32::to_bits)));
        Self { epoch: best.epoch, sha256: digest(&best.weights), predictions: rows.collect() }
    }

    fn with(self, weights: Vec<u8>) -> Result<Best, Unusable> {
        let (mut labels, mut predictions) = (Vec::new(), Vec::new());
        for (image_id, label, bits) in self.predictions {
            let label =
                Severity::ALL.get(label).ok_or_else(|| Unusable::Broken(format!("there is no class {label}")))?;
            labels.push(*label);
            predictions.push(Prediction { image_id, probabilities: bits.map(f32::from_bits) });
        }
        Ok(Best { epoch: self.epoch, measured: Measured::new(Split::Validation, labels, predictions), weights })
    }
}

pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
