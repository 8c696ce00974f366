//! Tokens: who may use this API.

use axum::{Extension, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use perito_database::{ApiToken, Caller};
use perito_domain::{access::Role, names::Name};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    extract::{Json, Path},
    problem::Problem,
    refusals, schema,
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list_tokens, create_token)).routes(routes!(revoke_token))
}

/// What is known of a token. The token itself is shown once, when it is made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenInfo {
    /// Its public part.
    #[schema(examples("4f1c2b9a7d3e8f60"))]
    id: String,
    /// Whose it is. Only one of a name is in force.
    #[schema(examples("nightly"))]
    name: String,
    /// What it is good for.
    #[schema(value_type = schema::Role)]
    role: Role,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// Who made it: a token's name, or a role of Postgres.
    #[schema(examples("ana"))]
    created_by: String,
    /// When it ends by itself, if ever.
    expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    revoked_at: Option<DateTime<Utc>>,
}

impl From<ApiToken> for TokenInfo {
    fn from(token: ApiToken) -> Self {
        let ApiToken { id, name, role, created_at, created_by, expires_at, last_used_at, revoked_at } = token;
        Self { id, name, role, created_at, created_by, expires_at, last_used_at, revoked_at }
    }
}

/// Every token.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenList {
    /// The newest first, those that were revoked too.
    tokens: Vec<TokenInfo>,
}

/// A token to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "nightly", "role": "operator", "expires_at": "2027-01-01T00:00:00Z"}))]
pub(crate) struct CreateToken {
    /// Whose it is to be.
    #[schema(value_type = String, examples("nightly"))]
    name: Name,
    /// What it is to be good for.
    #[schema(value_type = schema::Role)]
    role: Role,
    /// When it is to end by itself.
    expires_at: Option<DateTime<Utc>>,
}

/// A new token.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewToken {
    /// The token. Nobody can show it again.
    #[schema(examples("perito_4f1c2b9a7d3e8f60_…"))]
    token: String,
    /// What is known of it.
    #[serde(flatten)]
    info: TokenInfo,
}

/// List the tokens.
#[utoipa::path(
    get,
    path = "/v1/tokens",
    tag = "tokens",
    responses((status = 200, description = "The tokens", body = TokenList), refusals::Any),
)]
async fn list_tokens(State(app): State<App>) -> Result<axum::Json<TokenList>, Problem> {
    let tokens = app.database.tokens().await?;
    Ok(axum::Json(TokenList { tokens: tokens.into_iter().map(Into::into).collect() }))
}

/// Make a token.
///
/// The answer is the only place where it is ever shown.
#[utoipa::path(
    post,
    path = "/v1/tokens",
    tag = "tokens",
    request_body = CreateToken,
    responses(
        (status = 201, description = "The token", body = NewToken),
        refusals::Conflict, refusals::Body, refusals::Any,
    ),
)]
async fn create_token(
    State(app): State<App>,
    caller: Option<Extension<Caller>>,
    Json(request): Json<CreateToken>,
) -> Result<(StatusCode, axum::Json<NewToken>), Problem> {
    let CreateToken { name, role, expires_at } = request;
    if expires_at.is_some_and(|end| end <= Utc::now()) {
        return Err(Problem::invalid_field("expires_at", "has passed already"));
    }
    // Without a caller the API is open to everybody.
    let by = caller.as_ref().map_or("insecure", |caller| &caller.name);
    let (info, token) = app.database.create_token(&name, role, expires_at, Some(by)).await?;
    tracing::info!(token.name = %name, token.role = %role, token.created_by = by, "token made");
    Ok((StatusCode::CREATED, axum::Json(NewToken { token: token.expose(), info: info.into() })))
}

/// Revoke a token.
///
/// The next request with it is refused. Its name is free again.
#[utoipa::path(
    delete,
    path = "/v1/tokens/{name}",
    tag = "tokens",
    params(("name" = String, Path, description = "The token's name")),
    responses((status = 200, description = "The token that was", body = TokenInfo), refusals::NotFound, refusals::Any),
)]
async fn revoke_token(State(app): State<App>, Path(name): Path<String>) -> Result<axum::Json<TokenInfo>, Problem> {
    let name: Name = name.parse()?;
    let token = app.database.revoke_token(&name).await?;
    tracing::info!(token.name = %name, "token revoked");
    Ok(axum::Json(token.into()))
}
