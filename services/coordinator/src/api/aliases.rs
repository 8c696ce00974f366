//! Aliases of models: promoting, rolling back, and who did it when and why.

use axum::extract::State;
use chrono::{DateTime, Utc};
use perito_database::{Gate, Promotion};
use perito_domain::{
    aliases::AliasAction,
    audit::{Person, Reason, Signature},
    names::{DatasetRef, ModelRef, ModelSelector, Name},
    spec::Split,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    extract::{Json, Path, Query},
    models::Model,
    problem::Problem,
    refusals, schema,
};

/// How far below the present holder's the macro F1 may be, unless told.
const DEFAULT_MARGIN: f64 = 0.01;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(promote_model)).routes(routes!(roll_back)).routes(routes!(show_history))
}

/// Where an alias is to point, and what has to hold before it leaves its present holder.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"version": 4, "dataset": "demo@2", "margin": 0.01, "by": "ana", "reason": "trained on the spring claims"}))]
pub(crate) struct Promote {
    /// The version.
    #[schema(minimum = 1)]
    version: i32,
    /// Where it is compared with the present holder: NAME or NAME@VERSION; the dataset that it was trained on when absent. Both need a
    /// measurement there.
    #[schema(value_type = Option<String>, examples("demo@2"))]
    dataset: Option<DatasetRef>,
    /// The split; validation when absent.
    #[schema(value_type = Option<schema::Split>)]
    split: Option<Split>,
    /// How far below the present holder's the macro F1 may be.
    #[schema(default = 0.01, minimum = 0, maximum = 1)]
    margin: Option<f64>,
    /// Moves the alias whatever the comparison says; needs a reason.
    #[serde(default)]
    force: bool,
    /// Who wants it.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, examples("ana"))]
    by: Option<Person>,
    /// Why.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 500)]
    reason: Option<Reason>,
}

/// A step back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"from_version": 4, "by": "ana", "reason": "grades trucks as minor"}))]
pub(crate) struct RollBack {
    /// The version that the alias is believed to point to now: another one is refused, so that a request that is sent twice steps back once.
    from_version: Option<i32>,
    /// Who wants it.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, examples("ana"))]
    by: Option<Person>,
    /// Why.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 500)]
    reason: Option<Reason>,
}

/// The moves of aliases.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct History {
    /// The newest first, at most 500.
    moves: Vec<AliasMove>,
}

/// One move of an alias.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "alias": "production", "action": "promote", "from_version": 3, "to_version": 4, "by": "ana", "reason": "trained on the spring claims",
    "moved_at": "2026-10-01T09:12:44Z", "forced": false,
    "check": {"dataset": "demo@2", "split": "validation", "margin": 0.01, "macro_f1": 0.713, "former_macro_f1": 0.698},
}))]
pub(crate) struct AliasMove {
    /// The alias.
    alias: String,
    /// Why it moved.
    #[schema(value_type = schema::AliasAction)]
    action: AliasAction,
    /// The version that held it before; null for its first holder.
    from_version: Option<i32>,
    /// The version that it moved to.
    to_version: i32,
    /// Who moved it, as they said.
    by: Option<String>,
    /// Why, as they said.
    reason: Option<String>,
    /// When.
    moved_at: DateTime<Utc>,
    /// Whether it moved without the gate's consent.
    forced: bool,
    /// What the gate compared; null when it compared nothing.
    check: Option<GateCheck>,
}

/// What the gate compared.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GateCheck {
    /// The dataset version.
    dataset: String,
    /// The part of it.
    #[schema(value_type = schema::Split)]
    split: Split,
    /// How far below the macro F1 was allowed to be.
    margin: f64,
    /// Macro F1 of the version that was promoted.
    macro_f1: f64,
    /// Macro F1 of the version that held the alias before.
    former_macro_f1: f64,
}

/// Which moves to show.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ShowHistory {
    /// Only moves of this alias.
    #[param(value_type = Option<String>)]
    alias: Option<Name>,
}

impl From<perito_database::AliasMove> for AliasMove {
    fn from(step: perito_database::AliasMove) -> Self {
        let check = step.check.map(|check| GateCheck {
            dataset: check.dataset,
            split: check.split,
            margin: check.margin,
            macro_f1: check.macro_f1,
            former_macro_f1: check.former_macro_f1,
        });
        Self {
            alias: step.alias,
            action: step.action,
            from_version: step.from_version,
            to_version: step.to_version,
            by: step.moved_by,
            reason: step.reason,
            moved_at: step.moved_at,
            forced: step.forced,
            check,
        }
    }
}

