//! Images: the catalogue that jobs select from.

use axum::extract::State;
use chrono::{DateTime, Utc};
use perito_database::NewImage;
use perito_domain::{Severity, limits::MAX_BATCH};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{App, extract::Json, problem::Problem, refusals, schema};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(register_images)).routes(routes!(show_backlog))
}

/// Photographs to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"images": [{
    "bucket": "perito", "key": "backlog/claim-0007/1.jpg", "etag": "9b2cf535f27731c974343645a3985328",
    "size_bytes": 182044, "claim_id": "claim-0007",
}]}))]
pub(crate) struct RegisterImages {
    /// At most 10,000.
    #[schema(max_items = 10000)]
    images: Vec<Image>,
}

/// One version of one photograph.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    /// The bucket that holds it, 1 to 63 characters.
    #[schema(min_length = 1, max_length = 63)]
    bucket: String,
    /// Its key, 1 to 1,024 bytes without control characters.
    #[schema(min_length = 1, max_length = 1024)]
    key: String,
    /// The object's ETag, without quotes, 1 to 128 characters.
    #[schema(min_length = 1, max_length = 128)]
    etag: String,
    /// The object's length.
    #[schema(minimum = 0)]
    size_bytes: i64,
    /// The claim it belongs to, if known: 1 to 128 bytes without control characters.
    #[schema(min_length = 1, max_length = 128)]
    claim_id: Option<String>,
    /// What a person says it shows, if anybody did.
    #[schema(value_type = Option<schema::Severity>)]
    label: Option<Severity>,
}

/// What became of a batch of photographs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"new": 1, "known": 0, "superseded": 0, "ids": [4711]}))]
pub(crate) struct Registered {
    /// How many were not known before.
    new: u64,
    /// How many were, by bucket, key and ETag.
    known: u64,
    /// How many older versions of objects were superseded by new ones.
    superseded: u64,
    /// The catalogue's numbers of the images, in the order of the request.
    ids: Vec<i64>,
}

impl From<Image> for NewImage {
    fn from(image: Image) -> Self {
        Self {
            bucket: image.bucket,
            key: image.key,
            etag: image.etag,
            size_bytes: image.size_bytes,
            claim_id: image.claim_id,
            label: image.label,
        }
    }
}

impl From<perito_database::Registered> for Registered {
    fn from(registered: perito_database::Registered) -> Self {
        let perito_database::Registered { new, known, superseded, ids } = registered;
        Self { new, known, superseded, ids }
    }
}

/// What waits.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"buckets": [{
    "bucket": "perito", "waiting": 7311, "oldest_registered_at": "2026-03-01T06:02:11.301Z", "unscorable": 3,
}]}))]
pub(crate) struct Backlog {
    /// Only those where something waits or could not be scored.
    buckets: Vec<BucketBacklog>,
}

/// What waits in one bucket: registered, current photographs without a label that no finished scoring run has scored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BucketBacklog {
    /// The bucket.
    bucket: String,
    /// How many photographs wait.
    waiting: i64,
    /// When the one that waits longest was registered; null when none waits.
    oldest_registered_at: Option<DateTime<Utc>>,
    /// How many more could not be scored by a run that has finished.
    unscorable: i64,
}

impl From<perito_database::intake::BucketBacklog> for BucketBacklog {
    fn from(backlog: perito_database::intake::BucketBacklog) -> Self {
        let perito_database::intake::BucketBacklog { bucket, waiting, oldest_registered_at, unscorable } = backlog;
        Self { bucket, waiting, oldest_registered_at, unscorable }
    }
}

/// Register photographs that are in the object store.
///
/// Idempotent: an image is one bucket, key and ETag. Another ETag under the same key is a new version of the object and
/// supersedes the present one.
#[utoipa::path(
    post,
    path = "/v1/images",
    tag = "images",
    request_body = RegisterImages,
    responses(
        (status = 200, description = "All of them are registered", body = Registered),
        refusals::Body,
        refusals::Any,
    ),
)]
async fn register_images(
    State(app): State<App>,
    Json(request): Json<RegisterImages>,
) -> Result<axum::Json<Registered>, Problem> {
    let images = request.images;
    if images.len() > MAX_BATCH {
        let detail = format!("has {} images: send at most {MAX_BATCH} at a time", images.len());
        return Err(Problem::invalid_field("images", detail));
    }
    let images: Vec<NewImage> = images.into_iter().map(NewImage::from).collect();
    for (index, image) in images.iter().enumerate() {
        // What the database would refuse too, by the field's name.
        image
            .check()
            .map_err(|error| Problem::invalid_field(format!("images[{index}].{}", error.field), error.problem))?;
    }
    let registered = app.database.register_images(&images).await?;
    Ok(axum::Json(registered.into()))
}

/// Show what waits to be scored, by bucket.
#[utoipa::path(
    get,
    path = "/v1/images/backlog",
    tag = "images",
    responses((status = 200, description = "What waits now", body = Backlog), refusals::Any),
)]
async fn show_backlog(State(app): State<App>) -> Result<axum::Json<Backlog>, Problem> {
    let backlog = app.database.backlog().await?;
    Ok(axum::Json(Backlog { buckets: backlog.into_iter().map(BucketBacklog::from).collect() }))
}
