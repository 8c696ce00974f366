//! Walks a bucket's folder in the order of its keys, one page at a time.
//!
//! Listing a large prefix takes many pages. A page reads only the folders that can hold its keys, and looks at no file: s3s-fs
//! walks the whole bucket and inspects every match for each page.

use std::{fs, io, ops::ControlFlow, path::Path};

/// What is asked for.
pub(crate) struct Query<'a> {
    /// What keys start with.
    pub(crate) prefix: &'a str,
    /// Keys that have this after the prefix are rolled up into a common prefix.
    pub(crate) delimiter: Option<&'a str>,
    /// Only what sorts after this. Empty: from the start.
    pub(crate) after: &'a str,
    /// Entries in a page.
    pub(crate) limit: usize,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// An object's key.
    Key(String),
    /// A common prefix.
    Prefix(String),
}

impl Entry {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Key(text) | Self::Prefix(text) => text,
        }
    }
}

/// The next entries, and whether there are more.
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    pub(crate) truncated: bool,
}

/// Lists the bucket that is kept in `folder`.
pub(crate) fn page(folder: &Path, query: &Query<'_>) -> io::Result<Page> {
    let mut page = Page { entries: Vec::new(), truncated: false };
    if query.limit > 0 {
        let _ = walk(folder, "", query, &mut page)?;
    }
    Ok(page)
}

/// Adds what is below `folder`, whose keys start with `base`, until the page is full.
fn walk(folder: &Path, base: &str, query: &Query<'_>, page: &mut Page) -> io::Result<ControlFlow<()>> {
    // A folder sorts as its keys do, by its name and a slash: `a-b` is before `a/b`, which is before `ab`.
    let mut keys = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // Removed since its parent was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ControlFlow::Continue(())),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        // Every key is UTF-8, so this is not an object.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
        let key = format!("{base}{name}{slash}");
        if may_hold(&key, query) {
            keys.push(key);
        }
    }
    keys.sort_unstable();
    for key in keys {
        if key.ends_with('/') {
            let name = &key[base.len()..key.len() - 1];
            if walk(&folder.join(name), &key, query, page)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            continue;
        }
        let entry = roll_up(key, query);
        if entry.text() <= query.after || page.entries.last() == Some(&entry) {
            continue;
        }
        if page.entries.len() == query.limit {
            page.truncated = true;
            return Ok(ControlFlow::Break(()));
        }
        page.entries.push(entry);
    }
    Ok(ControlFlow::Continue(()))
}

/// Whether the key, or a key in the folder that it names, may be listed.
fn may_hold(key: &str, query: &Query<'_>) -> bool {
    let folder = key.ends_with('/');
    let wanted = key.starts_with(query.prefix) || (folder && query.prefix.starts_with(key));
    wanted && (key > query.after || (folder && query.after.starts_with(key)))
}

fn roll_up(mut key: String, query: &Query<'_>) -> Entry {
    let delimited = query.delimiter.filter(|delimiter| !delimiter.is_empty()).and_then(|delimiter| {
        key[query.prefix.len()..].find(delimiter).map(|at| query.prefix.len() + at + delimiter.len())
    });
    match delimited {
        Some(end) => {
            key.truncate(end);
            Entry::Prefix(key)
        }
        None => Entry::Key(key),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bucket(keys: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for key in keys {
            let path = folder.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    fn all(folder: &Path, prefix: &str, delimiter: Option<&str>, limit: usize) -> Vec<Vec<String>> {
        let (mut pages, mut after) = (Vec::new(), String::new());
        loop {
            let page = page(folder, &Query { prefix, delimiter, after: &after, limit }).unwrap();
            let texts: Vec<String> = page.entries.iter().map(|entry| entry.text().to_owned()).collect();
            after = texts.last().cloned().unwrap_or_default();
            pages.push(texts);
            if !page.truncated {
                return pages;
            }
        }
    }

    #[test]
    fn pages_hold_every_key_once_in_the_order_of_bytes() {
        let mut keys = vec!["a", "b-c/d", "b.jpg", "b/c/d", "b/e", "b0", "é/x", "z"];
        let folder = bucket(&keys);
        fs::create_dir(folder.path().join("empty")).unwrap();
        keys.sort_unstable();
        for limit in 1..=keys.len() + 1 {
            let pages = all(folder.path(), "", None, limit);
            assert_eq!(pages.concat(), keys);
            assert!(pages.iter().all(|page| page.len() <= limit && !page.is_empty()), "{pages:?}");
        }
    }

    #[test]
    fn a_prefix_need_not_end_at_a_folder() {
        let folder = bucket(&["b/c/1", "b/c/2", "b/cd", "b/e", "bc"]);
        assert_eq!(all(folder.path(), "b/c", None, 2).concat(), ["b/c/1", "b/c/2", "b/cd"]);
        assert_eq!(all(folder.path(), "b/c/", None, 1).concat(), ["b/c/1", "b/c/2"]);
        assert_eq!(all(folder.path(), "b/c/1", None, 9).concat(), ["b/c/1"]);
        assert_eq!(all(folder.path(), "x", None, 9).concat(), Vec::<String>::new());
    }

    #[test]
    fn a_delimiter_rolls_keys_up_across_pages() {
        let folder = bucket(&["b/c/1", "b/c/2", "b/d", "b-1", "b0/1", "z"]);
        for limit in 1..6 {
            assert_eq!(all(folder.path(), "", Some("/"), limit).concat(), ["b-1", "b/", "b0/", "z"]);
            assert_eq!(all(folder.path(), "b/", Some("/"), limit).concat(), ["b/c/", "b/d"]);
        }
        assert_eq!(all(folder.path(), "", Some("0/"), 9).concat(), ["b-1", "b/c/1", "b/c/2", "b/d", "b0/", "z"]);
    }
}
