//! Datasets: drafts that are filled and then frozen for ever.

use axum::{extract::State, http::StatusCode, response::IntoResponse};
use chrono::{DateTime, Utc};
use perito_domain::{
    Severity,
    limits::MAX_BATCH,
    names::{DatasetRef, Name},
    spec::Split,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    extract::{Json, Path},
    problem::Problem,
    refusals, schema,
    text::check_length,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create_dataset, list_datasets))
        .routes(routes!(add_items))
        .routes(routes!(freeze_dataset))
        .routes(routes!(show_dataset))
}

/// A dataset to begin.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateDataset {
    /// Its name: 1 to 64 lower-case letters, digits, '-', '_' or '.'.
    #[schema(value_type = String, examples("demo"))]
    name: Name,
    /// What it is made of, where its images do not tell: such as a download.
    #[schema(min_length = 1, max_length = 1024)]
    origin: Option<String>,
}

/// A version of a dataset that is being filled. No job can use it until it is frozen.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"id": 7, "name": "demo", "version": 2}))]
pub(crate) struct Draft {
    /// The number by which it is filled and frozen.
    id: i64,
    /// The dataset's name.
    name: String,
    /// Its version, once it is frozen.
    version: i32,
}

/// Labelled images for a draft.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"items": [{"image_id": 1, "split": "training", "label": "minor"}]}))]
pub(crate) struct AddItems {
    /// At most 10,000.
    #[schema(max_items = 10000)]
    items: Vec<Item>,
}

/// One labelled image.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    /// The image's number in the catalogue.
    image_id: i64,
    /// What it is for.
    #[schema(value_type = schema::Split)]
    split: Split,
    /// What it shows.
    #[schema(value_type = schema::Severity)]
    label: Severity,
}

/// What became of a batch of items.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"added": 1}))]
pub(crate) struct ItemsAdded {
    /// How many items the draft did not have before.
    added: u64,
}

/// A frozen version of a dataset. It never changes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "id": 7, "name": "demo", "version": 2, "reference": "demo@2",
    "digest": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
    "images": 750,
    "counts": [
        {"split": "training", "label": "minor", "images": 200},
        {"split": "validation", "label": "minor", "images": 50},
    ],
    "created_at": "2026-10-01T02:00:00Z", "frozen_at": "2026-10-01T02:00:03Z", "origin": null,
}))]
pub(crate) struct Dataset {
    /// Its number.
    id: i64,
    /// Its name.
    name: String,
    /// Its version.
    version: i32,
    /// Both, as they are written in specifications.
    reference: String,
    /// SHA-256 over the split, label, ETag and size of every image: what has the same digest is the same dataset.
    digest: String,
    /// How many images it has.
    images: u64,
    /// How many of each kind.
    counts: Vec<Count>,
    /// When it was begun.
    created_at: DateTime<Utc>,
    /// When it was frozen.
    frozen_at: DateTime<Utc>,
    /// What it was made of, where its images do not tell; null for class folders.
    origin: Option<String>,
}

/// How many images of a dataset have one split and label.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Count {
    /// What they are for.
    #[schema(value_type = schema::Split)]
    split: Split,
    /// What they show.
    #[schema(value_type = schema::Severity)]
    label: Severity,
    /// How many they are.
    images: u64,
}

/// What became of a draft.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Frozen {
    #[serde(flatten)]
    dataset: Dataset,
    /// Whether an older version has the same content: the draft is dropped, and this is that version.
    existing: bool,
}

/// The frozen versions of datasets.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DatasetList {
    /// The newest first, at most 500.
    datasets: Vec<Dataset>,
}

impl From<perito_database::Dataset> for Dataset {
    fn from(dataset: perito_database::Dataset) -> Self {
        let reference = dataset.reference();
        let count = |(split, label, images): &(Split, Severity, i64)| Count {
            split: *split,
            label: *label,
            images: images.unsigned_abs(),
        };
        let counts: Vec<Count> = dataset.counts.iter().map(count).collect();
        Self {
            id: dataset.id,
            name: dataset.name,
            version: dataset.version,
            reference,
            digest: dataset.digest,
            images: counts.iter().map(|count| count.images).sum(),
            counts,
            created_at: dataset.created_at,
            frozen_at: dataset.frozen_at,
            origin: dataset.origin,
        }
    }
}

