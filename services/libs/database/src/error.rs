//! What can go wrong, by kind.

use perito_domain::retry::ErrorClass;

/// Kinds that callers decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was asked for does not exist.
    NotFound,
    /// It clashes with what is there.
    Conflict,
    /// The caller's input is wrong.
    Invalid,
    /// The attempt no longer owns its task: it expired, was cancelled, or ended.
    StaleAttempt,
    /// Postgres cannot be reached, or did not answer in time.
    Unavailable,
    /// Two transactions clashed.
    Serialization,
    /// The schema is not the one that this build knows.
    Schema,
    /// Anything else; a bug here or a broken database.
    Internal,
}

/// An error with what was being done.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    /// With sqlx's own words at its end.
    message: String,
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn from_sqlx(what: &str, error: &sqlx::Error) -> Self {
        Self::new(kind_of(error), format!("{what}: {error}"))
    }

    pub(crate) fn stale(task: uuid::Uuid, attempt: i32) -> Self {
        Self::new(ErrorKind::StaleAttempt, format!("attempt {attempt} no longer owns task {task}"))
    }

    /// Postgres did not answer in the time that the caller has.
    pub fn silent(what: &str, limit: std::time::Duration) -> Self {
        Self::new(ErrorKind::Unavailable, format!("{what}: no answer within {} s", limit.as_secs_f64()))
    }

    /// Whoever was to ask Postgres is gone.
    pub fn given_up() -> Self {
        Self::new(ErrorKind::Unavailable, "what was asked for was given up")
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether trying again can help.
    pub fn class(&self) -> ErrorClass {
        match self.kind {
            ErrorKind::Unavailable | ErrorKind::Serialization => ErrorClass::Transient,
            _ => ErrorClass::Permanent,
        }
    }
}

fn kind_of(error: &sqlx::Error) -> ErrorKind {
    match error {
        sqlx::Error::RowNotFound => ErrorKind::NotFound,
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => ErrorKind::Unavailable,
        // SQLSTATE classes, Postgres documentation, appendix A.
        sqlx::Error::Database(error) => match error.code().as_deref() {
            Some("40001" | "40P01") => ErrorKind::Serialization,
            Some("23505") => ErrorKind::Conflict,
            // A text that is no value of its type.
            Some("22P02" | "22003" | "22007" | "22008") => ErrorKind::Invalid,
            Some("42P01" | "42703" | "3F000") => ErrorKind::Schema,
            // Connection failures, shutdown and start-up, timeouts, too many connections.
            Some(code) if code.starts_with("08") || code.starts_with("57P") => ErrorKind::Unavailable,
            Some("57014" | "53300" | "55P03") => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        },
        _ => ErrorKind::Internal,
    }
}

/// Says what was being done when sqlx failed.
pub(crate) trait During<T> {
    fn during(self, what: &str) -> Result<T>;
}

impl<T> During<T> for std::result::Result<T, sqlx::Error> {
    fn during(self, what: &str) -> Result<T> {
        self.map_err(|error| Error::from_sqlx(what, &error))
    }
}
