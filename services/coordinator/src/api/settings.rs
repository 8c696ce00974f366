//! Settings: what an operator may change while everything runs.

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{App, extract::Json, problem::Problem, refusals};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show_settings, change_settings))
}

/// The settings.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"claim_confidence": 0.5, "updated_at": "2026-03-01T06:02:11.301Z"}))]
pub(crate) struct Settings {
    /// The confidence from which a single photograph decides about its claim, 0 to 1.
    claim_confidence: f64,
    /// When a setting was last changed.
    updated_at: DateTime<Utc>,
}

/// Settings to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"claim_confidence": 0.6}))]
pub(crate) struct ChangeSettings {
    /// The confidence from which a single photograph decides about its claim: `analytics.claim_severity` grades a claim as the
    /// worst photograph at or above it, and where there is none as the class with the highest mean probability.
    #[schema(minimum = 0, maximum = 1)]
    claim_confidence: f64,
}

impl From<perito_database::Settings> for Settings {
    fn from(settings: perito_database::Settings) -> Self {
        let perito_database::Settings { claim_confidence, updated_at } = settings;
        Self { claim_confidence, updated_at }
    }
}

/// Show the settings.
#[utoipa::path(
    get,
    path = "/v1/settings",
    tag = "settings",
    responses((status = 200, description = "The settings", body = Settings), refusals::Any),
)]
async fn show_settings(State(app): State<App>) -> Result<axum::Json<Settings>, Problem> {
    Ok(axum::Json(app.database.settings().await?.into()))
}

/// Change the settings.
///
/// What analysts see changes with them at once.
#[utoipa::path(
    put,
    path = "/v1/settings",
    tag = "settings",
    request_body = ChangeSettings,
    responses((status = 200, description = "The settings as they are now", body = Settings), refusals::Body, refusals::Any),
)]
async fn change_settings(
    State(app): State<App>,
    Json(request): Json<ChangeSettings>,
) -> Result<axum::Json<Settings>, Problem> {
    let confidence = request.claim_confidence;
    if !(0.0..=1.0).contains(&confidence) {
        return Err(Problem::invalid_field("claim_confidence", format!("is {confidence}: expected 0 to 1")));
    }
    Ok(axum::Json(app.database.set_claim_confidence(confidence).await?.into()))
}
