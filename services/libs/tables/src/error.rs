//! What can be wrong, and where.

use std::{fmt, sync::Arc};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Kinds that callers decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// One row is wrong; the rows after it can be read.
    Row,
    /// The file cannot be read, or no further.
    File,
}

/// Where in a file something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's name as the caller gave it.
    pub file: Arc<str>,
    /// The line or row, counted from 1; `None` for the file as a whole.
    pub number: Option<u64>,
    /// What is counted: `line` of a text, the header's included, or `row` of a table.
    pub unit: &'static str,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "{}, {} {number}", self.file, self.unit),
            None => f.write_str(&self.file),
        }
    }
}

/// What is wrong with a file or a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Error {
    kind: ErrorKind,
    place: Place,
    problem: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, place: Place, problem: impl Into<String>) -> Self {
        Self { kind, place, problem: problem.into() }
    }

    /// Whether reading can go on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is wrong there, without the place.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}
