//! Folders of photographs: on disk, and the same layout as keys in S3.

pub mod labelled;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use perito_domain::photograph::{IMAGE_TYPES, media_type};
use walkdir::WalkDir;

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