impl Frozen {
    pub(super) fn new(dataset: perito_database::Dataset, existing: bool) -> Self {
        Self { dataset: dataset.into(), existing }
    }
}

/// Begin the next version of a dataset.
///
/// Fill the draft with items, then freeze it. A draft that is abandoned is removed after a day.
#[utoipa::path(
    post,
    path = "/v1/datasets",
    tag = "datasets",
    request_body = CreateDataset,
    responses((status = 201, description = "The draft", body = Draft), refusals::Body, refusals::Any),
)]
async fn create_dataset(
    State(app): State<App>,
    Json(request): Json<CreateDataset>,
) -> Result<impl IntoResponse, Problem> {
    if let Some(origin) = &request.origin {
        check_length("origin", origin, 1024)?;
    }
    let draft = app.database.create_draft(&request.name, request.origin.as_deref()).await?;
    let draft = Draft { id: draft.id, name: draft.name, version: draft.version };
    Ok((StatusCode::CREATED, axum::Json(draft)))
}

/// Add labelled images to a draft.
///
/// Idempotent: an image that the draft has already keeps its split and label.
#[utoipa::path(
    post,
    path = "/v1/datasets/{id}/items",
    tag = "datasets",
    params(("id" = i64, Path, description = "The draft's number")),
    request_body = AddItems,
    responses(
        (status = 200, description = "They are in the draft", body = ItemsAdded),
        refusals::NotFound,
        refusals::Conflict,
        refusals::Body,
        refusals::Any,
    ),
)]
async fn add_items(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<AddItems>,
) -> Result<axum::Json<ItemsAdded>, Problem> {
    if request.items.len() > MAX_BATCH {
        let detail = format!("has {} items: send at most {MAX_BATCH} at a time", request.items.len());
        return Err(Problem::invalid_field("items", detail));
    }
    let items: Vec<_> = request.items.iter().map(|item| (item.image_id, item.split, item.label)).collect();
    Ok(axum::Json(ItemsAdded { added: app.database.add_items(id, &items).await? }))
}

/// Freeze a draft: from here on jobs can use it, and it never changes.
#[utoipa::path(
    post,
    path = "/v1/datasets/{id}/freeze",
    tag = "datasets",
    params(("id" = i64, Path, description = "The draft's number")),
    responses(
        (status = 200, description = "The frozen version", body = Frozen),
        refusals::NotFound,
        refusals::Conflict,
        refusals::Any,
    ),
)]
async fn freeze_dataset(State(app): State<App>, Path(id): Path<i64>) -> Result<axum::Json<Frozen>, Problem> {
    let (dataset, existing) = app.database.freeze(id).await?;
    tracing::info!(dataset.reference = dataset.reference(), dataset.existing = existing, "dataset frozen");
    Ok(axum::Json(Frozen::new(dataset, existing)))
}

/// List the frozen versions of all datasets, the newest first.
#[utoipa::path(
    get,
    path = "/v1/datasets",
    tag = "datasets",
    responses((status = 200, description = "The versions", body = DatasetList), refusals::Any),
)]
async fn list_datasets(State(app): State<App>) -> Result<axum::Json<DatasetList>, Problem> {
    let datasets = app.database.list_datasets().await?;
    Ok(axum::Json(DatasetList { datasets: datasets.into_iter().map(Dataset::from).collect() }))
}

/// Show a frozen version of a dataset.
#[utoipa::path(
    get,
    path = "/v1/datasets/{reference}",
    tag = "datasets",
    params(("reference" = String, Path, description = "NAME for the newest version, or NAME@VERSION")),
    responses((status = 200, description = "The version", body = Dataset), refusals::NotFound, refusals::Any),
)]
async fn show_dataset(
    State(app): State<App>,
    Path(reference): Path<DatasetRef>,
) -> Result<axum::Json<Dataset>, Problem> {
    Ok(axum::Json(app.database.dataset(&reference).await?.into()))
}
