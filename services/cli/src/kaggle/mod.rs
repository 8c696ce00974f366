//! Datasets from Kaggle: named, downloaded, unpacked.
//!
//! | module | holds |
//! |---|---|
//! | [`download`] | the archive: resumed where it stopped, checked against the size and MD5 that the server gives |
//! | [`mod@unpack`] | its images on disk, within limits, never outside the folder |
//! | [`error`] | what can go wrong |

pub mod download;
pub mod error;
pub mod unpack;

use std::{fmt, str::FromStr};

pub use download::{Archive, Kaggle, Pace};
pub use error::Error;
pub use unpack::{Limits, Unpacked, unpack};

/// A dataset on Kaggle: `OWNER/NAME`, at a version or the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Whose it is.
    pub owner: String,
    /// Its name.
    pub name: String,
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let below = text.strip_prefix("https://www.kaggle.com/datasets/").unwrap_or(text).trim_end_matches('/');
        let slug = |part: &str| {
            (1..=100).contains(&part.len()) && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        };
        match below.split_once('/') {
            Some((owner, name)) if slug(owner) && slug(name) => {
                Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
            }
            _ => Err("write OWNER/NAME, as in https://www.kaggle.com/datasets/OWNER/NAME".to_owned()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn datasets_are_named_by_owner_and_name() {
        let source: Source = "https://www.kaggle.com/datasets/ana/car-damage/".parse().unwrap();
        assert_eq!(source, "ana/car-damage".parse().unwrap());
        for wrong in ["car-damage", "ana/", "a/b/c", "ana/../x", "ana/a b", "https://example.com/ana/x"] {
            assert!(wrong.parse::<Source>().is_err(), "{wrong}");
        }
    }
}
