//! Labelled photographs: `training/01-minor/a.jpg`, `validation/severe/b.png`, on disk and in S3.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use perito_domain::{Severity, photograph::media_type, spec::Split};

use super::{PhotoFile, search};
use crate::exit::Usage;

/// What a folder of splits and classes should look like.
const LAYOUT: &str =
    "expected training/ and validation/, each with class folders such as 01-minor, 02-moderate, 03-severe";

/// A labelled photograph on disk. Its name begins with the split: `training/01-minor/a.jpg`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledPhoto {
    /// The file.
    pub file: PhotoFile,
    /// What it is for.
    pub split: Split,
    /// What it shows.
    pub label: Severity,
}

/// A labelled folder.
#[derive(Debug, Default)]
pub struct LabelledFolder {
    /// The photographs, by name.
    pub photos: Vec<LabelledPhoto>,
    /// Whatever else lay in class and split folders.
    pub skipped: Vec<PathBuf>,
}

/// The split that a folder's name means, in any case.
fn split(name: &str) -> Option<Split> {
    match name.to_ascii_lowercase().as_str() {
        "training" | "train" => Some(Split::Training),
        "validation" | "valid" | "val" => Some(Split::Validation),
        _ => None,
    }
}

/// Reads a folder of splits and classes. Other folders beside the splits are none of its business.
///
/// # Errors
/// Names the path and the way out when the folder is not laid out so, or has no images.
pub fn read(folder: &Path) -> anyhow::Result<LabelledFolder> {
    let mut found = LabelledFolder::default();
    let mut splits: Vec<(Split, PathBuf)> = Vec::new();
    for (path, name) in folders(folder)?.0 {
        let Some(split) = split(&name) else { continue };
        if let Some((_, other)) = splits.iter().find(|(known, _)| *known == split) {
            bail!(Usage(format!("{} and {} are both the {split} split: keep one", other.display(), path.display())));
        }
        splits.push((split, path));
    }
    if splits.is_empty() {
        let hint = if folders(folder)?.0.iter().any(|(_, name)| name.parse::<Severity>().is_ok()) {
            "; it has class folders: move them into training/ and some of their images into validation/"
        } else {
            ""
        };
        bail!(Usage(format!("{} has no split folders: {LAYOUT}{hint}", folder.display())));
    }
    for (split, path) in splits {
        read_split(split, &path, &mut found)?;
    }
    if found.photos.is_empty() {
        bail!(Usage(format!(
            "{} has no images: put files that end in jpg, jpeg, png or webp into its class folders",
            folder.display()
        )));
    }
    Ok(found)
}

/// The folder, itself or below, that has splits, for what came packed into folders of its own. The folder itself when there is none, so that
/// [`read`] can say what is wrong with it.
///
/// # Errors
/// When several folders have splits: names them.
pub fn find(folder: &Path) -> anyhow::Result<PathBuf> {
    /// Folders that people wrap a dataset into.
    const DEPTH: usize = 4;
    let has_splits = |path: &Path| {
        let found = fs::read_dir(path).into_iter().flatten().flatten();
        found.filter(|entry| entry.path().is_dir()).any(|entry| split(&entry.file_name().to_string_lossy()).is_some())
    };
    let mut roots = Vec::new();
    for entry in walkdir::WalkDir::new(folder).max_depth(DEPTH).sort_by_file_name() {
        let entry = entry.with_context(|| format!("search {}", folder.display()))?;
        if entry.file_type().is_dir() && has_splits(entry.path()) {
            roots.push(entry.into_path());
        }
    }
    match roots.as_slice() {
        [] => Ok(folder.to_owned()),
        [root] => Ok(root.clone()),
        several => {
            let below = |path: &PathBuf| path.strip_prefix(folder).unwrap_or(path).display().to_string();
            let names: Vec<String> = several.iter().map(below).collect();
            bail!(Usage(format!(
                "several folders have training and validation splits: {}; name one with --folder",
                names.join(", ")
            )))
        }
    }
}

fn read_split(split: Split, folder: &Path, found: &mut LabelledFolder) -> anyhow::Result<()> {
    let (classes, files) = folders(folder)?;
    found.skipped.extend(files);
    if classes.is_empty() {
        bail!(Usage(format!("{} has no class folders: {LAYOUT}", folder.display())));
    }
    for (path, class) in classes {
        let label = class.parse::<Severity>().map_err(|error| {
            Usage(format!("{}: {error}; rename the folder or move it out of {}", path.display(), folder.display()))
        })?;
        let below = search(&path)?;
        found.skipped.extend(below.skipped);
        found.photos.extend(below.photos.into_iter().map(|mut file| {
            file.name = format!("{split}/{class}/{}", file.name);
            LabelledPhoto { file, split, label }
        }));
    }
    Ok(())
}

/// The folders in a folder with their names, sorted, and the files. Hidden folders are left out.
type Contents = (Vec<(PathBuf, String)>, Vec<PathBuf>);

