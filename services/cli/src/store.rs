//! Photographs and weights on their way to S3, with the user's own credentials.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use md5::{Digest as _, Md5};
use perito_domain::{limits::MAX_UPLOAD_BYTES, photograph::media_type};
use perito_objects::{Checksums, ObjectStore, ObjectStoreOptions, ObjectSummary};
use perito_runtime::{ObjectStoreArgs, args, tls};

use crate::progress::Progress;

/// A file to upload.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Where it is.
    pub path: PathBuf,
    /// Where it goes.
    pub key: String,
    /// Its size.
    pub bytes: u64,
}

/// A client of the store.
///
/// # Errors
/// When the options cannot be right.
pub fn connect(args: &ObjectStoreArgs) -> anyhow::Result<ObjectStore> {
    let mut options = ObjectStoreOptions::new(args.s3_endpoint.clone(), &args.s3_region);
    options.access_key_id.clone_from(&args.s3_access_key_id);
    options.secret_access_key = args.secret_access_key()?.map(|secret| secret.expose().to_owned());
    options.certificate_authorities = tls::ca_bundle()?;
    options.checksums = match args.s3_checksums {
        args::Checksums::WhenRequired => Checksums::WhenRequired,
        args::Checksums::WhenSupported => Checksums::WhenSupported,
    };
    Ok(ObjectStore::new(options)?)
}

/// Uploads photographs, several at a time, except those that are there already with the same content. What is in the store then,
/// in the order of `uploads`, and how many had to be sent.
///
/// # Errors
/// Names the file or object. What was uploaded before stays: doing it again continues.
pub async fn upload(
    store: &ObjectStore,
    bucket: &str,
    uploads: &[Upload],
    concurrency: usize,
) -> anyhow::Result<(Vec<ObjectSummary>, u64)> {
    store.ensure_bucket(bucket).await?;
    let present = present(store, bucket, uploads).await?;
    let progress =
        Progress::with_bytes("uploading", uploads.len() as u64, uploads.iter().map(|upload| upload.bytes).sum());
    let one = |upload: &Upload| {
        let (upload, known) = (upload.clone(), present.get(upload.key.as_str()).cloned());
        let progress = &progress;
        async move {
            let outcome = put_photo(store, bucket, &upload, known).await?;
            progress.advance(1, upload.bytes);
            anyhow::Ok(outcome)
        }
    };
    let sent: Vec<(ObjectSummary, bool)> = stream::iter(uploads).map(one).buffered(concurrency).try_collect().await?;
    progress.finish();
    let changed = sent.iter().filter(|(_, changed)| *changed).count() as u64;
    Ok((sent.into_iter().map(|(object, _)| object).collect(), changed))
}

/// What the store has under the keys of these uploads: one listing rather than a request for each.
async fn present(
    store: &ObjectStore,
    bucket: &str,
    uploads: &[Upload],
) -> anyhow::Result<HashMap<String, ObjectSummary>> {
    let wanted: std::collections::HashSet<&str> = uploads.iter().map(|upload| upload.key.as_str()).collect();
    let prefix = common_prefix(uploads.iter().map(|upload| upload.key.as_str()));
    let mut present = HashMap::new();
    let mut objects = std::pin::pin!(store.list(bucket, prefix));
    while let Some(object) = objects.try_next().await? {
        if wanted.contains(object.key.as_str()) {
            present.insert(object.key.clone(), object);
        }
    }
    Ok(present)
}

/// The folder that all keys have in common.
fn common_prefix<'a>(mut keys: impl Iterator<Item = &'a str>) -> &'a str {
    let Some(first) = keys.next() else { return "" };
    let common = keys.fold(first.len(), |common, key| {
        first.bytes().zip(key.bytes()).take(common).take_while(|(a, b)| a == b).count()
    });
    // Up to a slash, so that it never ends within a character.
    first.as_bytes()[..common].iter().rposition(|byte| *byte == b'/').map_or("", |slash| &first[..=slash])
}

/// Sends a photograph unless the store has it; whether it was sent.
async fn put_photo(
    store: &ObjectStore,
    bucket: &str,
    upload: &Upload,
    known: Option<ObjectSummary>,
) -> anyhow::Result<(ObjectSummary, bool)> {
    let size = upload.bytes;
    ensure!(
        size <= MAX_UPLOAD_BYTES,
        "{} has {size} bytes, which is too large for a photograph: remove it (the limit is {MAX_UPLOAD_BYTES})",
        upload.path.display()
    );
    let bytes = read(&upload.path).await?;
    let size = bytes.len() as u64;
    // The ETag of an object that was put in one part is its MD5, but for some kinds of encryption: then it is sent again.
    if let Some(known) = known
        && known.size == size
        && known.etag == hex::encode(Md5::digest(&bytes))
    {
        return Ok((known, false));
    }
    let content_type = media_type(&upload.key).unwrap_or("application/octet-stream");
    let etag = store.put(bucket, &upload.key, bytes, content_type).await?.etag;
    Ok((ObjectSummary { key: upload.key.clone(), etag, size }, true))
}

/// A whole file.
///
/// # Errors
/// Names the file.
async fn read(path: &Path) -> anyhow::Result<Bytes> {
    let bytes = tokio::fs::read(path).await.with_context(|| format!("read {}", path.display()))?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_prefix_ends_with_a_folder() {
        for (keys, prefix) in [
            (&["datasets/demo/training/a.jpg", "datasets/demo/training/b.jpg"][..], "datasets/demo/training/"),
            (&["datasets/demo/training/a.jpg", "datasets/demo/validation/a.jpg"], "datasets/demo/"),
            (&["a.jpg", "ab.jpg"], ""),
            (&["x/é.jpg", "x/è.jpg"], "x/"),
            (&["x/a.jpg"], "x/"),
            (&[], ""),
        ] {
            assert_eq!(common_prefix(keys.iter().copied()), prefix);
        }
    }
}
