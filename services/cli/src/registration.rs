//! Images on their way into the catalogue, in batches.

use std::{collections::HashMap, fs::File, io::Write as _, path::Path};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use crate::{
    api::{Api, NewImage},
    progress::Progress,
};

/// Images in one request: with the longest keys they stay well below the API's limit for a body.
pub const BATCH: usize = 5_000;

/// What became of all batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// How many were not known before.
    pub new: u64,
    /// How many were.
    pub known: u64,
    /// How many older versions of objects were superseded.
    pub superseded: u64,
}

/// Registers images; their numbers in the catalogue, in the same order.
///
/// # Errors
/// [`crate::api::ApiError`]. What was registered before stays: doing it again continues.
pub async fn register(
    api: &Api,
    images: &[NewImage],
    totals: &mut Totals,
    progress: &Progress,
) -> anyhow::Result<Vec<i64>> {
    let mut ids = Vec::with_capacity(images.len());
    for batch in batches(images) {
        let registered = api.register(batch).await.context("register images")?.value;
        anyhow::ensure!(
            registered.ids.len() == batch.len(),
            "register images: the API answered {} numbers for {} images",
            registered.ids.len(),
            batch.len()
        );
        totals.new += registered.new;
        totals.known += registered.known;
        totals.superseded += registered.superseded;
        ids.extend(registered.ids);
        progress.advance(batch.len() as u64, 0);
    }
    Ok(ids)
}

/// Parts in their order, none of which is too long or has two versions of one object: of those the later one stays.
fn batches(images: &[NewImage]) -> Vec<&[NewImage]> {
    let mut batches = Vec::new();
    let mut rest = images;
    while !rest.is_empty() {
        let mut etags: HashMap<(&str, &str), &str> = HashMap::new();
        let mut length = 0;
        for image in rest.iter().take(BATCH) {
            if *etags.entry((&image.bucket, &image.key)).or_insert(&image.etag) != image.etag {
                break;
            }
            length += 1;
        }
        let (batch, others) = rest.split_at(length);
        batches.push(batch);
        rest = others;
    }
    batches
}

/// What cannot be registered: told on standard error, as far as people read it, and written to a file if there is one.
#[derive(Debug)]
pub struct Refused {
    count: u64,
    file: Option<(String, File)>,
}

impl Refused {
    /// More are only counted.
    const SHOWN: u64 = 10;

    /// Nothing yet.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(file: Option<&Path>) -> anyhow::Result<Self> {
        let make = |path: &Path| {
            let name = path.display().to_string();
            File::create(path).map(|file| (name, file)).with_context(|| format!("write {}", path.display()))
        };
        Ok(Self { count: 0, file: file.map(make).transpose()? })
    }

    /// One more.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add(&mut self, place: &str, reason: &str, progress: &Progress) -> anyhow::Result<()> {
        self.count += 1;
        match self.count {
            ..=Self::SHOWN => progress.tell(&format!("refused: {place}: {reason}")),
            count if count == Self::SHOWN + 1 => progress.tell("refused: and more"),
            _ => {}
        }
        if let Some((name, file)) = &mut self.file {
            let line = json!({ "place": place, "reason": reason });
            writeln!(file, "{line}").with_context(|| format!("write {name}"))?;
        }
        Ok(())
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_versions_of_an_object_are_not_in_one_batch() {
        let image = |key: &str, etag: &str| NewImage {
            bucket: "b".to_owned(),
            key: key.to_owned(),
            etag: etag.to_owned(),
            size_bytes: 1,
            claim_id: None,
            label: None,
        };
        let images =
            [image("a", "1"), image("b", "1"), image("a", "1"), image("a", "2"), image("c", "1"), image("a", "1")];
        let lengths: Vec<_> = batches(&images).iter().map(|batch| batch.len()).collect();
        assert_eq!(lengths, [3, 2, 1]);
        let many = vec![image("a", "1"); 2 * BATCH + 1];
        assert_eq!(batches(&many).len(), 3);
        assert!(batches(&[]).is_empty());
    }
}
