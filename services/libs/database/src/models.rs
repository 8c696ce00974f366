//! The model registry: versions, which never change. [`crate::aliases`] has what moves.

use chrono::{DateTime, Utc};
use perito_domain::{
    names::{ModelRef, ModelSelector, Name},
    preprocessing::Preprocessing,
    spec::Architecture,
};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Database, Provenance,
    datasets::stored,
    error::{During, Error, ErrorKind, Result},
};

/// A registered version.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: i32,
    /// The aliases that point to it.
    pub aliases: Vec<String>,
    /// The network.
    pub architecture: Architecture,
    /// Dropout before the head, in training.
    pub dropout: f64,
    /// The classes by index; empty when its head is not Perito's, so that it cannot score.
    pub class_names: Vec<String>,
    /// From bytes to its input.
    pub preprocessing: Preprocessing,
    /// Where its weights are: the bucket.
    pub artifact_bucket: String,
    /// Where its weights are: the key.
    pub artifact_key: String,
    /// SHA-256 of the file, in hexadecimal.
    pub artifact_sha256: String,
    /// Size of the file.
    pub artifact_bytes: i64,
    /// The training job that made it.
    pub job_id: Option<Uuid>,
    /// The dataset it was trained on, `name@version`.
    pub dataset: Option<String>,
    /// That dataset's content digest.
    pub dataset_digest: Option<String>,
    /// The whole training specification.
    pub hyperparameters: Option<Value>,
    /// The epoch whose weights these are.
    pub best_epoch: Option<i32>,
    /// The seed of its training; nothing for an import, like the next three.
    pub seed: Option<u64>,
    /// SHA-256 of the training specification as JSON, in hexadecimal.
    pub spec_sha256: Option<String>,
    /// The libtorch that trained it.
    pub libtorch_version: Option<String>,
    /// What it was trained on.
    pub device: Option<String>,
    /// The release that made or imported it.
    pub code_version: String,
    /// libtorch and device for a trained model, what was imported for the others.
    pub source: String,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
}

impl Model {
    /// `name@version`
    pub fn reference(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// A version to register. Job and dataset are added by the training commit.
#[derive(Debug, Clone, PartialEq)]
pub struct NewModel {
    /// The name; the version is the next one.
    pub name: Name,
    /// The network.
    pub architecture: Architecture,
    /// Dropout before the head, in training.
    pub dropout: f64,
    /// The classes by index.
    pub class_names: Vec<String>,
    /// From bytes to its input.
    pub preprocessing: Preprocessing,
    /// Where its weights are: the bucket.
    pub artifact_bucket: String,
    /// Where its weights are: the key.
    pub artifact_key: String,
    /// SHA-256 of the file, in hexadecimal.
    pub artifact_sha256: String,
    /// Size of the file.
    pub artifact_bytes: i64,
    /// The whole training specification.
    pub hyperparameters: Option<Value>,
    /// The epoch whose weights these are.
    pub best_epoch: Option<i32>,
    /// The release that makes or imports it.
    pub code_version: String,
    /// libtorch and device, or what is imported.
    pub source: String,
    /// How it was trained; nothing for an import.
    pub provenance: Option<Provenance>,
}

/// Where a trained model comes from.
pub(crate) struct Lineage {
    pub(crate) job_id: Uuid,
    pub(crate) dataset_id: i64,
}

/// The columns of a model, one macro so that every query reads the same ones.
macro_rules! select_models {
    ($condition:literal, $($argument:expr),*) => {
        sqlx::query_as!(
            ModelRow,
            r#"select m.id, m.name, m.version, m.architecture, m.dropout, m.class_names, m.preprocessing, m.artifact_bucket,
                      m.artifact_key, m.artifact_sha256, m.artifact_bytes, m.job_id,
                      d.name || '@' || d.version as dataset, m.dataset_digest, m.hyperparameters, m.best_epoch,
                      m.seed::text, m.spec_sha256, m.libtorch_version, m.device, m.code_version, m.source, m.created_at,
                      array(select a.alias from model_aliases a where a.model_id = m.id order by a.alias) as "aliases!"
               from models m left join datasets d on d.id = m.dataset_id "# + $condition,
            $($argument),*
        )
    };
}

struct ModelRow {
    id: i64,
    name: String,
    version: i32,
    architecture: String,
    dropout: f64,
    class_names: Vec<String>,
    preprocessing: Value,
    artifact_bucket: String,
    artifact_key: String,
    artifact_sha256: String,
    artifact_bytes: i64,
    job_id: Option<Uuid>,
    dataset: Option<String>,
    dataset_digest: Option<String>,
    hyperparameters: Option<Value>,
    best_epoch: Option<i32>,
    /// A number of up to 20 digits.
    seed: Option<String>,
    spec_sha256: Option<String>,
    libtorch_version: Option<String>,
    device: Option<String>,
    code_version: String,
    source: String,
    created_at: DateTime<Utc>,
    aliases: Vec<String>,
}

impl TryFrom<ModelRow> for Model {
    type Error = Error;

    fn try_from(row: ModelRow) -> Result<Self> {
        let preprocessing = serde_json::from_value(row.preprocessing).map_err(|error| {
            Error::new(ErrorKind::Internal, format!("read the preprocessing of {}@{}: {error}", row.name, row.version))
        })?;
        Ok(Self {
            id: row.id,
            name: row.name,
            version: row.version,
            aliases: row.aliases,
            architecture: stored(&row.architecture)?,
            dropout: row.dropout,
            class_names: row.class_names,
            preprocessing,
            artifact_bucket: row.artifact_bucket,
            artifact_key: row.artifact_key,
            artifact_sha256: row.artifact_sha256,
            artifact_bytes: row.artifact_bytes,
            job_id: row.job_id,
            dataset: row.dataset,
            dataset_digest: row.dataset_digest,
            hyperparameters: row.hyperparameters,
            best_epoch: row.best_epoch,
            seed: row.seed.as_deref().map(stored).transpose()?,
            spec_sha256: row.spec_sha256,
            libtorch_version: row.libtorch_version,
            device: row.device,
            code_version: row.code_version,
            source: row.source,
            created_at: row.created_at,
        })
    }
}

impl Database {
    /// Registers the next version of a model that was made elsewhere.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn register_model(&self, model: &NewModel) -> Result<Model> {
        let mut tx = self.begin("begin registering a model").await?;
        let id = insert(&mut tx, model, None).await?;
        let model = by_id(&mut tx, id).await?;
        tx.commit().await.during("register the model")?;
        Ok(model)
    }

    /// A model by reference.
    ///
    /// # Errors
    /// `NotFound` says what there is instead.
    pub async fn model(&self, reference: &ModelRef) -> Result<Model> {
        let mut connection = self.control.acquire().await.during("find the model")?;
        find(&mut connection, reference).await
    }

    /// Registered versions, newest first, of one name or of all.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list_models(&self, name: Option<&Name>) -> Result<Vec<Model>> {
        let rows = select_models!(
            "where $1::text is null or m.name = $1 order by m.created_at desc, m.id desc limit 500",
            name.map(Name::as_str)
        )
        .fetch_all(&self.control)
        .await
        .during("list models")?;
        rows.into_iter().map(Model::try_from).collect()
    }
}

