//! How well versions do, and which of two does better.

use axum::extract::State;
use chrono::{DateTime, Utc};
use perito_domain::{
    audit::Person,
    metrics::mcnemar::McNemarTest,
    names::{DatasetRef, ModelRef, Name},
    spec::Split,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    App,
    evaluation::Evaluation,
    extract::{Json, Path, Query},
    problem::Problem,
    refusals, schema,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(compare_models, list_comparisons)).routes(routes!(list_measurements))
}

/// Two versions to compare.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"champion": "severity@production", "challenger": "severity@4", "dataset": "demo@2", "by": "ana"}))]
pub(crate) struct Compare {
    /// The one version: NAME, NAME@VERSION or NAME@ALIAS.
    #[schema(value_type = String)]
    champion: ModelRef,
    /// The other one.
    #[schema(value_type = String)]
    challenger: ModelRef,
    /// The dataset: NAME or NAME@VERSION. Both need a measurement there.
    #[schema(value_type = String)]
    dataset: DatasetRef,
    /// The split; validation when absent.
    #[schema(value_type = Option<schema::Split>)]
    split: Option<Split>,
    /// Who asks.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64)]
    by: Option<Person>,
}

/// Two versions on the same images.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "champion": {"model": "severity@3", "job_id": "0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11", "accuracy": 0.665, "macro_f1": 0.65},
    "challenger": {"model": "severity@4", "job_id": "0199a61b-02aa-7c06-8a55-6d9f0c1b7e30", "accuracy": 0.698, "macro_f1": 0.69},
    "dataset": "demo@2", "split": "validation", "images": 248, "left_out": 0,
    "both_right": 149, "only_champion_right": 16, "only_challenger_right": 24, "both_wrong": 59,
    "mcnemar": {"test": "chi-square", "statistic": 1.225, "p_value": 0.268},
    "by": "ana", "compared_at": "2026-10-01T09:10:02Z",
}))]
pub(crate) struct Comparison {
    /// The one version.
    champion: Contender,
    /// The other one.
    challenger: Contender,
    /// The dataset version.
    dataset: String,
    /// The part of it.
    #[schema(value_type = schema::Split)]
    split: Split,
    /// How many images both graded.
    images: u64,
    /// How many images only one of them graded; they take no part.
    left_out: i64,
    /// Images on which both were right.
    both_right: u64,
    /// Images on which only the champion was right.
    only_champion_right: u64,
    /// Images on which only the challenger was right.
    only_challenger_right: u64,
    /// Images on which both were wrong.
    both_wrong: u64,
    /// Whether they differ by more than chance.
    mcnemar: McNemar,
    /// Who asked first, as they said.
    by: Option<String>,
    /// When it was first asked for.
    compared_at: DateTime<Utc>,
}

/// One of the two versions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Contender {
    /// The version.
    model: String,
    /// The job that measured it.
    job_id: Uuid,
    /// Its accuracy on the whole split.
    accuracy: f64,
    /// Its macro F1 on the whole split.
    macro_f1: f64,
}

/// McNemar's test.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct McNemar {
    /// Exact below 25 images on which one was right and the other wrong, else chi-square with continuity correction.
    #[schema(value_type = schema::McNemarTest)]
    test: McNemarTest,
    /// The smaller count of such images for the exact test, chi-square with one degree of freedom for the other.
    statistic: f64,
    /// Probability of so large a difference if the two were equally good, two-sided.
    p_value: f64,
}

/// Stored comparisons.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ComparisonList {
    /// The newest first, at most 500.
    comparisons: Vec<Comparison>,
}

/// Which comparisons to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListComparisons {
    /// Only those with a version of this model.
    #[param(value_type = Option<String>)]
    name: Option<Name>,
}

/// What is known of how well a version does.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MeasurementList {
    /// The newest one on each split of each dataset; the newest first, at most 100.
    measurements: Vec<Measurement>,
}

