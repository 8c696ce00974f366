//! What can go wrong between here and the coordinator.

use reqwest::StatusCode;
use serde::Deserialize;
use url::Url;

/// A request that did not do what was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    /// Nobody answers, or the answer broke off.
    #[error(
        "reach the API at {url}: {cause}; is the coordinator running there? Set --api-url or PERITO_API_URL if it is elsewhere"
    )]
    Unreachable {
        /// The coordinator's URL.
        url: String,
        /// What the network says.
        cause: String,
        /// Whether the request may have arrived.
        sent: bool,
    },
    /// Somebody answers, but cannot do anything now.
    #[error("the API at {url} is not available: {detail}")]
    Unavailable {
        /// The coordinator's URL.
        url: String,
        /// What it says.
        detail: String,
        /// Whether it may have done it all the same.
        sent: bool,
    },
    /// There is no such thing.
    #[error("{detail}")]
    NotFound {
        /// What there is not.
        detail: String,
    },
    /// The coordinator refuses the request.
    #[error("{detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why, and the way out.
        detail: String,
    },
    /// What answers is not a coordinator of this release.
    #[error("{url} answers, but not as a coordinator does: {detail}")]
    Unexpected {
        /// What was asked for.
        url: String,
        /// What came.
        detail: String,
    },
}

/// An error as the API writes it (RFC 9457).
#[derive(Debug, Deserialize)]
struct Problem {
    detail: Option<String>,
    title: Option<String>,
}

impl ApiError {
    pub(super) fn unreachable(base: &Url, error: &reqwest::Error) -> Self {
        let mut cause = String::new();
        // The outermost errors only say that a request failed, and to where.
        let mut next = std::error::Error::source(error);
        while let Some(source) = next {
            cause = source.to_string();
            next = source.source();
        }
        if cause.contains("invalid peer certificate") {
            cause.push_str(" (is its certificate authority in the file that PERITO_CA_FILE names, and this its name?)");
        }
        if error.is_timeout() {
            "no answer in time".clone_into(&mut cause);
        } else if cause.is_empty() {
            cause = error.to_string();
        }
        Self::Unreachable { url: base.to_string(), cause, sent: !error.is_connect() }
    }

    /// The answer did not come in the time that the caller had for it.
    pub fn silent(base: &Url, waited: std::time::Duration) -> Self {
        let cause = format!("no answer within {} s", waited.as_secs_f64());
        Self::Unreachable { url: base.to_string(), cause, sent: true }
    }

    pub(super) fn refused(base: &Url, status: StatusCode, body: &str) -> Self {
        let problem = serde_json::from_str::<Problem>(body).ok().and_then(|problem| problem.detail.or(problem.title));
        let Some(detail) = problem else {
            let detail = format!("status {status}: {}", body.trim().chars().take(200).collect::<String>());
            return match status {
                // A proxy in front of a coordinator that is away.
                StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                    let sent = status != StatusCode::SERVICE_UNAVAILABLE;
                    Self::Unavailable { url: base.to_string(), detail, sent }
                }
                _ => Self::Unexpected { url: base.to_string(), detail },
            };
        };
        match status {
            StatusCode::NOT_FOUND => Self::NotFound { detail },
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                Self::Unavailable { url: base.to_string(), detail, sent: false }
            }
            _ if status.is_server_error() => Self::Unavailable { url: base.to_string(), detail, sent: true },
            _ => Self::Refused { status: status.as_u16(), detail },
        }
    }

    /// Whether sending the request again can help and do no harm.
    pub(super) fn may_be_repeated(&self, repeat_is_safe: bool) -> bool {
        match self {
            Self::Unreachable { sent, .. } | Self::Unavailable { sent, .. } => repeat_is_safe || !sent,
            Self::NotFound { .. } | Self::Refused { .. } | Self::Unexpected { .. } => false,
        }
    }

    /// Whether the API is away, perhaps only for a while.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Unavailable { .. })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> ApiError {
        ApiError::refused(&Url::parse("http://h").unwrap(), StatusCode::from_u16(status).unwrap(), body)
    }

    #[test]
    fn problems_become_kinds_with_their_detail() {
        let body = r#"{"type": "urn:x", "title": "T", "status": 0, "detail": "spec.epochs: is 0"}"#;
        assert!(matches!(refused(404, body), ApiError::NotFound { detail } if detail == "spec.epochs: is 0"));
        assert!(matches!(refused(422, body), ApiError::Refused { status: 422, .. }));
        assert!(refused(503, body).is_outage() && refused(500, body).is_outage() && !refused(409, body).is_outage());
    }

    #[test]
    fn a_stranger_is_told_from_a_coordinator() {
        let page = "<html>nginx</html>";
        assert!(matches!(refused(404, page), ApiError::Unexpected { .. }));
        assert!(refused(502, page).is_outage());
    }

    #[test]
    fn only_what_was_not_done_is_repeated_unless_it_is_safe() {
        assert!(refused(503, "{\"detail\": \"busy\"}").may_be_repeated(false));
        assert!(!refused(504, "{\"detail\": \"too slow\"}").may_be_repeated(false));
        assert!(refused(504, "{\"detail\": \"too slow\"}").may_be_repeated(true));
        assert!(!refused(409, "{\"detail\": \"no\"}").may_be_repeated(true));
    }
}
