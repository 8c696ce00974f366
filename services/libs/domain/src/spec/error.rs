//! What can be wrong with a specification.

use crate::limits::MAX_CONCURRENCY;
/// Why a specification was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The JSON is not an object.
    #[error("a job specification is a JSON object, as in {{\"kind\": \"score\", …}}")]
    NotAnObject,
    /// A field is unknown, missing, of the wrong type or out of range.
    #[error("{field}: {problem}")]
    Invalid {
        /// The path of the field, such as `optimizer.learning_rate`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl SpecError {
    pub(crate) fn invalid(field: &str, problem: impl Into<String>) -> Self {
        Self::Invalid { field: field.to_owned(), problem: problem.into() }
    }
}

/// Refuses a number outside a range, by the field's name.
pub(crate) fn in_range<T: PartialOrd + std::fmt::Display>(
    field: &str,
    value: T,
    low: T,
    high: T,
) -> Result<(), SpecError> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(SpecError::invalid(field, format!("is {value}: expected {low} to {high}")))
}

/// Refuses a limit of tasks at once that is none.
pub(super) fn check_concurrency(limit: Option<u32>) -> Result<(), SpecError> {
    limit.map_or(Ok(()), |limit| in_range("concurrency", limit, 1, MAX_CONCURRENCY))
}
