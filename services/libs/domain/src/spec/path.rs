//! Fields of a specification by their path, such as `optimizer.learning_rate`.

use serde_json::{Map, Value};

use super::SpecError;

/// Sets a field by its path, making objects on the way.
///
/// # Errors
/// [`SpecError::Invalid`] for a path with an empty name in it, or one that goes through something that is not an object.
pub fn set_field(mut fields: &mut Map<String, Value>, path: &str, value: Value) -> Result<(), SpecError> {
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        if name.is_empty() {
            return Err(SpecError::invalid(
                path,
                "is not the path of a field: write one such as optimizer.learning_rate",
            ));
        }
        if names.peek().is_none() {
            fields.insert(name.to_owned(), value);
            break;
        }
        let next = fields.entry(name).or_insert_with(|| Value::Object(Map::new()));
        fields = next.as_object_mut().ok_or_else(|| SpecError::invalid(path, format!("{name} is not an object")))?;
    }
    Ok(())
}
