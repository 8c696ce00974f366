//! Which files are meant, and their bytes.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use perito_domain::failure::FailureReason;
use perito_vision::Limits;
use walkdir::WalkDir;

/// Endings of the files that are graded when a folder is named, in lower case.
const ENDINGS: [&str; 6] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp"];

/// The photographs: files as they are named, and what lies below folders in the order of names. Links are followed.
///
/// # Errors
/// Names a folder that cannot be searched, or has no photographs.
pub fn search(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            // One that is not there is a row like any other that cannot be graded.
            found.push(path.clone());
            continue;
        }
        let before = found.len();
        for entry in WalkDir::new(path).follow_links(true).sort_by_file_name() {
            let entry = entry.with_context(|| format!("search {}", path.display()))?;
            if entry.file_type().is_file() && is_photograph(entry.path()) {
                found.push(entry.into_path());
            }
        }
        ensure!(found.len() > before, "no photographs below {}: they end in .{}", path.display(), ENDINGS.join(", ."));
    }
    Ok(found)
}

fn is_photograph(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    !hidden && ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// A whole file, unless it is larger than the limit.
///
/// # Errors
/// As a row has it: the reason, and a line for a person.
pub fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>, (FailureReason, String)> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => (FailureReason::Missing, "there is no such file".to_owned()),
        _ => (FailureReason::Missing, format!("it cannot be read: {error}")),
    };
    let mut bytes = Vec::new();
    // A byte more than the limit, by which the decoder knows it; a file that grows, or has no length, is no more than that either.
    File::open(path).map_err(failed)?.take(limits.max_bytes + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_searched_and_files_taken_as_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("claim")).unwrap();
        for name in ["b.JPG", "claim/a.png", ".hidden.jpg", "notes.txt"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let named = folder.path().join("notes.txt");
        let found = search(&[folder.path().to_owned(), named.clone(), PathBuf::from("gone.jpg")]).unwrap();
        let expected = [folder.path().join("b.JPG"), folder.path().join("claim/a.png"), named, "gone.jpg".into()];
        assert_eq!(found, expected);

        let empty = tempfile::tempdir().unwrap();
        assert!(search(&[empty.path().to_owned()]).unwrap_err().to_string().contains("no photographs below"));
    }

    #[test]
    fn no_more_than_the_limit_is_read() {
        let limits = Limits { max_bytes: 4, ..Limits::default() };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0; 100]).unwrap();
        assert_eq!(read(file.path(), &limits).unwrap().len(), 5);
        assert_eq!(read("gone.jpg".as_ref(), &limits).unwrap_err().0, FailureReason::Missing);
    }
}
