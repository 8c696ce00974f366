//! What adjusters decided: recorded, and made into datasets.

use axum::{extract::State, http::StatusCode, response::IntoResponse};
use chrono::{DateTime, Utc};
use perito_database::{BadRows, LabelledSelection, NewLabel};
use perito_domain::{Severity, limits::MAX_BATCH, names::Name};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{App, datasets::Frozen, extract::Json, problem::Problem, refusals, schema, text::check_length};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(record_labels)).routes(routes!(dataset_from_labels))
}

/// Decisions of adjusters.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "labels": [
        {"bucket": "claims", "key": "c-17/front.jpg", "severity": "severe", "source": "adjusters", "decided_at": "2026-10-01T09:12:44Z"},
        {"claim_id": "c-18", "severity": "minor", "source": "adjusters", "decided_at": "2026-10-01T10:00:00Z"},
    ],
    "bad_rows": "refuse",
}))]
pub(crate) struct RecordLabels {
    /// At most 10,000.
    #[schema(max_items = 10000)]
    labels: Vec<Label>,
    /// What becomes of the others when some cannot be right.
    #[serde(default)]
    bad_rows: OnBadRows,
}

/// What becomes of a batch with bad rows.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnBadRows {
    /// Nothing is recorded.
    #[default]
    Refuse,
    /// The others are recorded.
    Skip,
    /// Nothing is recorded in any case: the batch is only checked.
    Check,
}

/// A decision about a photograph (`image_id`, or `bucket` and `key`) or about a claim (`claim_id`).
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Label {
    /// The photograph's number in the catalogue.
    image_id: Option<i64>,
    /// The photograph's bucket.
    bucket: Option<String>,
    /// The photograph's key.
    key: Option<String>,
    /// The ETag of the version that was looked at; the present one when absent.
    etag: Option<String>,
    /// The claim. Beside a photograph it has to be the photograph's.
    claim_id: Option<String>,
    /// What was decided.
    #[schema(value_type = schema::Severity)]
    severity: Severity,
    /// Who or what system says so.
    #[schema(min_length = 1, max_length = 128)]
    source: String,
    /// When it was decided. The latest decision counts.
    decided_at: DateTime<Utc>,
}

/// What became of the labels.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"new": 1, "known": 0, "rejected": [{"index": 1, "detail": "no photograph of claim c-18 is registered"}]}))]
pub(crate) struct LabelsRecorded {
    /// Decisions that were not known before; 0 when nothing was recorded because of bad rows.
    new: u64,
    /// Decisions that were.
    known: u64,
    /// Those that cannot be right.
    rejected: Vec<Rejected>,
}

/// A label that cannot be right.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rejected {
    /// Its place in the request, counted from 0.
    index: usize,
    /// What is wrong with it.
    detail: String,
}

/// A dataset to make of adjusters' decisions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "field", "validation_share": 0.2, "seed": 42, "claim_labels": true}))]
pub(crate) struct FromLabels {
    /// The dataset's name; the decisions become its next version.
    #[schema(value_type = String, examples("field"))]
    name: Name,
    /// The share of the claims that is for validation, above 0 and below 1.
    #[schema(exclusive_minimum = 0, exclusive_maximum = 1)]
    validation_share: f64,
    /// Another seed splits otherwise. With the same one a claim stays in its split when others come.
    seed: u64,
    /// Only decisions of this source.
    #[schema(min_length = 1, max_length = 128)]
    source: Option<String>,
    /// Only decisions made at or after this time.
    since: Option<DateTime<Utc>>,
    /// Whether photographs without a decision of their own take their claim's.
    #[serde(default)]
    claim_labels: bool,
}

impl From<Label> for NewLabel {
    fn from(label: Label) -> Self {
        Self {
            image_id: label.image_id,
            bucket: label.bucket,
            key: label.key,
            etag: label.etag,
            claim_id: label.claim_id,
            severity: label.severity,
            source: label.source,
            decided_at: label.decided_at,
        }
    }
}

/// Record decisions of adjusters.
///
/// Idempotent by what they are about, source and time. The latest decision counts; the others are kept.
#[utoipa::path(
    post,
    path = "/v1/labels",
    tag = "labels",
    request_body = RecordLabels,
    responses(
        (status = 200, description = "What became of them", body = LabelsRecorded),
        refusals::Body,
        refusals::Any,
    ),
)]
async fn record_labels(
    State(app): State<App>,
    Json(request): Json<RecordLabels>,
) -> Result<axum::Json<LabelsRecorded>, Problem> {
    if request.labels.len() > MAX_BATCH {
        let detail = format!("has {} labels: send at most {MAX_BATCH} at a time", request.labels.len());
        return Err(Problem::invalid_field("labels", detail));
    }
    let bad_rows = match request.bad_rows {
        OnBadRows::Refuse => BadRows::Refuse,
        OnBadRows::Skip => BadRows::Skip,
        OnBadRows::Check => BadRows::Check,
    };
    let labels: Vec<NewLabel> = request.labels.into_iter().map(NewLabel::from).collect();
    let outcome = app.database.record_labels(&labels, bad_rows).await?;
    let rejected = outcome.problems.into_iter().map(|(index, detail)| Rejected { index, detail }).collect();
    Ok(axum::Json(LabelsRecorded { new: outcome.new, known: outcome.known, rejected }))
}

/// Freeze the decisions of adjusters as a dataset.
///
/// All photographs of a claim are in the same split. A photograph that has been replaced is left out.
#[utoipa::path(
    post,
    path = "/v1/labels/datasets",
    tag = "datasets",
    request_body = FromLabels,
    responses(
        (status = 201, description = "The frozen version", body = Frozen),
        refusals::NotFound,
        refusals::Body,
        refusals::Any,
    ),
)]
async fn dataset_from_labels(
    State(app): State<App>,
    Json(request): Json<FromLabels>,
) -> Result<impl IntoResponse, Problem> {
    if !(request.validation_share > 0.0 && request.validation_share < 1.0) {
        let detail = format!("is {}: expected a number above 0 and below 1", request.validation_share);
        return Err(Problem::invalid_field("validation_share", detail));
    }
    if let Some(source) = &request.source {
        check_length("source", source, 128)?;
    }
    let selection = LabelledSelection {
        name: request.name,
        validation_share: request.validation_share,
        seed: request.seed,
        source: request.source,
        since: request.since,
        claim_labels: request.claim_labels,
    };
    let (dataset, existing) = app.database.dataset_from_labels(&selection).await?;
    tracing::info!(dataset.reference = dataset.reference(), dataset.existing = existing, "dataset made of labels");
    Ok((StatusCode::CREATED, axum::Json(Frozen::new(dataset, existing))))
}
