//! Which buckets' events are taken.

use std::{fmt, str::FromStr};

/// A bucket, or what starts with a prefix in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    bucket: String,
    prefix: String,
}

impl FromStr for Watched {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        if bucket.is_empty() || bucket.len() > perito_domain::limits::MAX_BUCKET_BYTES {
            return Err("expected BUCKET or BUCKET/PREFIX, as in claims or perito/backlog/".to_owned());
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.prefix)
    }
}

/// What is to be done with an object's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    /// They are taken.
    Taken,
    /// The bucket is watched, and this key is not among those that are.
    PassedOver,
    /// Nobody expects events of this bucket.
    Unknown,
}

/// What is to be done with events of this object.
pub(super) fn interest(watched: &[Watched], bucket: &str, key: &str) -> Interest {
    let mut of_bucket = watched.iter().filter(|watched| watched.bucket == bucket).peekable();
    if of_bucket.peek().is_none() {
        Interest::Unknown
    } else if of_bucket.any(|watched| key.starts_with(&watched.prefix)) {
        Interest::Taken
    } else {
        Interest::PassedOver
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_watched_whole_or_by_prefix() {
        let watched: Vec<Watched> =
            ["claims", "perito/backlog/", "perito/inbox/"].map(|text| text.parse().unwrap()).into();
        for (bucket, key, expected) in [
            ("claims", "any/thing.jpg", Interest::Taken),
            ("perito", "backlog/c/1.jpg", Interest::Taken),
            ("perito", "inbox/1.jpg", Interest::Taken),
            ("perito", "datasets/demo/1.jpg", Interest::PassedOver),
            ("claims2", "any/thing.jpg", Interest::Unknown),
        ] {
            assert_eq!(interest(&watched, bucket, key), expected, "{bucket}/{key}");
        }
        for wrong in ["", "/x", &"b".repeat(64)] {
            assert!(wrong.parse::<Watched>().is_err(), "{wrong}");
        }
    }
}
