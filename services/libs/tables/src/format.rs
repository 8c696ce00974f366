//! Which format a file has.

use std::{fmt, path::Path, str::FromStr};

/// A format of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Comma-separated values with a header (RFC 4180), in UTF-8. An empty field is no value.
    Csv,
    /// One JSON object a line (<https://jsonlines.org>).
    JsonLines,
    /// Apache Parquet.
    Parquet,
}

/// A name that is none of the formats.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format {0:?}: expected csv, jsonl or parquet")]
pub struct UnknownFormat(pub String);

impl Format {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Csv, Self::JsonLines, Self::Parquet];

    /// The format's name, which is the usual ending of its files too.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::JsonLines => "jsonl",
            Self::Parquet => "parquet",
        }
    }

    /// The format that a file has by the ending of its name, in any case.
    pub fn of(path: &Path) -> Option<Self> {
        path.extension()?.to_str()?.parse().ok()
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> std::result::Result<Self, UnknownFormat> {
        match text.to_ascii_lowercase().as_str() {
            "csv" => Ok(Self::Csv),
            "jsonl" | "ndjson" => Ok(Self::JsonLines),
            "parquet" | "pq" => Ok(Self::Parquet),
            _ => Err(UnknownFormat(text.to_owned())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_tells_the_format_in_any_case() {
        for (path, format) in [
            ("a/b.csv", Some(Format::Csv)),
            ("b.JSONL", Some(Format::JsonLines)),
            ("b.ndjson", Some(Format::JsonLines)),
            ("night.2026.parquet", Some(Format::Parquet)),
            ("b.json", None),
            ("csv", None),
        ] {
            assert_eq!(Format::of(Path::new(path)), format, "{path}");
        }
        for format in Format::ALL {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
    }
}
