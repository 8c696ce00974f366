//! The HTTP API: JSON under `/v1`, errors as problem details, an OpenAPI document made from the routes themselves.
//!
//! Who may do what is in [`access`]. Each resource has a file with its routes and its wire types; the types are private to the API and made from the
//! database's. To add a route: a handler with `#[utoipa::path]` in its resource's file, and its name in `routes`.

mod access;
mod aliases;
mod attempts;
mod comparisons;
mod control;
mod datasets;
mod dead_letters;
mod document;
mod evaluation;
mod extract;
mod images;
mod jobs;
mod labels;
mod leaderboard;
mod limits;
mod models;
mod problem;
mod refusals;
mod schedules;
mod schema;
mod settings;
mod status;
mod text;
mod tokens;
mod trace;
mod workers;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{Method, Uri},
    middleware,
};
use perito_broker::DeadLetters;
use perito_database::Database;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

pub use access::Access;
pub use limits::Limits;
use problem::Problem;

use crate::loops::{Queues, Wake};

/// What handlers work with.
#[derive(Clone)]
pub struct App {
    /// Where everything is.
    pub database: Database,
    /// The bells of this process's loops.
    pub wake: Wake,
    /// What the broker holds, as this process's loops saw it.
    pub queues: Queues,
    /// What nobody could act on, where it waits for a person.
    pub dead_letters: DeadLetters,
}

/// Every route of the service: `/v1`, `/docs` and those of `health`.
pub fn router(app: App, access: Access, limits: Limits, health: Router) -> Router {
    let (routes, mut document) = resources();
    access::describe(&mut document);
    let guard = access::Guard { access, database: app.database.clone() };
    let resources = routes
        .with_state(app)
        .layer(DefaultBodyLimit::max(perito_domain::limits::MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(guard, access::enforce))
        .layer(middleware::from_fn_with_state(limits, limits::enforce));
    Router::new()
        .merge(resources)
        .merge(SwaggerUi::new("/docs").url("/v1/openapi.json", document))
        .merge(health)
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn(trace::record))
}

/// The routes under `/v1` and the document that describes them.
fn resources() -> (Router<App>, OpenApi) {
    OpenApiRouter::with_openapi(document::preamble())
        .merge(jobs::routes())
        .merge(attempts::routes())
        .merge(control::routes())
        .merge(dead_letters::routes())
        .merge(leaderboard::routes())
        .merge(schedules::routes())
        .merge(images::routes())
        .merge(datasets::routes())
        .merge(labels::routes())
        .merge(models::routes())
        .merge(workers::routes())
        .merge(status::routes())
        .merge(aliases::routes())
        .merge(comparisons::routes())
        .merge(settings::routes())
        .merge(tokens::routes())
        .split_for_parts()
}

async fn no_such_path(uri: Uri) -> Problem {
    Problem::not_found(format!("{:?} is not a path of this service: /docs lists them", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::method_not_allowed(format!("{:?} does not take {method}: see the Allow header and /docs", uri.path()))
}
