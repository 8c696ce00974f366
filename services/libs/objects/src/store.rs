//! The client.

use std::{sync::Arc, time::Duration};

use aws_sdk_s3::{Client, primitives::ByteStream};
use backon::{ExponentialBuilder, Retryable};
use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};

use crate::{
    error::{Error, ErrorKind, Result},
    options::ObjectStoreOptions,
};

/// An S3-compatible store. Clones share its connections.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    client: Client,
    options: Arc<ObjectStoreOptions>,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSummary {
    /// Its key.
    pub key: String,
    /// Its ETag, without quotes.
    pub etag: String,
    /// Its size in bytes.
    pub size: u64,
}

impl ObjectStore {
    /// A client. Nothing is connected yet.
    ///
    /// # Errors
    /// `Invalid` when credentials are missing.
    pub fn new(options: ObjectStoreOptions) -> Result<Self> {
        Ok(Self { client: options.client()?, options: Arc::new(options) })
    }

    /// Reads a whole object of at most `max_bytes`. With an expected ETag, an object that has another one is refused.
    ///
    /// # Errors
    /// `NotFound`, `Changed`, `TooLarge` (told before the body is read, where the store says its length), `Denied`,
    /// `Unavailable`.
    pub async fn get(&self, bucket: &str, key: &str, expected_etag: Option<&str>, max_bytes: u64) -> Result<Bytes> {
        let started = std::time::Instant::now();
        // The SDK retries until there are headers; a body that breaks or stalls after them is ours to read again.
        let read = || async {
            tokio::time::timeout(self.options.attempt_timeout, self.read(bucket, key, expected_etag, max_bytes))
                .await
                .unwrap_or_else(|_| {
                    let seconds = self.options.attempt_timeout.as_secs_f64();
                    Err((
                        Error::new(ErrorKind::Unavailable, format!("get {bucket}/{key}: not done within {seconds} s")),
                        true,
                    ))
                })
        };
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(self.options.attempts.saturating_sub(1) as usize)
            .with_jitter();
        let outcome = read.retry(backoff).when(|(_, again)| *again).await.map_err(|(error, _)| error);
        let status = if outcome.is_ok() { "ok" } else { "error" };
        metrics::histogram!("perito_s3_request_seconds", "operation" => "get", "status" => status)
            .record(started.elapsed());
        outcome
    }

