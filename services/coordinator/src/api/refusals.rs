//! The refusals that routes share, as the OpenAPI document lists them.

#![expect(dead_code, reason = "only their descriptions are used")]

use utoipa::IntoResponses;

use super::problem::Problem;

/// Any route may answer so.
#[derive(IntoResponses)]
pub(crate) enum Any {
    #[response(
        status = 401,
        description = "No token, or one that is not in force",
        content_type = "application/problem+json"
    )]
    Unauthorized(Problem),
    #[response(
        status = 403,
        description = "The token's role may not do this; the detail names the one that may",
        content_type = "application/problem+json"
    )]
    Forbidden(Problem),
    #[response(
        status = 422,
        description = "The request is wrong; the fields are named",
        content_type = "application/problem+json"
    )]
    Invalid(Problem),
    #[response(status = 500, description = "A fault of the service", content_type = "application/problem+json")]
    Internal(Problem),
    #[response(
        status = 503,
        description = "Overload, or the database does not answer; see Retry-After",
        content_type = "application/problem+json"
    )]
    Unavailable(Problem),
    #[response(
        status = 504,
        description = "No answer in time; what was asked for may still have happened",
        content_type = "application/problem+json"
    )]
    Timeout(Problem),
}

/// A route that takes a body.
#[derive(IntoResponses)]
pub(crate) enum Body {
    #[response(status = 400, description = "The body is not JSON", content_type = "application/problem+json")]
    Malformed(Problem),
    #[response(status = 413, description = "The body is too long", content_type = "application/problem+json")]
    TooLarge(Problem),
    #[response(
        status = 415,
        description = "The Content-Type is not application/json",
        content_type = "application/problem+json"
    )]
    UnsupportedMediaType(Problem),
}

/// A route about one thing.
#[derive(IntoResponses)]
#[response(status = 404, description = "There is no such thing", content_type = "application/problem+json")]
pub(crate) struct NotFound(Problem);

/// A route that depends on the state of a thing.
#[derive(IntoResponses)]
#[response(
    status = 409,
    description = "The state of the thing does not allow this",
    content_type = "application/problem+json"
)]
pub(crate) struct Conflict(Problem);
