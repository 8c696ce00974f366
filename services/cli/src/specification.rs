//! From options to a job's specification. What is sent is what the user said: the coordinator completes it from its presets.
//! It is checked here first, by the same code.

use perito_domain::spec::{JobSpec, set_field};
use serde_json::{Map, Value};

use crate::exit::Usage;

/// A specification that is being put together.
#[derive(Debug, Clone, Default)]
pub struct Specification(Map<String, Value>);

impl Specification {
    /// An empty one of this kind.
    pub fn new(kind: &str) -> Self {
        Self(Map::from_iter([("kind".to_owned(), kind.into())]))
    }

    /// What a file says, of whatever kind.
    ///
    /// # Errors
    /// When it is neither TOML nor a JSON object.
    pub fn from_any_text(text: &str) -> Result<Self, Usage> {
        // No TOML document begins with a brace.
        let read = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
        } else {
            toml::from_str(text).map_err(|error| format!("not TOML: {error}"))
        };
        read.map(Self).map_err(Usage)
    }

    /// Begins with what a file says.
    ///
    /// # Errors
    /// When it is neither TOML nor a JSON object, or of another kind.
    pub fn from_text(kind: &str, text: &str) -> Result<Self, Usage> {
        let Self(mut fields) = Self::from_any_text(text)?;
        match fields.get("kind") {
            None => {}
            Some(found) if found == kind => {}
            Some(found) => return Err(Usage(format!("kind: is {found}: this command submits {kind:?}"))),
        }
        fields.insert("kind".to_owned(), kind.into());
        Ok(Self(fields))
    }

    /// Sets a field by its path (`optimizer.learning_rate`), making objects on the way.
    ///
    /// # Errors
    /// When the path goes through something that is not an object.
    pub fn set(&mut self, path: &str, value: impl Into<Value>) -> Result<(), Usage> {
        set_field(&mut self.0, path, value.into()).map_err(|error| Usage(error.to_string()))
    }

    /// Sets a field if there is a value for it.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn set_some(&mut self, path: &str, value: Option<impl Into<Value>>) -> Result<(), Usage> {
        value.map_or(Ok(()), |value| self.set(path, value))
    }

    /// What to send, once it is known to be right.
    ///
    /// # Errors
    /// What the coordinator would say: the field and what is wrong with it.
    pub fn checked(self) -> Result<Value, perito_domain::spec::SpecError> {
        let value = Value::Object(self.0);
        JobSpec::parse(value.clone())?;
        Ok(value)
    }
}

/// A value on the command line: JSON where it reads as JSON, otherwise text.
pub fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// An assignment on the command line: `path.to.field=value`.
///
/// # Errors
/// When there is no `=`.
pub fn assignment(text: &str) -> Result<(String, Value), String> {
    let (path, given) = text.split_once('=').ok_or("write path.to.field=value, as in optimizer.learning_rate=0.01")?;
    Ok((path.to_owned(), value(given)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_reach_into_objects_and_make_them() {
        let mut spec =
            Specification::from_text("train", r#"{"optimizer": {"name": "adam", "learning_rate": 1}}"#).unwrap();
        spec.set("optimizer.learning_rate", 0.5).unwrap();
        spec.set("augment.perspective.probability", 0.0).unwrap();
        spec.set_some("epochs", None::<u32>).unwrap();
        let expected = json!({
            "kind": "train", "optimizer": {"name": "adam", "learning_rate": 0.5},
            "augment": {"perspective": {"probability": 0.0}},
        });
        assert_eq!(Value::Object(spec.0), expected);
    }

    #[test]
    fn what_cannot_be_set_is_refused_by_its_path() {
        let mut spec = Specification::new("train");
        spec.set("optimizer", "sgd").unwrap();
        assert!(spec.set("optimizer.learning_rate", 1).unwrap_err().0.contains("optimizer.learning_rate"));
        for path in ["", ".", "a..b", "a."] {
            assert!(spec.set(path, 1).is_err(), "{path:?}");
        }
    }

    #[test]
    fn values_are_json_or_text() {
        assert_eq!(assignment("schedule={\"name\":\"cosine\"}").unwrap().1, json!({"name": "cosine"}));
        assert_eq!(assignment("a.b=0.01").unwrap(), ("a.b".to_owned(), json!(0.01)));
        assert_eq!(value("null"), Value::Null);
        assert_eq!(value("adamw"), json!("adamw"));
        assert_eq!(assignment("x=a=b").unwrap().1, json!("a=b"));
        assert!(assignment("epochs").is_err());
    }

    #[test]
    fn a_file_may_be_toml() {
        let spec = Specification::from_text("train", "epochs = 3 # short\n[optimizer]\nname = \"adam\"").unwrap();
        assert_eq!(Value::Object(spec.0), json!({"kind": "train", "epochs": 3, "optimizer": {"name": "adam"}}));
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        assert!(Specification::from_text("train", r#"{"kind": "score"}"#).unwrap_err().0.contains("score"));
        assert!(Specification::from_text("train", "[]").unwrap_err().0.contains("not TOML"));
        assert!(Specification::from_text("train", "{").unwrap_err().0.contains("not JSON"));
    }
}
