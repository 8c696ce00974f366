//! The model registry.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use chrono::{DateTime, Utc};
use perito_database::NewModel;
use perito_domain::{
    Severity,
    audit::{Person, Reason, Signature},
    names::{ModelRef, ModelSelector, Name},
    preprocessing::{self, Preprocessing},
    spec::Architecture,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    App,
    extract::{Json, Path, Query},
    problem::Problem,
    refusals, schema,
    text::check_length,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(import_model, list_models)).routes(routes!(show_model, delete_model))
}

/// A model to import. Its weights are already in the object store.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "resnet18-imagenet",
    "architecture": "resnet18",
    "class_names": [],
    "preprocessing": {"version": 3, "image_size": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "artifact": {
        "bucket": "perito", "key": "models/imported/5c106cde386e87d4/model.safetensors",
        "sha256": "5c106cde386e87d4033832f2996f5493238eda96ccf559d1d62760c4de0613f8", "bytes": 46830571,
    },
    "source": "resnet18.safetensors",
}))]
pub(crate) struct ImportModel {
    /// The name; the model becomes its next version.
    #[schema(value_type = String, examples("resnet18-imagenet"))]
    name: Name,
    /// The network that the weights are of.
    #[schema(value_type = schema::Architecture)]
    architecture: Architecture,
    /// Probability that a feature before the head was dropped in training.
    #[serde(default)]
    #[schema(default = 0.0, minimum = 0, maximum = 0.95)]
    dropout: f64,
    /// `minor`, `moderate`, `severe`; or nothing for weights whose head is another: good to start training from, not
    /// to score with.
    #[serde(default)]
    class_names: Vec<String>,
    /// How bytes become the model's input; ImageNet's at 224 pixels when absent.
    #[serde(default = "default_preprocessing")]
    #[schema(value_type = schema::Preprocessing)]
    preprocessing: Preprocessing,
    /// Where the weights are.
    artifact: Artifact,
    /// What was imported, for the record.
    #[schema(min_length = 1, max_length = 1024)]
    source: String,
}

fn default_preprocessing() -> Preprocessing {
    Preprocessing::imagenet(224)
}

/// A safetensors file in the object store.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Artifact {
    /// The bucket.
    #[schema(min_length = 1, max_length = 63)]
    bucket: String,
    /// The key.
    #[schema(min_length = 1, max_length = 1024)]
    key: String,
    /// SHA-256 of the bytes, in lower-case hexadecimal.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    sha256: String,
    /// The length.
    #[schema(minimum = 1)]
    bytes: i64,
}

/// One version of a model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "name": "severity", "version": 3, "reference": "severity@3", "aliases": ["production"],
    "architecture": "resnet18", "dropout": 0.6, "class_names": ["minor", "moderate", "severe"],
    "preprocessing": {"version": 3, "image_size": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    "artifact": {
        "bucket": "perito", "key": "models/0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11/1/model.safetensors",
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "bytes": 44789012,
    },
    "job_id": "0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11", "dataset": "demo@1",
    "dataset_digest": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
    "hyperparameters": {"epochs": 50}, "best_epoch": 37, "seed": 42,
    "spec_sha256": "3f0a377ba0a4a460ecb616f6507ce0d8cfa3e704025d4fda3ed0c5ca05468728", "libtorch_version": "2.13.0", "device": "cpu",
    "code_version": "0.1.0", "source": "libtorch 2.13.0 on cpu",
    "created_at": "2026-10-01T02:00:00Z",
}))]
pub(crate) struct Model {
    /// The model's name.
    name: String,
    /// Its version.
    version: i32,
    /// Both, as they are written in specifications.
    reference: String,
    /// The aliases that point to this version now.
    aliases: Vec<String>,
    /// The network.
    #[schema(value_type = schema::Architecture)]
    architecture: Architecture,
    /// Probability that a feature before the head was dropped in training.
    dropout: f64,
    /// The classes by index; none for weights whose head is another.
    class_names: Vec<String>,
    /// How bytes become the model's input.
    #[schema(value_type = schema::Preprocessing)]
    preprocessing: Preprocessing,
    /// Where the weights are.
    artifact: Artifact,
    /// The training job that made it; null for an import, like all lineage.
    job_id: Option<Uuid>,
    /// The dataset version that it was trained on.
    dataset: Option<String>,
    /// The digest of that dataset.
    dataset_digest: Option<String>,
    /// The whole specification of the training job.
    hyperparameters: Option<Value>,
    /// The epoch, counted from 1, whose weights these are.
    best_epoch: Option<i32>,
    /// The seed of everything random in its training.
    seed: Option<u64>,
    /// SHA-256 of the training specification as JSON: runs with the same one were asked for the same.
    spec_sha256: Option<String>,
    /// The version of libtorch that trained it.
    libtorch_version: Option<String>,
    /// What it was trained on: `cpu`, `cuda:N`.
    device: Option<String>,
    /// The release that trained or imported it.
    code_version: String,
    /// Where it is from.
    source: String,
    /// When it was registered.
    created_at: DateTime<Utc>,
}