pub(crate) fn cannot_score(model: &Model) -> Error {
    Error::new(
        ErrorKind::Invalid,
        format!(
            "model {} cannot score: it has no head for minor, moderate and severe, or lacks other weights; train from it with \
             `--weights {}` first",
            model.reference(),
            model.reference()
        ),
    )
}

pub(crate) async fn by_id(connection: &mut PgConnection, id: i64) -> Result<Model> {
    select_models!("where m.id = $1", id).fetch_one(connection).await.during("read the model")?.try_into()
}

pub(crate) async fn find(connection: &mut PgConnection, reference: &ModelRef) -> Result<Model> {
    let (version, alias) = match &reference.selector {
        ModelSelector::Latest => (None, None),
        ModelSelector::Version(version) => (Some(*version), None),
        ModelSelector::Alias(alias) => (None, Some(alias.as_str())),
    };
    let row = select_models!(
        "where m.name = $1 and ($2::int is null or m.version = $2)
           and ($3::text is null or m.id = (select a.model_id from model_aliases a where a.name = $1 and a.alias = $3))
         order by m.version desc limit 1",
        reference.name.as_str(),
        version,
        alias
    )
    .fetch_optional(&mut *connection)
    .await
    .during("find the model")?;
    if let Some(row) = row {
        return row.try_into();
    }
    let there_is = sqlx::query_scalar!(
        r#"select coalesce(
               (select 'its newest version is ' || max(version) || coalesce(', its aliases are ' ||
                       (select string_agg(alias, ', ' order by alias) from model_aliases where name = $1), '')
                from models where name = $1 having count(*) > 0),
               'no model has that name: see `perito model list`') as "text!""#,
        reference.name.as_str()
    )
    .fetch_one(connection)
    .await
    .during("find the model")?;
    Err(Error::new(ErrorKind::NotFound, format!("there is no model {reference}: {there_is}")))
}

/// Inserts the next version of a name.
pub(crate) async fn insert(connection: &mut PgConnection, model: &NewModel, lineage: Option<&Lineage>) -> Result<i64> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('model ' || $1))", model.name.as_str())
        .fetch_one(&mut *connection)
        .await
        .during("lock the model's name")?;
    let preprocessing = serde_json::to_value(&model.preprocessing)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("write the preprocessing as JSON: {error}")))?;
    let made = model.provenance.as_ref();
    sqlx::query_scalar!(
        "insert into models (name, version, architecture, dropout, class_names, preprocessing, artifact_bucket, artifact_key,
                             artifact_sha256, artifact_bytes, job_id, dataset_id, dataset_digest, hyperparameters, best_epoch,
                             code_version, source, seed, spec_sha256, libtorch_version, device)
         select $1, 1 + greatest((select max(version) from models where name = $1),
                               -- A number that was given once is never given again.
                               (select max(version) from deleted_models where name = $1), 0), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
                (select digest from datasets where id = $11), $12, $13, $14, $15,
                $16::text::numeric, $17, $18, $19
         returning id",
        model.name.as_str(),
        model.architecture.as_str(),
        model.dropout,
        &model.class_names,
        preprocessing,
        model.artifact_bucket,
        model.artifact_key,
        model.artifact_sha256,
        model.artifact_bytes,
        lineage.map(|lineage| lineage.job_id),
        lineage.map(|lineage| lineage.dataset_id),
        model.hyperparameters,
        model.best_epoch,
        model.code_version,
        model.source,
        made.map(|made| made.seed.to_string()),
        made.map(|made| made.spec_sha256.as_str()),
        made.map(|made| made.libtorch_version.as_str()),
        made.map(|made| made.device.as_str())
    )
    .fetch_one(connection)
    .await
    .during("register the model")
}
