//! What can go wrong, by kind. Callers match on [`ErrorKind`] and never on a type of the SDK.

use std::time::Duration;

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
};
use perito_domain::retry::ErrorClass;

/// The result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, decided where it arose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// There is no such object, or no such bucket.
    NotFound,
    /// The object's ETag is not the expected one.
    Changed,
    /// The object has more bytes than the caller allows.
    TooLarge,
    /// The store cannot be reached, is overloaded or failed, or the answer stalled. All attempts were made.
    Unavailable,
    /// The store knows us not, or forbids it.
    Denied,
    /// The store refuses the request as it is, or the options are wrong.
    Invalid,
}

impl ErrorKind {
    /// The kind's name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Changed => "changed",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
        }
    }
}

/// An operation that failed: what was being done, to what, and why it failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation} {target}: {detail}")]
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    target: String,
    detail: String,
}

impl Error {
    pub(crate) fn new(operation: &'static str, target: String, failure: Failure) -> Self {
        Self { kind: failure.kind, operation, target, detail: failure.detail }
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether trying again later can help.
    pub fn class(&self) -> ErrorClass {
        match self.kind {
            ErrorKind::Unavailable => ErrorClass::Transient,
            ErrorKind::NotFound | ErrorKind::Changed | ErrorKind::TooLarge | ErrorKind::Denied | ErrorKind::Invalid => {
                ErrorClass::Permanent
            }
        }
    }
}

/// Why one attempt failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) detail: String,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    pub(crate) fn timeout(what: &str, limit: Duration) -> Self {
        Self::new(ErrorKind::Unavailable, format!("{what} within {} s", limit.as_secs_f64()))
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        match &error {
            SdkError::ServiceError(service) => {
                refused(service.raw().status().as_u16(), service.err().code(), service.err().message())
            }
            SdkError::ConstructionFailure(_) => Self::new(ErrorKind::Invalid, DisplayErrorContext(&error).to_string()),
            // Whatever the network or a broken server does. A request that cannot even be sent fails the same way each time,
            // but that is told apart by text alone.
            _ => {
                let detail = chain(&error);
                if detail.contains("invalid peer certificate") {
                    let way_out =
                        "is its certificate authority in the file that PERITO_CA_FILE names, and this its name?";
                    return Self::new(ErrorKind::Invalid, format!("{detail}; {way_out}"));
                }
                Self::new(ErrorKind::Unavailable, detail)
            }
        }
    }
}

/// What an answer of the store means. `HEAD` answers have a status only.
fn refused(status: u16, code: Option<&str>, message: Option<&str>) -> Failure {
    let kind = match (status, code.unwrap_or_default()) {
        (_, "SlowDown" | "RequestTimeout" | "InternalError" | "ServiceUnavailable") => ErrorKind::Unavailable,
        (_, "ExpiredToken" | "InvalidToken") => ErrorKind::Denied,
        (404, _) => ErrorKind::NotFound,
        (401 | 403, _) => ErrorKind::Denied,
        (409, "OperationAborted") => ErrorKind::Unavailable,
        (408 | 425 | 429 | 500.., _) => ErrorKind::Unavailable,
        (412, _) => ErrorKind::Changed,
        _ => ErrorKind::Invalid,
    };
    let mut detail = match (code, message) {
        (Some(code), Some(message)) => format!("{code}: {message} (status {status})"),
        (Some(code), None) => format!("{code} (status {status})"),
        (None, _) => format!("status {status}"),
    };
    match kind {
        ErrorKind::Denied => detail.push_str("; check the access key, its secret and what it may do"),
        ErrorKind::Invalid if (300..400).contains(&status) => detail.push_str("; check the endpoint and the region"),
        _ => {}
    }
    Failure { kind, detail }
}

/// An error's causes in one line. The outermost ones only say that something went wrong.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut parts = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !parts.contains(&text) {
            parts.push(text);
        }
        next = cause.source();
    }
    if parts.is_empty() { error.to_string() } else { parts.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_kinds() {
        for (status, code, kind) in [
            (404, Some("NoSuchKey"), ErrorKind::NotFound),
            (404, None, ErrorKind::NotFound),
            (403, Some("SignatureDoesNotMatch"), ErrorKind::Denied),
            (400, Some("ExpiredToken"), ErrorKind::Denied),
            (503, Some("SlowDown"), ErrorKind::Unavailable),
            (500, None, ErrorKind::Unavailable),
            (400, Some("RequestTimeout"), ErrorKind::Unavailable),
            (429, None, ErrorKind::Unavailable),
            (412, Some("PreconditionFailed"), ErrorKind::Changed),
            (400, Some("InvalidBucketName"), ErrorKind::Invalid),
            (301, Some("PermanentRedirect"), ErrorKind::Invalid),
        ] {
            assert_eq!(refused(status, code, None).kind, kind, "{status} {code:?}");
        }
    }

    #[test]
    fn only_what_may_pass_is_worth_another_try() {
        let class = |kind| Error::new("get", "b/k".to_owned(), Failure::new(kind, "")).class();
        assert_eq!(class(ErrorKind::Unavailable), ErrorClass::Transient);
        assert_eq!(class(ErrorKind::Denied), ErrorClass::Permanent);
        assert_eq!(class(ErrorKind::NotFound), ErrorClass::Permanent);
    }
}
