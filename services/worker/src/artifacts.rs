//! Model files from S3, checked against the registry's SHA-256 and cached.

use std::{
    collections::VecDeque,
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use perito_database::Model;
use perito_domain::{limits::MAX_ARTIFACT_BYTES, preprocessing};
use perito_nets::{Engine, EngineOptions, NetError, Topology};
use perito_objects::ObjectStore;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::{device::DeviceThread, error::TaskError};

/// How many engines are kept: the one in use and the one before, for a day on which two models take turns.
const CACHED_ENGINES: usize = 2;

/// How long batch sizes are tried when a model is loaded.
pub const MEASURING: Duration = Duration::from_secs(1);

/// A model that tasks share.
pub struct LoadedModel {
    // Locked only on the device thread, so never contended.
    engine: std::sync::Mutex<Engine>,
    /// Images in one forward pass.
    pub batch_size: usize,
}

impl LoadedModel {
    /// The engine. To be called on the device thread.
    pub fn engine(&self) -> MutexGuard<'_, Engine> {
        // One that panicked is used again only by later batches, and holds nothing between them.
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives out models, ready to run.
pub struct Artifacts {
    objects: ObjectStore,
    device: DeviceThread,
    // Held while loading, so that two tasks that start together load a model once.
    models: Mutex<VecDeque<(i64, Arc<LoadedModel>)>>,
    options: EngineOptions,
    batch_size: Option<usize>,
}

impl Artifacts {
    /// An empty cache of models, which are loaded with these options and run with this batch size, or one that is measured.
    pub fn new(objects: ObjectStore, device: DeviceThread, options: EngineOptions, batch_size: Option<usize>) -> Self {
        Self { objects, device, models: Mutex::default(), options, batch_size }
    }

    /// A registered model, ready to run.
    ///
    /// # Errors
    /// A missing or altered artifact is permanent; an unreachable store is transient.
    pub async fn model(&self, model: &Model) -> Result<Arc<LoadedModel>, TaskError> {
        let mut models = self.models.lock().await;
        if let Some((_, loaded)) = models.iter().find(|(id, _)| *id == model.id) {
            return Ok(Arc::clone(loaded));
        }
        preprocessing::check_version(model.preprocessing.version)
            .map_err(|error| TaskError::Permanent(format!("model {}: {error}", model.reference())))?;
        let weights = self.weights(model).await?;
        let topology = Topology {
            architecture: model.architecture,
            image_size: model.preprocessing.image_size,
            dropout: model.dropout,
        };
        let preprocessing = model.preprocessing.clone();
        let (device, options, batch_size) = (self.device.device(), self.options, self.batch_size);
        let started = std::time::Instant::now();
        let load = move || {
            let engine = Engine::prepare(&topology, &preprocessing, &weights, device, options)?;
            let batch_size = batch_size.map_or_else(|| engine.measure_batch_size(MEASURING), Ok)?;
            Ok::<_, NetError>((engine, batch_size))
        };
        let (engine, batch_size) = self.device.run("loading a model", load).await??;
        metrics::histogram!("perito_model_load_seconds").record(started.elapsed());
        tracing::info!(
            model = %model.reference(),
            model.bytes = model.artifact_bytes,
            engine.preparation = ?engine.preparation(),
            engine.batch_size = batch_size,
            load.seconds = started.elapsed().as_secs_f64(),
            "model loaded"
        );
        let loaded = Arc::new(LoadedModel { engine: std::sync::Mutex::new(engine), batch_size });
        models.push_front((model.id, Arc::clone(&loaded)));
        models.truncate(CACHED_ENGINES);
        Ok(loaded)
    }

    /// The bytes of a registered model's weights.
    ///
    /// # Errors
    /// As for [`Self::model`].
    pub async fn weights(&self, model: &Model) -> Result<Vec<u8>, TaskError> {
        let bytes = self
            .objects
            .get(&model.artifact_bucket, &model.artifact_key, None, MAX_ARTIFACT_BYTES)
            .await
            .map_err(|source| TaskError::Objects { context: format!("get model {}", model.reference()), source })?;
        let digest = hex::encode(Sha256::digest(&bytes));
        if digest != model.artifact_sha256 {
            return Err(TaskError::Permanent(format!(
                "model {}: the artifact {}/{} has SHA-256 {digest}, registered was {}",
                model.reference(),
                model.artifact_bucket,
                model.artifact_key,
                model.artifact_sha256
            )));
        }
        Ok(bytes.into())
    }
}
