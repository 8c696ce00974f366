//! What can go wrong, by kind.

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
};
use perito_domain::retry::ErrorClass;

/// Kinds that callers decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No such object or bucket.
    NotFound,
    /// The object is there, with another ETag than expected.
    Changed,
    /// The object is larger than the caller takes.
    TooLarge,
    /// The credentials do not allow it.
    Denied,
    /// The store cannot be reached, answers 5xx, asks to slow down, or stalls.
    Unavailable,
    /// The options or the request are wrong.
    Invalid,
}

/// An error with what was being done.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether trying again can help.
    pub fn class(&self) -> ErrorClass {
        match self.kind {
            ErrorKind::Unavailable => ErrorClass::Transient,
            _ => ErrorClass::Permanent,
        }
    }

    pub(crate) fn during<E>(what: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.code();
        let kind = match (status, code) {
            (_, Some("NoSuchKey" | "NoSuchBucket" | "NotFound")) | (Some(404), _) => ErrorKind::NotFound,
            (Some(412), _) => ErrorKind::Changed,
            (_, Some("SlowDown" | "RequestTimeout" | "RequestTimeTooSkewed")) | (Some(408 | 429 | 500..=599), _) => {
                ErrorKind::Unavailable
            }
            (Some(401 | 403), _) => ErrorKind::Denied,
            (Some(400..=499), _) => ErrorKind::Invalid,
            // Without a response: a timeout, a refused or broken connection, or a request that could not be built.
            _ if matches!(error, SdkError::ConstructionFailure(_)) => ErrorKind::Invalid,
            _ => ErrorKind::Unavailable,
        };
        let detail = match (code, error.message(), status) {
            (Some(code), Some(message), _) => format!("{code}: {message}"),
            (Some(code), None, _) => code.to_owned(),
            (None, _, Some(status)) => format!("HTTP status {status}"),
            (None, _, None) => DisplayErrorContext(error).to_string(),
        };
        Self::new(kind, format!("{what}: {detail}"))
    }
}
