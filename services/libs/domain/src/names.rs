//! Names of models and datasets, and references to one version of them.

use std::{fmt, str::FromStr};

use crate::limits::MAX_NAME_BYTES;
use serde::{Deserialize, Serialize, de::Error as _};

/// A name or reference that is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a name.
    #[error(
        "{0:?} is not a valid name: use 1 to {MAX_NAME_BYTES} lower-case letters, digits, '-', '_' or '.', starting with a letter or digit"
    )]
    Name(String),
    /// The part behind `@` of a dataset is not a version.
    #[error("{0:?} is not a dataset reference: write NAME for the newest version or NAME@VERSION, as in demo@2")]
    DatasetVersion(String),
}

/// A checked name: 1 to 64 of `a-z 0-9 - _ .`, starting with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let well_formed = text.len() <= MAX_NAME_BYTES
            && text.starts_with(allowed)
            && text.chars().all(|c| allowed(c) || matches!(c, '-' | '_' | '.'));
        if well_formed { Ok(Self(text.to_owned())) } else { Err(NameError::Name(text.to_owned())) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which version of a model is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModelSelector {
    /// The highest version.
    Latest,
    /// This version.
    Version(i32),
    /// Whatever the alias points to when the job is planned.
    Alias(Name),
}

/// A reference to a model: `severity`, `severity@3` or `severity@production`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelRef {
    /// The model's name.
    pub name: Name,
    /// Which version of it.
    pub selector: ModelSelector,
}

impl FromStr for ModelRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((name, selector)) = text.split_once('@') else {
            return Ok(Self { name: text.parse()?, selector: ModelSelector::Latest });
        };
        let selector = match selector.parse::<i32>() {
            Ok(version) if version > 0 => ModelSelector::Version(version),
            _ => ModelSelector::Alias(selector.parse()?),
        };
        Ok(Self { name: name.parse()?, selector })
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            ModelSelector::Latest => write!(f, "{}", self.name),
            ModelSelector::Version(version) => write!(f, "{}@{version}", self.name),
            ModelSelector::Alias(alias) => write!(f, "{}@{alias}", self.name),
        }
    }
}

/// A reference to a dataset: `demo` (the newest version) or `demo@2`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DatasetRef {
    /// The dataset's name.
    pub name: Name,
    /// Which version; the newest when absent.
    pub version: Option<i32>,
}

impl FromStr for DatasetRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((name, version)) = text.split_once('@') else {
            return Ok(Self { name: text.parse()?, version: None });
        };
        let version = version
            .parse::<i32>()
            .ok()
            .filter(|version| *version > 0)
            .ok_or_else(|| NameError::DatasetVersion(text.to_owned()))?;
        Ok(Self { name: name.parse()?, version: Some(version) })
    }
}

impl fmt::Display for DatasetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

/// Serialises a type as its text form.
macro_rules! serde_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

serde_as_text!(Name, ModelRef, DatasetRef);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn references_survive_a_round_trip() {
        for text in ["severity", "severity@3", "severity@production", "resnet18-imagenet@1"] {
            assert_eq!(text.parse::<ModelRef>().unwrap().to_string(), text);
        }
        for text in ["demo", "demo@12"] {
            assert_eq!(text.parse::<DatasetRef>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_references_are_refused_by_name() {
        for text in ["", "Severity", "a b", "-x", "x@", "x@-1", "x@y@z", "../x", &"a".repeat(65)] {
            let refused = text.parse::<ModelRef>().unwrap_err().to_string();
            assert!(refused.contains("is not a valid name"), "{text:?}: {refused}");
        }
        assert!(matches!("demo@latest".parse::<DatasetRef>(), Err(NameError::DatasetVersion(_))));
        assert!(matches!("demo@0".parse::<DatasetRef>(), Err(NameError::DatasetVersion(_))));
    }
}
