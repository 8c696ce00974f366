//! What can go wrong, by kind. Callers match on [`ErrorKind`] and never on a type of the client library.

use std::{future::Future, time::Duration};

use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};
use perito_domain::retry::ErrorClass;
use tokio::time::timeout;

/// The result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, decided where it arose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The broker cannot be reached, did not answer or confirm in time, or holds publishers back.
    Unavailable,
    /// The broker refuses: the password, the virtual host, a permission, or a queue that exists with other arguments.
    Refused,
    /// No queue takes the message.
    Unroutable,
    /// The options are wrong.
    Invalid,
}

/// An operation that failed: what was being done and why it failed. It never shows a password.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation}: {detail}")]
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    detail: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, operation: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, operation, detail: detail.into() }
    }

    pub(crate) fn client(operation: &'static str, error: &lapin::Error) -> Self {
        let kind = match error.kind() {
            lapin::ErrorKind::ProtocolError(error) => refusal(error),
            _ => ErrorKind::Unavailable,
        };
        let detail = error.to_string();
        // Told apart by text alone: what rustls says comes through several libraries.
        if detail.contains("invalid peer certificate") {
            let way_out = "is its certificate authority in the file that PERITO_CA_FILE names, and this its name?";
            return Self::new(ErrorKind::Invalid, operation, format!("{detail}; {way_out}"));
        }
        Self::new(kind, operation, detail)
    }

    pub(crate) fn late(operation: &'static str, limit: Duration) -> Self {
        Self::new(ErrorKind::Unavailable, operation, format!("no answer within {} s", limit.as_secs_f64()))
    }

    pub(crate) fn at(mut self, place: &str) -> Self {
        self.detail = format!("RabbitMQ at {place}: {}", self.detail);
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether trying again later can help.
    pub fn class(&self) -> ErrorClass {
        match self.kind {
            // A queue that was deleted is declared again before the next attempt.
            ErrorKind::Unavailable | ErrorKind::Unroutable => ErrorClass::Transient,
            ErrorKind::Refused | ErrorKind::Invalid => ErrorClass::Permanent,
        }
    }
}

fn refusal(error: &AMQPError) -> ErrorKind {
    match error.kind() {
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH)
        | AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::PRECONDITIONFAILED) => ErrorKind::Refused,
        _ => ErrorKind::Unavailable,
    }
}

/// An answer of the broker, in bounded time.
pub(crate) async fn within<T>(
    limit: Duration,
    operation: &'static str,
    request: impl Future<Output = lapin::Result<T>>,
) -> Result<T> {
    match timeout(limit, request).await {
        Ok(answer) => answer.map_err(|error| Error::client(operation, &error)),
        Err(_) => Err(Error::late(operation, limit)),
    }
}