    /// One attempt; the flag says whether another one of ours may help.
    async fn read(
        &self,
        bucket: &str,
        key: &str,
        expected_etag: Option<&str>,
        max_bytes: u64,
    ) -> std::result::Result<Bytes, (Error, bool)> {
        let what = || format!("get {bucket}/{key}");
        let response = self
            .client
            .get_object()
            .bucket(bucket)
            .key(key)
            .send()
            .await
            .map_err(|error| (Error::during(&what(), &error), false))?;
        let found = response.e_tag().map(unquoted).unwrap_or_default();
        if let Some(expected) = expected_etag.filter(|expected| *expected != found) {
            let message = format!("{}: its ETag is {found}, registered was {expected}", what());
            return Err((Error::new(ErrorKind::Changed, message), false));
        }
        let too_large = |bytes: u64| {
            let message = format!("{}: has {bytes} bytes or more, the limit is {max_bytes}", what());
            (Error::new(ErrorKind::TooLarge, message), false)
        };
        let announced = response.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
        if announced > max_bytes {
            return Err(too_large(announced));
        }
        let mut body = response.body;
        let mut bytes = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| {
                (Error::new(ErrorKind::Unavailable, format!("{}: reading the body: {error}", what())), true)
            })?;
            if (bytes.len() + chunk.len()) as u64 > max_bytes {
                return Err(too_large((bytes.len() + chunk.len()) as u64));
            }
            bytes.extend_from_slice(&chunk);
        }
        if (bytes.len() as u64) < announced {
            let message = format!("{}: the body ended after {} of {announced} bytes", what(), bytes.len());
            return Err((Error::new(ErrorKind::Unavailable, message), true));
        }
        Ok(bytes.freeze())
    }

    /// Writes a whole object. Its ETag, without quotes.
    ///
    /// # Errors
    /// `NotFound` when there is no such bucket, `Denied`, `Unavailable`.
    pub async fn put(&self, bucket: &str, key: &str, bytes: Bytes, content_type: &str) -> Result<String> {
        let started = std::time::Instant::now();
        let outcome = self
            .client
            .put_object()
            .bucket(bucket)
            .key(key)
            .content_type(content_type)
            .body(ByteStream::from(bytes))
            .send()
            .await
            .map_err(|error| Error::during(&format!("put {bucket}/{key}"), &error));
        let status = if outcome.is_ok() { "ok" } else { "error" };
        metrics::histogram!("perito_s3_request_seconds", "operation" => "put", "status" => status)
            .record(started.elapsed());
        Ok(outcome?.e_tag().map(unquoted).unwrap_or_default())
    }

    /// Looks at an object without reading it; `None` when there is none.
    ///
    /// # Errors
    /// `Denied`, `Unavailable`.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<Option<ObjectSummary>> {
        let answer = self.client.head_object().bucket(bucket).key(key).send().await;
        match answer.map_err(|error| Error::during(&format!("head {bucket}/{key}"), &error)) {
            Ok(head) => Ok(Some(ObjectSummary {
                key: key.to_owned(),
                etag: head.e_tag().map(unquoted).unwrap_or_default(),
                size: head.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0),
            })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The objects whose key starts with `prefix`, in order of keys, read in pages as the stream is.
    ///
    /// # Errors
    /// `NotFound` when there is no such bucket, `Denied`, `Unavailable`.
    pub fn list(&self, bucket: &str, prefix: &str) -> impl Stream<Item = Result<ObjectSummary>> + Send + 'static {
        use futures::{StreamExt, TryStreamExt};
        let what = format!("list {bucket}/{prefix}");
        let pages = self.client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        stream::unfold(pages, |mut pages| async move { pages.next().await.map(|page| (page, pages)) })
            .map(move |page| {
                let page = page.map_err(|error| Error::during(&what, &error))?;
                let objects = page.contents.unwrap_or_default().into_iter().filter_map(|object| {
                    Some(Ok(ObjectSummary {
                        etag: object.e_tag().map(unquoted).unwrap_or_default(),
                        size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                        key: object.key?,
                    }))
                });
                Ok(stream::iter(objects.collect::<Vec<_>>()))
            })
            .try_flatten()
    }

    /// Makes a bucket unless it is there.
    ///
    /// # Errors
    /// `Denied`, `Unavailable`.
    pub async fn ensure_bucket(&self, bucket: &str) -> Result<()> {
        if self.ping(bucket).await.is_ok() {
            return Ok(());
        }
        match self.client.create_bucket().bucket(bucket).send().await {
            Ok(_) => Ok(()),
            // Somebody else may have made it just now.
            Err(error) => {
                self.ping(bucket).await.map_err(|_| Error::during(&format!("make the bucket {bucket}"), &error))
            }
        }
    }

    /// Deletes an object, if it is there.
    ///
    /// # Errors
    /// `Denied`, `Unavailable`.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<()> {
        let deleted = self.client.delete_object().bucket(bucket).key(key).send().await;
        match deleted.map_err(|error| Error::during(&format!("delete {bucket}/{key}"), &error)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks whether a bucket can be reached.
    ///
    /// # Errors
    /// `NotFound` when there is no such bucket, `Denied`, `Unavailable`.
    pub async fn ping(&self, bucket: &str) -> Result<()> {
        let answer = self.client.head_bucket().bucket(bucket).send().await;
        answer.map(|_| ()).map_err(|error| Error::during(&format!("reach the bucket {bucket}"), &error))
    }
}

/// ETags travel in quotes, which are not part of them.
fn unquoted(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}
