//! Model files from S3, checked against the registry's SHA-256 and cached.

use std::{collections::VecDeque, sync::Arc};

use perito_database::Model;
use perito_nets::{Engine, Topology};
use perito_objects::ObjectStore;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::{device::DeviceThread, error::TaskError};

/// The largest model file that is read, in bytes.
const MAX_ARTIFACT_BYTES: u64 = 2 << 30;
/// How many engines are kept: the one in use and the one before, for a day on which two models take turns.
const CACHED_ENGINES: usize = 2;

/// An engine that scoring tasks share. Locked only on the device thread, so never contended.
pub type SharedEngine = Arc<std::sync::Mutex<Engine>>;

/// Gives out engines, ready to run.
pub struct Artifacts {
    objects: ObjectStore,
    device: DeviceThread,
    // Held while loading, so that two tasks that start together load a model once.
    engines: Mutex<VecDeque<(i64, SharedEngine)>>,
}

impl Artifacts {
    /// An empty cache.
    pub fn new(objects: ObjectStore, device: DeviceThread) -> Self {
        Self { objects, device, engines: Mutex::new(VecDeque::new()) }
    }

    /// The engine of a registered model.
    ///
    /// # Errors
    /// A missing or altered artifact is permanent; an unreachable store is transient.
    pub async fn engine(&self, model: &Model) -> Result<SharedEngine, TaskError> {
        let mut engines = self.engines.lock().await;
        if let Some((_, engine)) = engines.iter().find(|(id, _)| *id == model.id) {
            return Ok(Arc::clone(engine));
        }
        let weights = self.weights(model).await?;
        let topology = Topology {
            architecture: model.architecture,
            image_size: model.preprocessing.image_size,
            dropout: model.dropout,
        };
        let preprocessing = model.preprocessing.clone();
        let device = self.device.device();
        let started = std::time::Instant::now();
        let engine = self
            .device
            .run("loading a model", move || Engine::load(&topology, &preprocessing, &weights, device))
            .await??;
        tracing::info!(
            model = %model.reference(),
            model.bytes = model.artifact_bytes,
            load.seconds = started.elapsed().as_secs_f64(),
            "model loaded"
        );
        let engine = Arc::new(std::sync::Mutex::new(engine));
        engines.push_front((model.id, Arc::clone(&engine)));
        engines.truncate(CACHED_ENGINES);
        Ok(engine)
    }

    /// The bytes of a registered model's weights.
    ///
    /// # Errors
    /// As for [`Self::engine`].
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