/// The versions of models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// The newest first, at most 500.
    models: Vec<Model>,
}

/// Which models to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListModels {
    /// Only versions of this model.
    #[param(value_type = Option<String>)]
    name: Option<Name>,
}

/// Who deletes a version, and why.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Deletion {
    /// Who.
    #[param(value_type = Option<String>, min_length = 1, max_length = 64)]
    by: Option<Person>,
    /// Why.
    #[param(value_type = Option<String>, min_length = 1, max_length = 500)]
    reason: Option<Reason>,
}

/// A version that has been deleted. Its number is never given again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "reference": "severity@2", "deleted_at": "2026-10-01T09:12:44Z", "by": "ana", "reason": "never used",
    "bucket": "perito", "key": "models/0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11/1/model.safetensors", "shared_with": null,
}))]
pub(crate) struct DeletedModel {
    /// The version.
    reference: String,
    /// When it was deleted.
    deleted_at: DateTime<Utc>,
    /// Who deleted it, as they said.
    by: Option<String>,
    /// Why, as they said.
    reason: Option<String>,
    /// Where its weights are, for the caller to remove: the bucket.
    bucket: String,
    /// The key.
    key: String,
    /// A version with the same weights file, which therefore has to stay; null when the file can go.
    shared_with: Option<String>,
}

impl ImportModel {
    fn check(&self) -> Result<(), Problem> {
        let classes: Vec<&str> = self.class_names.iter().map(String::as_str).collect();
        if !classes.is_empty() && classes != Severity::ALL.map(Severity::as_str) {
            return Err(Problem::invalid_field(
                "class_names",
                "expected minor, moderate, severe in this order, or none",
            ));
        }
        if !(0.0..=0.95).contains(&self.dropout) {
            return Err(Problem::invalid_field("dropout", format!("is {}: expected 0 to 0.95", self.dropout)));
        }
        preprocessing::check_version(self.preprocessing.version)
            .map_err(|error| Problem::invalid_field("preprocessing.version", error.to_string()))?;
        if !(32..=1024).contains(&self.preprocessing.image_size) {
            let detail = format!("is {}: expected 32 to 1024", self.preprocessing.image_size);
            return Err(Problem::invalid_field("preprocessing.image_size", detail));
        }
        if !self.preprocessing.std.iter().all(|std| *std > 0.0) {
            return Err(Problem::invalid_field("preprocessing.std", "expected numbers above 0"));
        }
        check_length("artifact.bucket", &self.artifact.bucket, 63)?;
        check_length("artifact.key", &self.artifact.key, 1024)?;
        check_length("source", &self.source, 1024)?;
        let sha256 = &self.artifact.sha256;
        if sha256.len() != 64 || !sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Problem::invalid_field("artifact.sha256", "expected 64 lower-case hexadecimal digits"));
        }
        if self.artifact.bytes < 1 {
            return Err(Problem::invalid_field("artifact.bytes", format!("is {}", self.artifact.bytes)));
        }
        Ok(())
    }
}

impl From<ImportModel> for NewModel {
    fn from(import: ImportModel) -> Self {
        Self {
            name: import.name,
            architecture: import.architecture,
            dropout: import.dropout,
            class_names: import.class_names,
            preprocessing: import.preprocessing,
            artifact_bucket: import.artifact.bucket,
            artifact_key: import.artifact.key,
            artifact_sha256: import.artifact.sha256,
            artifact_bytes: import.artifact.bytes,
            hyperparameters: None,
            provenance: None,
            best_epoch: None,
            code_version: perito_runtime::version().to_owned(),
            source: import.source,
        }
    }
}

