//! What can go wrong, by kind.

use perito_domain::retry::ErrorClass;

/// Kinds that callers decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The broker cannot be reached, or the connection broke.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// No queue takes the message.
    Unroutable,
    /// The broker did not take responsibility for the message.
    Refused,
    /// The options are wrong, or the broker has another idea of the queues.
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

    pub(crate) fn during(what: &str, error: &lapin::Error) -> Self {
        let kind = match error.kind() {
            lapin::ErrorKind::ProtocolError(error) if error.get_id() == PRECONDITION_FAILED => ErrorKind::Invalid,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, format!("{what}: {error}"))
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether trying again can help.
    pub fn class(&self) -> ErrorClass {
        match self.kind {
            ErrorKind::Invalid => ErrorClass::Permanent,
            _ => ErrorClass::Transient,
        }
    }
}

/// AMQP 0-9-1, "reply codes": a queue exists with other properties, or a queue cannot be declared so.
const PRECONDITION_FAILED: u16 = 406;
