//! Who did something and why, as it is recorded.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de::Error as _};

/// Text that cannot be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a {what}: write 1 to {most} characters, none of them a control character, without spaces at the ends"
)]
pub struct AuditError {
    what: &'static str,
    text: String,
    most: usize,
}

/// Checked text with a length limit in characters.
macro_rules! audit_text {
    ($(#[$meta:meta])* $name:ident, $what:literal, $most:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = AuditError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let well_formed = text.trim() == text
                    && (1..=$most).contains(&text.chars().count())
                    && !text.chars().any(char::is_control);
                if well_formed {
                    return Ok(Self(text.to_owned()));
                }
                let text = text.chars().take(80).collect();
                Err(AuditError { what: $what, text, most: $most })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

audit_text! {
    /// Who: a user's name, as the caller tells it.
    Person, "person", 64
}
audit_text! {
    /// Why.
    Reason, "reason", 500
}

/// Who wants something, and why, as far as they tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    /// Who.
    pub by: Option<Person>,
    /// Why.
    pub reason: Option<Reason>,
}

impl Signature {
    /// Who, as text.
    pub fn by(&self) -> Option<&str> {
        self.by.as_ref().map(Person::as_str)
    }

    /// Why, as text.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_ref().map(Reason::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_bounded_and_printable() {
        for good in ["ana", "Ana María", "ci@perito", &"é".repeat(64)] {
            assert!(good.parse::<Person>().is_ok(), "{good}");
        }
        for bad in ["", " ana", "ana\n", "a\u{7}b", "a\0b", &"x".repeat(65)] {
            assert!(bad.parse::<Person>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(500).parse::<Reason>().is_ok() && "x".repeat(501).parse::<Reason>().is_err());
        let refused = "x".repeat(5000).parse::<Reason>().map_err(|error| error.to_string());
        assert!(refused.is_err_and(|text| text.len() < 300 && text.contains("1 to 500 characters")));
    }
}