/// Point an alias to a version.
///
/// When another version holds the alias, the two are compared: the alias stays when the new one's macro F1 is below the holder's by more than
/// the margin, or when one of them has not been measured on the dataset. Jobs that were planned before keep the version that they were planned
/// with. Every move is recorded.
#[utoipa::path(
    put,
    path = "/v1/models/{name}/aliases/{alias}",
    tag = "models",
    params(
        ("name" = String, Path, description = "The model's name"),
        ("alias" = String, Path, description = "The alias, such as production"),
    ),
    request_body = Promote,
    responses(
        (status = 200, description = "The version that the alias now points to", body = Model),
        refusals::NotFound,
        refusals::Conflict,
        refusals::Body,
        refusals::Any,
    ),
)]
async fn promote_model(
    State(app): State<App>,
    Path((name, alias)): Path<(Name, Name)>,
    Json(request): Json<Promote>,
) -> Result<axum::Json<Model>, Problem> {
    // In a reference, digits behind the @ are a version.
    if !matches!(format!("{name}@{alias}").parse::<ModelRef>()?.selector, ModelSelector::Alias(_)) {
        return Err(Problem::invalid_field("alias", format!("{alias} reads as a version: choose a word")));
    }
    let margin = request.margin.unwrap_or(DEFAULT_MARGIN);
    if !(0.0..=1.0).contains(&margin) {
        return Err(Problem::invalid_field("margin", format!("is {margin}: expected 0 to 1")));
    }
    if request.force && request.reason.is_none() {
        return Err(Problem::invalid_field("reason", "say why it has to be forced"));
    }
    let promotion = Promotion {
        name,
        version: request.version,
        alias,
        gate: Gate {
            dataset: request.dataset,
            split: request.split.unwrap_or(Split::Validation),
            margin,
            force: request.force,
        },
        signature: Signature { by: request.by, reason: request.reason },
    };
    let model = app.database.promote(&promotion).await?;
    tracing::info!(
        model.reference = model.reference(),
        model.alias = %promotion.alias,
        by = promotion.signature.by(),
        forced = promotion.gate.force,
        "model promoted"
    );
    Ok(axum::Json(model.into()))
}

/// Point an alias back to the version that held it before the last promotion.
///
/// Once more goes one promotion further back. Nothing is compared; the step is recorded.
#[utoipa::path(
    post,
    path = "/v1/models/{name}/aliases/{alias}/rollback",
    tag = "models",
    params(
        ("name" = String, Path, description = "The model's name"),
        ("alias" = String, Path, description = "The alias, such as production"),
    ),
    request_body = RollBack,
    responses(
        (status = 200, description = "The version that the alias points to again", body = Model),
        refusals::NotFound,
        refusals::Conflict,
        refusals::Body,
        refusals::Any,
    ),
)]
async fn roll_back(
    State(app): State<App>,
    Path((name, alias)): Path<(Name, Name)>,
    Json(request): Json<RollBack>,
) -> Result<axum::Json<Model>, Problem> {
    let signature = Signature { by: request.by, reason: request.reason };
    let model = app.database.roll_back(&name, &alias, request.from_version, &signature).await?;
    tracing::info!(model.reference = model.reference(), model.alias = %alias, by = signature.by(), "model rolled back");
    Ok(axum::Json(model.into()))
}

/// Show where a model's aliases have pointed, and who moved them when and why.
#[utoipa::path(
    get,
    path = "/v1/models/{name}/history",
    tag = "models",
    params(("name" = String, Path, description = "The model's name"), ShowHistory),
    responses((status = 200, description = "The moves", body = History), refusals::NotFound, refusals::Any),
)]
async fn show_history(
    State(app): State<App>,
    Path(name): Path<Name>,
    Query(query): Query<ShowHistory>,
) -> Result<axum::Json<History>, Problem> {
    let moves = app.database.alias_history(&name, query.alias.as_ref()).await?;
    Ok(axum::Json(History { moves: moves.into_iter().map(AliasMove::from).collect() }))
}
