//! Folders of photographs: on disk, and the same layout as keys in S3.

pub mod claims;
pub mod labelled;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use walkdir::WalkDir;

/// Endings of the files that Perito reads, in lower case, and their media types.
const IMAGE_TYPES: [(&str, &str); 6] = [
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("jpe", "image/jpeg"),
    ("jfif", "image/jpeg"),
    ("png", "image/png"),
    ("webp", "image/webp"),
];

/// A photograph on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhotoFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its path below the folder that was searched, with `/` between names.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// What a search has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The photographs, by name.
    pub photos: Vec<PhotoFile>,
    /// Whatever else lay there.
    pub skipped: Vec<PathBuf>,
}

/// The media type of an image file, by its ending in any case; `None` when it is none that Perito reads.
pub fn media_type(name: &str) -> Option<&'static str> {
    let (_, ending) = name.rsplit('/').next()?.rsplit_once('.')?;
    IMAGE_TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(ending)).map(|(_, media_type)| *media_type)
}

/// Everything below a folder, in the order of names. Links are followed.
///
/// # Errors
/// Names what cannot be read, and files whose names are not Unicode: a key in S3 has to be.
pub fn search(folder: &Path) -> anyhow::Result<Found> {
    let mut found = Found::default();
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = entry.with_context(|| format!("search {}", folder.display()))?;
        if entry.file_type().is_dir() {
            continue;
        }
        let path = entry.path();
        let below = path.strip_prefix(folder).unwrap_or(path);
        let names: Option<Vec<&str>> = below.iter().map(|name| name.to_str()).collect();
        let name = names
            .with_context(|| {
                format!("the name of {} is not Unicode: rename it, a key in S3 has to be", path.display())
            })?
            .join("/");
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if hidden || media_type(&name).is_none() {
            found.skipped.push(path.to_owned());
            continue;
        }
        let bytes = entry.metadata().with_context(|| format!("look at {}", path.display()))?.len();
        found.photos.push(PhotoFile { path: path.to_owned(), name, bytes });
    }
    Ok(found)
}

/// Says on standard error what was left out, if anything.
pub fn tell_skipped<T: std::fmt::Display>(skipped: impl ExactSizeIterator<Item = T>) {
    const SHOWN: usize = 5;
    let count = skipped.len();
    if count == 0 {
        return;
    }
    let endings = IMAGE_TYPES.map(|(ending, _)| ending).join(", ");
    eprintln!("skipped {count} files that are not images by their names ({endings}):");
    for name in skipped.take(SHOWN) {
        eprintln!("  {name}");
    }
    if count > SHOWN {
        eprintln!("  and {} more", count - SHOWN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
