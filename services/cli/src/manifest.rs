//! Photographs that are named by the rows of a file.

use std::path::Path;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use perito_domain::{Severity, claims::ClaimRule};
use perito_objects::{ErrorKind, ObjectStore};
use perito_runtime::ObjectStoreArgs;
use perito_tables::{Format, ReadOptions, Reader};
use serde::Deserialize;

use crate::{api::NewImage, exit::Usage, store};

/// The columns of a manifest.
const COLUMNS: &[&str] = &["bucket", "key", "etag", "size_bytes", "claim_id", "label"];

/// A row as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestRow {
    bucket: Option<String>,
    key: String,
    etag: Option<String>,
    size_bytes: Option<u64>,
    claim_id: Option<String>,
    label: Option<Severity>,
}

/// A row, or what is wrong with it, and its place.
pub type Placed<T> = (String, Result<T, String>);

/// A file of rows, one batch at a time.
pub struct Manifest {
    reader: Reader<ManifestRow>,
}

impl Manifest {
    /// Opens a file, or standard input for `-`.
    ///
    /// # Errors
    /// It cannot be opened or has no header; standard input without a format.
    pub fn open(file: &Path, format: Option<Format>, ignore_other_columns: bool) -> anyhow::Result<Self> {
        let options = ReadOptions { format, columns: ignore_other_columns.then_some(COLUMNS) };
        let reader = if file == Path::new("-") {
            let format =
                format.ok_or_else(|| Usage("standard input has no ending: say --format csv or jsonl".to_owned()))?;
            Reader::from_stream("standard input", Box::new(std::io::stdin()), format, &options)?
        } else {
            Reader::open(file, &options)?
        };
        Ok(Self { reader })
    }

    /// The next rows, at most so many; and at the end of the file, or where it cannot be read any further, that.
    pub fn next_batch(&mut self, most: usize) -> (Vec<Placed<ManifestRow>>, Option<anyhow::Result<()>>) {
        // Reading a disk blocks the thread, and other tasks have others.
        tokio::task::block_in_place(|| {
            let mut batch = Vec::new();
            while batch.len() < most {
                match self.reader.next() {
                    None => return (batch, Some(Ok(()))),
                    Some(Ok(row)) => batch.push((row.place.to_string(), Ok(row.value))),
                    Some(Err(error)) if error.kind() == perito_tables::ErrorKind::Row => {
                        batch.push((error.place().to_string(), Err(error.problem().to_owned())));
                    }
                    Some(Err(error)) => return (batch, Some(Err(error.into()))),
                }
            }
            (batch, None)
        })
    }

    /// The share of the file that was read; `None` for standard input.
    pub fn share(&self) -> Option<f64> {
        self.reader.share()
    }
}

/// Completes rows: by what S3 tells of the object, and by what the key tells of the claim.
pub struct Lookup<'a> {
    args: &'a ObjectStoreArgs,
    /// Connected when the first row needs it: a manifest that says everything needs no access to S3.
    store: Option<ObjectStore>,
    rule: ClaimRule,
    concurrency: usize,
}

impl<'a> Lookup<'a> {
    /// At most so many lookups at once.
    pub fn new(args: &'a ObjectStoreArgs, rule: ClaimRule, concurrency: usize) -> Self {
        Self { args, store: None, rule, concurrency }
    }

    /// Makes photographs of rows, in their order, or tells what is wrong with one.
    ///
    /// # Errors
    /// S3 does not answer, or not to us.
    pub async fn complete(&mut self, rows: Vec<Placed<ManifestRow>>) -> anyhow::Result<Vec<Placed<NewImage>>> {
        let incomplete = |row: &ManifestRow| row.etag.is_none() || row.size_bytes.is_none();
        if self.store.is_none() && rows.iter().any(|(_, row)| row.as_ref().is_ok_and(incomplete)) {
            self.store = Some(store::connect(self.args)?);
        }
        let this = &*self;
        stream::iter(rows)
            .map(async |(place, row)| {
                let outcome = match row {
                    Ok(row) => this.image(row).await.with_context(|| place.clone())?,
                    Err(reason) => Err(reason),
                };
                anyhow::Ok((place, outcome))
            })
            .buffered(self.concurrency)
            .try_collect()
            .await
    }

    async fn image(&self, row: ManifestRow) -> anyhow::Result<Result<NewImage, String>> {
        let bucket = row.bucket.unwrap_or_else(|| self.args.s3_bucket.clone());
        let etag = row.etag.map(|etag| etag.trim_matches('"').to_owned());
        let mut image = NewImage {
            claim_id: row.claim_id.or_else(|| self.rule.claim_id(&row.key)),
            key: row.key,
            label: row.label,
            size_bytes: row.size_bytes.unwrap_or_default(),
            // Whatever is looked up is not empty.
            etag: etag.clone().unwrap_or_else(|| "unknown".to_owned()),
            bucket,
        };
        if let Err(error) = image.check() {
            return Ok(Err(error.to_string()));
        }
        if etag.is_some() && row.size_bytes.is_some() {
            return Ok(Ok(image));
        }
        let Some(store) = &self.store else { return Ok(Err("its ETag or size is missing".to_owned())) };
        let object = match store.head(&image.bucket, &image.key).await {
            Ok(object) => object,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Err(format!("there is no s3://{}/{}", image.bucket, image.key)));
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(etag) = etag.filter(|etag| *etag != object.etag) {
            let problem = format!("its ETag is {etag}, that of s3://{}/{} is {}", image.bucket, image.key, object.etag);
            return Ok(Err(format!("{problem}: the manifest is out of date")));
        }
        (image.etag, image.size_bytes) = (object.etag, row.size_bytes.unwrap_or(object.size));
        Ok(image.check().map(|()| image).map_err(|error| error.to_string()))
    }
}
