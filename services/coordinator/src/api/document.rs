//! What the OpenAPI document says apart from the routes.

use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Perito",
        description = "Trains a classifier of car damage and scores photographs with it in bulk.\n\n\
            Every request below `/v1` needs `Authorization: Bearer TOKEN` (`perito token create`), unless the service runs with \
            `--insecure`; each route says which role it needs. \
            Errors are problem details (RFC 9457, `application/problem+json`). Every response carries the W3C \
            `traceparent` of its request; a job's tasks belong to the trace of the request that submitted it.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "jobs", description = "Train, score, evaluate"),
        (name = "schedules", description = "Jobs that are submitted by themselves"),
        (name = "images", description = "The catalogue of photographs"),
        (name = "datasets", description = "Frozen, versioned, labelled selections"),
        (name = "labels", description = "What adjusters decided"),
        (name = "models", description = "The registry"),
        (name = "operation", description = "Workers, queues, throughput"),
        (name = "settings", description = "What may be changed while everything runs"),
        (name = "tokens", description = "Who may use this API"),
    ),
)]
struct Preamble;

/// The document before any route is added.
pub(super) fn preamble() -> utoipa::openapi::OpenApi {
    Preamble::openapi()
}
