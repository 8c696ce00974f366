//! Limits of texts in bodies.

use super::problem::Problem;

/// Refuses a text that is empty or longer than the database takes, by the field's name.
pub(super) fn check_length(field: impl Into<String>, text: &str, most: usize) -> Result<(), Problem> {
    if (1..=most).contains(&text.len()) {
        return Ok(());
    }
    Err(Problem::invalid_field(field, format!("has {} bytes: expected 1 to {most}", text.len())))
}
