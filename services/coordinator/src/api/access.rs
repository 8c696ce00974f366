//! Who may do what: every request below `/v1` carries a token, and the token's role has to suffice for its route.
//!
//! `/healthz`, `/readyz` and `/metrics` are for probes, which have no token; `/docs` and the OpenAPI document hold nothing of an
//! installation's own.

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use perito_database::{Caller, Database};
use perito_domain::access::{NotAToken, Role, Token};
use utoipa::openapi::{
    OpenApi,
    path::Operation,
    security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};

use super::problem::Problem;

/// Whom the API answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody (`--insecure`).
    Open,
    /// Holders of tokens.
    Tokens,
}

/// What the check of a request works with.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) access: Access,
    pub(super) database: Database,
}

/// The name of the security scheme in the OpenAPI document.
const SCHEME: &str = "token";

/// The role that a route needs. What is not named here is a viewer's when it reads, and an operator's when it does not.
fn needed(method: &Method, route: &str) -> Role {
    let reads = method.is_safe();
    match route {
        // Who gets in.
        "/v1/tokens" | "/v1/tokens/{name}" => Role::Admin,
        // What production runs on, and what every analyst sees.
        "/v1/models/{name}/aliases/{alias}" | "/v1/models/{name}/aliases/{alias}/rollback" | "/v1/settings"
            if !reads =>
        {
            Role::Admin
        }
        // What cannot be undone.
        "/v1/models/{reference}" if method == Method::DELETE => Role::Admin,
        _ if reads => Role::Viewer,
        _ => Role::Operator,
    }
}

/// Lets a request through when its token's role suffices. The caller goes with it.
pub(super) async fn enforce(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    if guard.access == Access::Open {
        return next.run(request).await;
    }
    // A path that is no route is not found, whoever asks.
    let Some(route) = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()) else {
        return next.run(request).await;
    };
    let token = token(request.headers());
    let caller = match caller(&guard.database, token).await {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    tracing::Span::current().record("enduser.id", &caller.name);
    let role = needed(request.method(), &route);
    if caller.role < role {
        return Problem::forbidden(format!(
            "token {} is a {}'s: {} {route} needs the role {role}",
            caller.name,
            caller.role,
            request.method()
        ))
        .into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// The token of a request.
fn token(headers: &HeaderMap) -> Result<Token, Problem> {
    let header = headers.get(header::AUTHORIZATION).ok_or_else(|| {
        Problem::unauthorized("this needs a token: send Authorization: Bearer TOKEN (PERITO_TOKEN for `perito`)")
    })?;
    let text = header.to_str().ok().and_then(|text| text.split_once(' '));
    let (_, token) = text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).ok_or_else(|| {
        Problem::unauthorized("the Authorization header is of another kind: send Authorization: Bearer TOKEN")
    })?;
    token.trim().parse().map_err(|error: NotAToken| Problem::unauthorized(error.to_string()))
}

async fn caller(database: &Database, token: Result<Token, Problem>) -> Result<Caller, Problem> {
    let token = token?;
    database.authenticate(&token).await?.ok_or_else(|| {
        Problem::unauthorized(format!(
            "token {} is not in force: it is unknown, was revoked, or has expired; ask an admin for another",
            token.id()
        ))
    })
}

/// Declares in the document what [`enforce`] demands.
pub(super) fn describe(document: &mut OpenApi) {
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    scheme.description = Some("A token made by `perito token create`. Roles: viewer < operator < admin.".to_owned());
    document.components.get_or_insert_default().add_security_scheme(SCHEME, SecurityScheme::Http(scheme));
    for (path, item) in &mut document.paths.paths {
        let operations = [
            (Method::GET, &mut item.get),
            (Method::PUT, &mut item.put),
            (Method::POST, &mut item.post),
            (Method::PATCH, &mut item.patch),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                demand(operation, needed(&method, path));
            }
        }
    }
}

fn demand(operation: &mut Operation, role: Role) {
    operation.security = Some(vec![SecurityRequirement::new(SCHEME, [role.as_str()])]);
    let text = operation.description.take().unwrap_or_default();
    operation.description = Some(format!("{text}\n\nNeeds the role `{role}`.").trim().to_owned());
}