fn folders(folder: &Path) -> anyhow::Result<Contents> {
    if !folder.is_dir() {
        let what = if folder.exists() { "is not a folder" } else { "does not exist" };
        bail!(Usage(format!("{} {what}: name a folder; {LAYOUT}", folder.display())));
    }
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    let reading = || format!("read the folder {}", folder.display());
    for entry in fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.path().is_dir() {
            files.push(entry.path());
        } else if !name.starts_with('.') {
            folders.push((entry.path(), name));
        }
    }
    folders.sort();
    files.sort();
    Ok((folders, files))
}

/// The split and label that the part of a key below a prefix says: `training/01-minor/a.jpg`. `None` when it is no image of a split.
///
/// # Errors
/// When it lies in a split, but not in a class folder.
pub fn of_key(below: &str) -> Result<Option<(Split, Severity)>, Usage> {
    let mut names = below.split('/');
    let Some(split) = names.next().and_then(split) else { return Ok(None) };
    if media_type(below).is_none() {
        return Ok(None);
    }
    match (names.next(), names.next()) {
        (Some(class), Some(_)) => match class.parse() {
            Ok(label) => Ok(Some((split, label))),
            Err(error) => Err(Usage(format!("{below}: {error}"))),
        },
        _ => Err(Usage(format!("{below} lies in no class folder: {LAYOUT}"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            if file.ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file).unwrap();
            }
        }
        folder
    }

    fn refusal(files: &[&str]) -> String {
        let folder = folder(files);
        let error = read(folder.path()).unwrap_err();
        assert_eq!(crate::exit::code(&error), 2, "{error:#}");
        error.to_string()
    }

    #[test]
    fn splits_and_classes_are_read_as_people_name_them() {
        let folder = folder(&[
            "Train/01-minor/a.JPEG",
            "Train/02_Moderate/more/b.png",
            "Train/readme.txt",
            "val/SEVERE/c.webp",
            "val/SEVERE/Thumbs.db",
            "val/SEVERE/._c.jpg",
            "backlog/claim-1/d.jpg",
            ".git/x.jpg",
        ]);
        let found = read(folder.path()).unwrap();
        let names: Vec<_> =
            found.photos.iter().map(|photo| (photo.file.name.as_str(), photo.split, photo.label)).collect();
        let expected = [
            ("training/01-minor/a.JPEG", Split::Training, Severity::Minor),
            ("training/02_Moderate/more/b.png", Split::Training, Severity::Moderate),
            ("validation/SEVERE/c.webp", Split::Validation, Severity::Severe),
        ];
        assert_eq!(names, expected);
        assert_eq!(found.photos[0].file.bytes, "Train/01-minor/a.JPEG".len() as u64);
        assert_eq!(found.skipped.len(), 3, "{:?}", found.skipped);
    }

    #[test]
    fn what_is_not_laid_out_so_is_refused_by_its_path() {
        assert!(refusal(&["a.jpg"]).contains("no split folders"));
        assert!(refusal(&["01-minor/a.jpg"]).contains("move them into training/"));
        let text = refusal(&["training/a.jpg"]);
        assert!(text.contains("training has no class folders") && text.contains("01-minor"), "{text}");
        let text = refusal(&["training/minor/a.jpg", "training/04-total/b.jpg"]);
        assert!(text.contains("training/04-total") && text.contains("rename"), "{text}");
        assert!(refusal(&["training/minor/", "training/severe/notes.txt"]).contains("has no images"));
        assert!(refusal(&["train/minor/a.jpg", "training/minor/a.jpg"]).contains("keep one"));
        let missing = read(Path::new("/does/not/exist")).unwrap_err().to_string();
        assert!(missing.contains("/does/not/exist does not exist"), "{missing}");
    }

    #[test]
    fn splits_are_found_below_folders_that_wrap_them() {
        let wrapped = folder(&["data3a/training/01-minor/a.jpg", "data3a/validation/01-minor/b.jpg"]);
        assert_eq!(find(wrapped.path()).unwrap(), wrapped.path().join("data3a"));
        let bare = folder(&["training/minor/a.jpg"]);
        assert_eq!(find(bare.path()).unwrap(), bare.path());
        let none = folder(&["a.jpg"]);
        assert_eq!(find(none.path()).unwrap(), none.path());
        let two = folder(&["a/training/minor/a.jpg", "b/x/val/minor/a.jpg"]);
        let text = find(two.path()).unwrap_err().to_string();
        assert!(text.contains("a, b/x") && text.contains("--folder"), "{text}");
    }

    #[test]
    fn keys_follow_the_same_layout() {
        assert_eq!(of_key("training/01-minor/a.jpg").unwrap(), Some((Split::Training, Severity::Minor)));
        assert_eq!(of_key("val/severe/deep/b.PNG").unwrap(), Some((Split::Validation, Severity::Severe)));
        assert_eq!(of_key("training/minor/list.csv").unwrap(), None);
        assert_eq!(of_key("backlog/claim/a.jpg").unwrap(), None);
        assert!(of_key("training/a.jpg").unwrap_err().0.contains("no class folder"));
        assert!(of_key("training/total/a.jpg").unwrap_err().0.contains("total"));
    }
}
