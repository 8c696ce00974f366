//! Errors on the wire: RFC 9457 problem details, for whatever went wrong.

use axum::{
    Json,
    extract::rejection::{BytesRejection, PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use perito_database::ErrorKind;
use perito_domain::{names::NameError, spec::SpecError};
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of every error (RFC 9457).
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// How long a client should wait before it tries an unavailable service again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// How to say who asks (RFC 6750).
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"perito\"");

/// What went wrong (RFC 9457, media type `application/problem+json`).
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "urn:perito:problem:invalid",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "spec.shard_size: is 0: expected 1 to 10000",
    "errors": [{"field": "spec.shard_size", "detail": "is 0: expected 1 to 10000"}],
}))]
pub(crate) struct Problem {
    /// The class of the problem: the same class is always the same URI.
    #[serde(rename = "type")]
    #[schema(examples("urn:perito:problem:not-found"))]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(value_type = u16, examples(404))]
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    /// What is wrong in this case, and the way out.
    detail: String,
    /// The fields that are wrong, where fields are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct FieldProblem {
    /// The path of the field.
    #[schema(examples("spec.optimizer.learning_rate"))]
    field: String,
    /// What is wrong with it.
    detail: String,
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { kind, title, status, detail: detail.into(), errors: Vec::new() }
    }

    /// The request cannot be read at all.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "urn:perito:problem:malformed", detail)
    }

    /// Nobody says who asks, or says it with a token that is not in force.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "urn:perito:problem:unauthorized", detail)
    }

    /// Whoever asks may not do this.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "urn:perito:problem:forbidden", detail)
    }

    /// There is no such thing.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "urn:perito:problem:not-found", detail)
    }

    /// The path exists, but not with this method.
    pub(crate) fn method_not_allowed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "urn:perito:problem:method-not-allowed", detail)
    }

    /// The state of the thing does not allow this.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "urn:perito:problem:conflict", detail)
    }

    /// The body is longer than the limit.
    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "urn:perito:problem:too-large", detail)
    }

    /// The body is not JSON by its own account.
    pub(crate) fn unsupported_media_type(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "urn:perito:problem:unsupported-media-type", detail)
    }

    /// The request is readable and what it asks for is wrong.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "urn:perito:problem:invalid", detail)
    }

    /// One field is wrong.
    pub(crate) fn invalid_field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let (field, detail) = (field.into(), detail.into());
        let mut problem = Self::invalid(format!("{field}: {detail}"));
        problem.errors.push(FieldProblem { field, detail });
        problem
    }

    /// The service cannot answer now.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "urn:perito:problem:unavailable", detail)
    }

    /// The service took too long.
    pub(crate) fn timeout(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "urn:perito:problem:timeout", detail)
    }

    /// The service is at fault. What exactly is in its log, not in the answer.
    pub(crate) fn internal() -> Self {
        let detail = "this is a fault of the service: its log says more under the trace id of this answer";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "urn:perito:problem:internal", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, CHALLENGE);
        }
        response
    }
}

impl From<perito_database::Error> for Problem {
    fn from(error: perito_database::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::not_found(error.to_string()),
            ErrorKind::Conflict | ErrorKind::StaleAttempt => Self::conflict(error.to_string()),
            ErrorKind::Invalid => Self::invalid(error.to_string()),
            ErrorKind::Unavailable | ErrorKind::Serialization => {
                tracing::warn!(error.message = %error, "database unavailable for a request");
                Self::unavailable("the database does not answer: try again")
            }
            ErrorKind::Schema | ErrorKind::Internal => {
                tracing::error!(error.message = %error, "request failed in the database");
                Self::internal()
            }
        }
    }
}

impl From<SpecError> for Problem {
    fn from(error: SpecError) -> Self {
        match error {
            SpecError::Invalid { field, problem } => Self::invalid_field(format!("spec.{field}"), problem),
            SpecError::NotAnObject => Self::invalid_field("spec", error.to_string()),
        }
    }
}

/// For names in paths; those in bodies are read by serde.
impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::too_large("the body is longer than this service accepts: send less at a time");
        }
        Self::malformed(rejection.body_text())
    }
}
