//! What a photograph in the catalogue is called, checked: buckets, keys, ETags and claim ids come from other systems.

use crate::limits::{MAX_BUCKET_BYTES, MAX_CLAIM_ID_BYTES, MAX_ETAG_BYTES, MAX_KEY_BYTES};

/// Endings of the files that Perito reads, in lower case, and their media types.
pub const IMAGE_TYPES: [(&str, &str); 6] = [
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("jpe", "image/jpeg"),
    ("jfif", "image/jpeg"),
    ("png", "image/png"),
    ("webp", "image/webp"),
];

/// The media type of an image file, by its ending in any case; `None` when it is none that Perito reads.
pub fn media_type(name: &str) -> Option<&'static str> {
    let (_, ending) = name.rsplit('/').next()?.rsplit_once('.')?;
    IMAGE_TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(ending)).map(|(_, media_type)| *media_type)
}

/// As much of a text as an error shows.
const SHOWN_CHARS: usize = 80;

/// What the catalogue knows a photograph by.
#[derive(Debug, Clone, Copy)]
pub struct Photograph<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The key in the bucket.
    pub key: &'a str,
    /// The object's ETag, without quotes.
    pub etag: &'a str,
    /// The object's size in bytes.
    pub size_bytes: i64,
    /// The claim that it belongs to.
    pub claim_id: Option<&'a str>,
}

/// A field of a photograph that cannot be so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidPhotograph {
    /// The field's name.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl Photograph<'_> {
    /// Refuses what the catalogue does not take: texts that are empty or too long, control characters, a size below 0.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn check(&self) -> Result<(), InvalidPhotograph> {
        check_text("bucket", self.bucket, MAX_BUCKET_BYTES)?;
        check_text("key", self.key, MAX_KEY_BYTES)?;
        check_text("etag", self.etag, MAX_ETAG_BYTES)?;
        if let Some(claim_id) = self.claim_id {
            check_text("claim_id", claim_id, MAX_CLAIM_ID_BYTES)?;
        }
        if self.size_bytes < 0 {
            return Err(InvalidPhotograph { field: "size_bytes", problem: format!("is {}, below 0", self.size_bytes) });
        }
        Ok(())
    }
}

fn check_text(field: &'static str, text: &str, most: usize) -> Result<(), InvalidPhotograph> {
    let problem = if !(1..=most).contains(&text.len()) {
        format!("has {} bytes: expected 1 to {most}", text.len())
    } else if let Some(control) = text.chars().find(|character| character.is_control()) {
        // Escaped, so that nothing of it acts on the terminal or the log that shows it.
        let start: String = text.chars().take(SHOWN_CHARS).collect();
        format!("{start:?} has the control character U+{:04X}: none is allowed", u32::from(control))
    } else {
        return Ok(());
    };
    Err(InvalidPhotograph { field, problem })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GOOD: Photograph<'_> =
        Photograph {
            bucket: "claims", key: "2026/ñandú +1.jpg", etag: "9b2c-3", size_bytes: 0, claim_id: Some("C 7")
        };

    #[test]
    fn images_are_known_by_their_ending_in_any_case() {
        for (name, expected) in [
            ("a.JPEG", Some("image/jpeg")),
            ("x/y.Png", Some("image/png")),
            ("b.webp", Some("image/webp")),
            ("notes.txt", None),
            ("jpg", None),
            ("x.jpg/readme", None),
        ] {
            assert_eq!(media_type(name), expected, "{name}");
        }
    }

    #[test]
    fn the_first_field_that_is_wrong_is_named() {
        GOOD.check().unwrap();
        Photograph { claim_id: None, ..GOOD }.check().unwrap();
        let long = "é".repeat(600);
        for (wrong, field, words) in [
            (Photograph { bucket: "", ..GOOD }, "bucket", "expected 1 to 63"),
            (Photograph { key: &long, ..GOOD }, "key", "has 1200 bytes: expected 1 to 1024"),
            (Photograph { key: "a\u{1b}[2Jb", ..GOOD }, "key", "\"a\\u{1b}[2Jb\" has the control character U+001B"),
            (Photograph { etag: "", ..GOOD }, "etag", "has 0 bytes"),
            (Photograph { claim_id: Some("C\n7"), ..GOOD }, "claim_id", "U+000A"),
            (Photograph { claim_id: Some("C\u{85}"), ..GOOD }, "claim_id", "U+0085"),
            (Photograph { claim_id: Some(&long[..130]), ..GOOD }, "claim_id", "expected 1 to 128"),
            (Photograph { size_bytes: -1, ..GOOD }, "size_bytes", "below 0"),
        ] {
            let refused = wrong.check().unwrap_err();
            assert_eq!(refused.field, field);
            assert!(refused.to_string().contains(words), "{refused}");
        }
    }
}
