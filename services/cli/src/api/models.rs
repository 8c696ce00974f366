//! Versions of models.

use chrono::{DateTime, Utc};
use perito_domain::{
    audit::Signature,
    names::{ModelRef, Name},
    preprocessing::Preprocessing,
    spec::{Architecture, Split},
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Api, Evaluation, Repeat, Result};

/// A model to be registered.
#[derive(Debug, Clone, Serialize)]
pub struct ImportModel {
    /// Its name.
    pub name: Name,
    /// The network.
    pub architecture: Architecture,
    /// The classes by index; none for weights whose head is another.
    pub class_names: Vec<String>,
    /// How bytes become the model's input.
    pub preprocessing: Preprocessing,
    /// Where the weights are.
    pub artifact: Artifact,
    /// What was imported.
    pub source: String,
}

/// A weight file in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Artifact {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// SHA-256 of the bytes, in hexadecimal.
    pub sha256: String,
    /// The length.
    pub bytes: u64,
}

/// One version of a model.
#[derive(Debug, Clone, Deserialize)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: i32,
    /// Both: `severity@3`.
    pub reference: String,
    /// The aliases that point to it.
    pub aliases: Vec<String>,
    /// The network.
    pub architecture: Architecture,
    /// The classes by index.
    pub class_names: Vec<String>,
    /// How bytes become its input.
    pub preprocessing: Preprocessing,
    /// Where the weights are.
    pub artifact: Artifact,
    /// The training job that made it.
    pub job_id: Option<Uuid>,
    /// The dataset version that it was trained on.
    pub dataset: Option<String>,
    /// The digest of that dataset.
    pub dataset_digest: Option<String>,
    /// The whole specification of its training.
    pub hyperparameters: Option<Value>,
    /// The epoch whose weights these are.
    pub best_epoch: Option<i32>,
    /// The seed of its training.
    pub seed: Option<u64>,
    /// The digest of its training's specification.
    pub spec_sha256: Option<String>,
    /// The libtorch that trained it.
    pub libtorch_version: Option<String>,
    /// What it was trained on.
    pub device: Option<String>,
    /// The release that trained or imported it.
    pub code_version: String,
    /// Where it is from.
    pub source: String,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
}

/// The versions of models.
#[derive(Debug, Clone, Deserialize)]
pub struct ModelList {
    /// The newest first.
    pub models: Vec<Model>,
}

/// What is known of how well a version does.
#[derive(Debug, Clone, Deserialize)]
pub struct MeasurementList {
    /// The newest one on each split of each dataset.
    pub measurements: Vec<Measurement>,
}

/// One measurement of a version.
#[derive(Debug, Clone, Deserialize)]
pub struct Measurement {
    /// The job that measured.
    pub job_id: Uuid,
    /// Its kind.
    pub measured_by: String,
    /// The dataset version.
    pub dataset: String,
    /// The digest of that dataset.
    pub dataset_digest: String,
    /// The part of it.
    pub split: Split,
    /// When the job finished.
    pub finished_at: DateTime<Utc>,
    /// The figures.
    pub evaluation: Evaluation,
}

/// A version that has been deleted.
#[derive(Debug, Clone, Deserialize)]
pub struct DeletedModel {
    /// The version.
    pub reference: String,
    /// Where its weights are: the bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// A version with the same weights file.
    pub shared_with: Option<String>,
}

impl Api {
    /// Registers a model whose weights are in the store.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn import_model(&self, model: &ImportModel) -> Result<Model> {
        self.send(self.request(Method::POST, &["models"], Repeat::Unsafe).with(json!(model))).await
    }

    /// The versions of all models, or of one.
    ///
    /// # Errors
    /// [`super::ApiError`]
    pub async fn models(&self, name: Option<&Name>) -> Result<ModelList> {
        let mut request = self.request(Method::GET, &["models"], Repeat::Safe);
        if let Some(name) = name {
            request.url.query_pairs_mut().append_pair("name", name.as_str());
        }
        self.send(request).await
    }

    /// One version of a model.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is none.
    pub async fn model(&self, reference: &ModelRef) -> Result<Model> {
        self.send(self.request(Method::GET, &["models", &reference.to_string()], Repeat::Safe)).await
    }

    /// What is known of how well a version does.
    ///
    /// # Errors
    /// [`super::ApiError`], `NotFound` when there is no such version.
    pub async fn measurements(&self, reference: &str) -> Result<MeasurementList> {
        self.send(self.request(Method::GET, &["models", reference, "measurements"], Repeat::Safe)).await
    }

    /// Deletes a version that nothing uses. Its weights are for the caller to remove.
    ///
    /// # Errors
    /// [`super::ApiError`], `Refused` when something uses it.
    pub async fn delete_model(&self, reference: &str, signature: &Signature) -> Result<DeletedModel> {
        let mut request = self.request(Method::DELETE, &["models", reference], Repeat::Safe);
        for (name, value) in [("by", signature.by()), ("reason", signature.reason())] {
            if let Some(value) = value {
                request.url.query_pairs_mut().append_pair(name, value);
            }
        }
        self.send(request).await
    }
}