impl From<perito_database::Model> for Model {
    fn from(model: perito_database::Model) -> Self {
        Self {
            reference: model.reference(),
            name: model.name,
            version: model.version,
            aliases: model.aliases,
            architecture: model.architecture,
            dropout: model.dropout,
            class_names: model.class_names,
            preprocessing: model.preprocessing,
            artifact: Artifact {
                bucket: model.artifact_bucket,
                key: model.artifact_key,
                sha256: model.artifact_sha256,
                bytes: model.artifact_bytes,
            },
            job_id: model.job_id,
            dataset: model.dataset,
            dataset_digest: model.dataset_digest,
            hyperparameters: model.hyperparameters,
            best_epoch: model.best_epoch,
            seed: model.seed,
            spec_sha256: model.spec_sha256,
            libtorch_version: model.libtorch_version,
            device: model.device,
            code_version: model.code_version,
            source: model.source,
            created_at: model.created_at,
        }
    }
}

/// Import a model whose weights are already in the object store.
///
/// It is registered as the next version of its name, without lineage.
#[utoipa::path(
    post,
    path = "/v1/models",
    tag = "models",
    request_body = ImportModel,
    responses(
        (status = 201, description = "The model is registered", body = Model,
         headers(("location" = String, description = "The model's path"))),
        refusals::Body,
        refusals::Any,
    ),
)]
async fn import_model(State(app): State<App>, Json(request): Json<ImportModel>) -> Result<impl IntoResponse, Problem> {
    request.check()?;
    let model = app.database.register_model(&request.into()).await?;
    tracing::info!(model.reference = model.reference(), "model imported");
    let location = format!("/v1/models/{}", model.reference());
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(Model::from(model))))
}

/// List the versions of models.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "models",
    params(ListModels),
    responses((status = 200, description = "The versions", body = ModelList), refusals::Any),
)]
async fn list_models(
    State(app): State<App>,
    Query(query): Query<ListModels>,
) -> Result<axum::Json<ModelList>, Problem> {
    let models = app.database.list_models(query.name.as_ref()).await?;
    Ok(axum::Json(ModelList { models: models.into_iter().map(Model::from).collect() }))
}

/// Show one version of a model.
#[utoipa::path(
    get,
    path = "/v1/models/{reference}",
    tag = "models",
    params(("reference" = String, Path, description = "NAME for the newest version, NAME@VERSION or NAME@ALIAS")),
    responses((status = 200, description = "The version", body = Model), refusals::NotFound, refusals::Any),
)]
async fn show_model(State(app): State<App>, Path(reference): Path<ModelRef>) -> Result<axum::Json<Model>, Problem> {
    Ok(axum::Json(app.database.model(&reference).await?.into()))
}

/// Delete a version that nothing uses.
///
/// An alias, an open job, results, comparisons or a model that was trained from it keep it; the refusal says which. Its own training's measurement
/// goes with it. The weights are the caller's to remove, last; asking again gives the same answer.
#[utoipa::path(
    delete,
    path = "/v1/models/{reference}",
    tag = "models",
    params(("reference" = String, Path, description = "NAME@VERSION"), Deletion),
    responses(
        (status = 200, description = "It is deleted", body = DeletedModel),
        refusals::NotFound,
        refusals::Conflict,
        refusals::Any,
    ),
)]
async fn delete_model(
    State(app): State<App>,
    Path(reference): Path<ModelRef>,
    Query(deletion): Query<Deletion>,
) -> Result<axum::Json<DeletedModel>, Problem> {
    let ModelSelector::Version(version) = reference.selector else {
        let detail = format!("{reference} names no version: write {}@VERSION", reference.name);
        return Err(Problem::invalid_field("reference", detail));
    };
    let signature = Signature { by: deletion.by, reason: deletion.reason };
    let deleted = app.database.delete_model(&reference.name, version, &signature).await?;
    tracing::info!(model.reference = %reference, by = signature.by(), "model deleted");
    Ok(axum::Json(DeletedModel {
        reference: reference.to_string(),
        deleted_at: deleted.deleted_at,
        by: deleted.deleted_by,
        reason: deleted.reason,
        bucket: deleted.artifact_bucket,
        key: deleted.artifact_key,
        shared_with: deleted.shared_with,
    }))
}