/// One measurement.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Measurement {
    /// The job that measured.
    job_id: Uuid,
    /// Its kind: `train` (the best epoch on the validation split) or `evaluate`.
    measured_by: String,
    /// The dataset version.
    dataset: String,
    /// The digest of that dataset.
    dataset_digest: String,
    /// The part of it.
    #[schema(value_type = schema::Split)]
    split: Split,
    /// When the job finished.
    finished_at: DateTime<Utc>,
    /// The figures.
    evaluation: Evaluation,
}

impl From<perito_database::Contender> for Contender {
    fn from(contender: perito_database::Contender) -> Self {
        let perito_database::Contender { model, job_id, accuracy, macro_f1 } = contender;
        Self { model, job_id, accuracy, macro_f1 }
    }
}

impl From<perito_database::Comparison> for Comparison {
    fn from(comparison: perito_database::Comparison) -> Self {
        let agreement = comparison.agreement;
        let perito_domain::metrics::mcnemar::McNemar { test, statistic, p_value } = comparison.mcnemar;
        Self {
            champion: comparison.champion.into(),
            challenger: comparison.challenger.into(),
            dataset: comparison.dataset,
            split: comparison.split,
            images: agreement.images(),
            left_out: comparison.left_out,
            both_right: agreement.both_right,
            only_champion_right: agreement.only_champion_right,
            only_challenger_right: agreement.only_challenger_right,
            both_wrong: agreement.both_wrong,
            mcnemar: McNemar { test, statistic, p_value },
            by: comparison.compared_by,
            compared_at: comparison.compared_at,
        }
    }
}

/// Compare two versions by their newest measurements on the same split.
///
/// The comparison is stored; the same two measurements are compared once.
#[utoipa::path(
    post,
    path = "/v1/comparisons",
    tag = "models",
    request_body = Compare,
    responses(
        (status = 200, description = "The comparison", body = Comparison),
        refusals::NotFound,
        refusals::Conflict,
        refusals::Body,
        refusals::Any,
    ),
)]
async fn compare_models(
    State(app): State<App>,
    Json(request): Json<Compare>,
) -> Result<axum::Json<Comparison>, Problem> {
    let Compare { champion, challenger, dataset, split, by } = request;
    let split = split.unwrap_or(Split::Validation);
    let comparison = app.database.compare_models(&champion, &challenger, &dataset, split, by.as_ref()).await?;
    Ok(axum::Json(comparison.into()))
}

/// List stored comparisons.
#[utoipa::path(
    get,
    path = "/v1/comparisons",
    tag = "models",
    params(ListComparisons),
    responses((status = 200, description = "The comparisons", body = ComparisonList), refusals::Any),
)]
async fn list_comparisons(
    State(app): State<App>,
    Query(query): Query<ListComparisons>,
) -> Result<axum::Json<ComparisonList>, Problem> {
    let comparisons = app.database.list_comparisons(query.name.as_ref()).await?;
    Ok(axum::Json(ComparisonList { comparisons: comparisons.into_iter().map(Comparison::from).collect() }))
}

/// List what a version's training and evaluations have measured.
#[utoipa::path(
    get,
    path = "/v1/models/{reference}/measurements",
    tag = "models",
    params(("reference" = String, Path, description = "NAME for the newest version, NAME@VERSION or NAME@ALIAS")),
    responses((status = 200, description = "The measurements", body = MeasurementList), refusals::NotFound, refusals::Any),
)]
async fn list_measurements(
    State(app): State<App>,
    Path(reference): Path<ModelRef>,
) -> Result<axum::Json<MeasurementList>, Problem> {
    let mut measurements = Vec::new();
    for measured in app.database.measurements(&reference).await? {
        let evaluation = app.database.evaluation(measured.job_id).await?.into();
        measurements.push(Measurement {
            job_id: measured.job_id,
            measured_by: measured.measured_by,
            dataset: measured.dataset,
            dataset_digest: measured.dataset_digest,
            split: measured.split,
            finished_at: measured.finished_at,
            evaluation,
        });
    }
    Ok(axum::Json(MeasurementList { measurements }))
}
