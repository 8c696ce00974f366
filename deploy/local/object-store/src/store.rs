//! s3s-fs, made fit for images by the hundred thousand that are read while others are written.
//!
//! What differs from s3s-fs: listings carry ETags and cost what a page costs (see [`crate::listing`]); an object and its ETag
//! are replaced as one; a key that names a folder is no object; `If-Match` on reads counts; keys that a file system cannot hold
//! are refused instead of kept under another name; objects are read in large pieces.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    path::{Path, PathBuf},
};

use futures::{StreamExt, TryStreamExt};
use s3s::{S3, S3Request, S3Response, S3Result, dto::*, s3_error};
use s3s_fs::FileSystem;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom},
    sync::RwLock,
};
use tokio_util::io::ReaderStream;

use crate::{
    key,
    listing::{self, Entry, Query},
};

/// The most entries in a page, which is S3's bound too.
const PAGE: i32 = 1000;
/// Objects looked at at once for a listing.
const LOOKUPS: usize = 16;
/// s3s-fs reads 4 KiB at a time, and each of them is a thread's errand.
const CHUNK_BYTES: usize = 256 * 1024;
/// Enough that two keys in use at once seldom share one.
const LOCKS: u64 = 1024;

/// A folder as an S3 store. Buckets are folders, objects are files; what else is known of an object is in hidden files.
pub(crate) struct Store {
    files: FileSystem,
    root: PathBuf,
    /// s3s-fs keeps an object's ETag in a second file. One of these, chosen by the key, keeps readers from seeing the new one
    /// of the two beside the old other.
    locks: Vec<RwLock<()>>,
}

impl Store {
    /// Opens a folder.
    pub(crate) fn open(root: &Path) -> Result<Self, s3s_fs::Error> {
        let locks = (0..LOCKS).map(|_| RwLock::default()).collect();
        Ok(Self { files: FileSystem::new(root)?, root: root.to_owned(), locks })
    }

    fn lock(&self, bucket: &str, key: &str) -> &RwLock<()> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((bucket, key));
        &self.locks[usize::try_from(hash % LOCKS).unwrap_or_default()]
    }

    /// Whether there is an object. (s3s-fs takes a folder for one.)
    async fn find(&self, bucket: &str, key: &str) -> S3Result<()> {
        if key::check(bucket, key, key::OBJECT).is_ok() {
            match tokio::fs::metadata(self.root.join(bucket).join(key)).await {
                Ok(metadata) if metadata.is_dir() => {}
                // What else is wrong, s3s-fs tells.
                _ => return Ok(()),
            }
        }
        Err(s3_error!(NoSuchKey, "there is no such object"))
    }

    /// Whether an object of this key, which is fit for a file name, can be written.
    async fn make_way(&self, bucket: &str, key: &str) -> S3Result<()> {
        let bucket = self.root.join(bucket);
        let path = bucket.join(key);
        if tokio::fs::metadata(&path).await.is_ok_and(|metadata| metadata.is_dir()) {
            return Err(s3_error!(InvalidArgument, "'{key}' cannot be written: keys that start with '{key}/' exist"));
        }
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != bucket) {
            if tokio::fs::metadata(folder).await.is_ok_and(|metadata| metadata.is_file()) {
                let other = folder.strip_prefix(&bucket).unwrap_or(folder).display();
                return Err(s3_error!(InvalidArgument, "'{key}' cannot be written: there is an object '{other}'"));
            }
        }
        Ok(())
    }

    /// One line of a listing; nothing if the object was deleted meanwhile.
    async fn summary(&self, bucket: &str, key: String) -> S3Result<Option<Object>> {
        let input = HeadObjectInput { bucket: bucket.to_owned(), key: key.clone(), ..Default::default() };
        match self.head_object(request(input)).await {
            Ok(S3Response { output, .. }) => Ok(Some(Object {
                key: Some(key),
                size: output.content_length,
                e_tag: output.e_tag,
                last_modified: output.last_modified,
                ..Default::default()
            })),
            Err(error) if *error.code() == s3s::S3ErrorCode::NoSuchKey => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A part of a file, in pieces.
async fn body(path: &Path, first: u64, length: u64) -> S3Result<StreamingBlob> {
    let mut file = File::open(path).await.map_err(|error| s3_error!(error, InternalError))?;
    if first > 0 {
        file.seek(SeekFrom::Start(first)).await.map_err(|error| s3_error!(error, InternalError))?;
    }
    Ok(StreamingBlob::wrap(ReaderStream::with_capacity(file.take(length), CHUNK_BYTES)))
}

/// A request that comes from here and not from a client.
fn request<T>(input: T) -> S3Request<T> {
    S3Request {
        input,
        method: http::Method::GET,
        uri: http::Uri::default(),
        headers: http::HeaderMap::new(),
        extensions: http::Extensions::new(),
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    }
}

/// Operations that are not here answer `NotImplemented`.
#[async_trait::async_trait]
impl S3 for Store {
    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let folder = self.root.join(&input.bucket);
        if !tokio::fs::metadata(&folder).await.is_ok_and(|metadata| metadata.is_dir()) {
            return Err(s3_error!(NoSuchBucket, "there is no bucket '{}'", input.bucket));
        }
        let max_keys = input.max_keys.unwrap_or(PAGE).clamp(0, PAGE);
        let after = input.continuation_token.clone().max(input.start_after.clone()).unwrap_or_default();
        let (prefix, delimiter) = (input.prefix.clone().unwrap_or_default(), input.delimiter.clone());
        // Not in tokio's own file operations, each of which is a hop to another thread.
        let walk = tokio::task::spawn_blocking(move || {
            let limit = usize::try_from(max_keys).unwrap_or_default();
            listing::page(&folder, &Query { prefix: &prefix, delimiter: delimiter.as_deref(), after: &after, limit })
        });
        let page = walk.await.map_err(s3s::S3Error::internal_error)?.map_err(s3s::S3Error::internal_error)?;

        let next = page.entries.last().filter(|_| page.truncated).map(|entry| entry.text().to_owned());
        let (mut keys, mut prefixes) = (Vec::new(), Vec::new());
        for entry in page.entries {
            match entry {
                Entry::Key(key) => keys.push(key),
                Entry::Prefix(prefix) => prefixes.push(CommonPrefix { prefix: Some(prefix) }),
            }
        }
        let summaries = futures::stream::iter(keys).map(|key| self.summary(&input.bucket, key)).buffered(LOOKUPS);
        let contents: Vec<Object> = summaries.try_filter_map(async |summary| Ok(summary)).try_collect().await?;
        Ok(S3Response::new(ListObjectsV2Output {
            // An encoding is left out: keys are given as they are, which clients take them for then.
            key_count: i32::try_from(contents.len() + prefixes.len()).ok(),
            max_keys: Some(max_keys),
            is_truncated: Some(page.truncated),
            contents: Some(contents),
            common_prefixes: Some(prefixes),
            next_continuation_token: next,
            continuation_token: input.continuation_token,
            start_after: input.start_after,
            delimiter: input.delimiter,
            prefix: input.prefix,
            name: Some(input.bucket),
            ..Default::default()
        }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.find(&request.input.bucket, &request.input.key).await?;
        let expected = request.input.if_match.clone();
        let path = self.root.join(&request.input.bucket).join(&request.input.key);
        let first = match request.input.range {
            None => Some(0),
            Some(Range::Int { first, .. }) => Some(first),
            // Counted from the end: rare, and s3s-fs's business.
            Some(Range::Suffix { .. }) => None,
        };
        // The body comes from the file that is opened now, whatever takes its place later.
        let _consistent = self.lock(&request.input.bucket, &request.input.key).read().await;
        let mut response = self.files.get_object(request).await?;
        if let (Some(first), Some(length)) = (first, response.output.content_length) {
            response.output.body = Some(body(&path, first, length.unsigned_abs()).await?);
        }
        match (expected, &response.output.e_tag) {
            (Some(ETagCondition::ETag(expected)), Some(present)) if !expected.strong_cmp(present) => {
                Err(s3_error!(PreconditionFailed, "the object's ETag is another one"))
            }
            _ => Ok(response),
        }
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.find(&request.input.bucket, &request.input.key).await?;
        let _consistent = self.lock(&request.input.bucket, &request.input.key).read().await;
        self.files.head_object(request).await
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        key::check(&request.input.bucket, &request.input.key, key::OBJECT)?;
        self.make_way(&request.input.bucket, &request.input.key).await?;
        let _consistent = self.lock(&request.input.bucket, &request.input.key).write().await;
        self.files.put_object(request).await
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        // As S3 does: what is not there is deleted already.
        if self.find(&request.input.bucket, &request.input.key).await.is_err() {
            return Ok(S3Response::new(DeleteObjectOutput::default()));
        }
        let _consistent = self.lock(&request.input.bucket, &request.input.key).write().await;
        self.files.delete_object(request).await
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        for object in &request.input.delete.objects {
            key::check(&request.input.bucket, &object.key, key::OBJECT)?;
        }
        self.files.delete_objects(request).await
    }

    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        // One at a time: of several that ask at once, one makes it and the others are told that it exists.
        let _alone = self.lock(&request.input.bucket, "").write().await;
        self.files.create_bucket(request).await
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.files.head_bucket(request).await
    }

    async fn list_buckets(&self, request: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        self.files.list_buckets(request).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        key::check(&request.input.bucket, &request.input.key, key::UPLOAD)?;
        self.make_way(&request.input.bucket, &request.input.key).await?;
        self.files.create_multipart_upload(request).await
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.files.upload_part(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let _consistent = self.lock(&request.input.bucket, &request.input.key).write().await;
        self.files.complete_multipart_upload(request).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.files.abort_multipart_upload(request).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use s3s::S3ErrorCode;

    use super::*;

    async fn store() -> (tempfile::TempDir, Arc<Store>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.create_bucket(request(CreateBucketInput { bucket: "cars".into(), ..Default::default() })).await.unwrap();
        (folder, Arc::new(store))
    }

    async fn put(store: &Store, key: &str, body: &[u8]) -> S3Result<ETag> {
        let body = StreamingBlob::from(s3s::Body::from(body.to_vec()));
        let input = PutObjectInput { bucket: "cars".into(), key: key.into(), body: Some(body), ..Default::default() };
        Ok(store.put_object(request(input)).await?.output.e_tag.unwrap())
    }

    async fn get(store: &Store, key: &str, if_match: Option<&ETag>) -> S3Result<(ETag, Vec<u8>)> {
        let if_match = if_match.cloned().map(ETagCondition::ETag);
        let input = GetObjectInput { bucket: "cars".into(), key: key.into(), if_match, ..Default::default() };
        let output = store.get_object(request(input)).await?.output;
        let chunks: Vec<_> = output.body.unwrap().try_collect().await.unwrap();
        Ok((output.e_tag.unwrap(), chunks.concat()))
    }

    async fn list(store: &Store, prefix: &str) -> Vec<Object> {
        let input = ListObjectsV2Input { bucket: "cars".into(), prefix: Some(prefix.into()), ..Default::default() };
        store.list_objects_v2(request(input)).await.unwrap().output.contents.unwrap()
    }

    #[tokio::test]
    async fn a_listing_tells_etag_and_size_of_what_get_returns() {
        let (_folder, store) = store().await;
        for key in ["a b+c%41.jpg", "é/写真.jpg", "q?&=#'\"<>\\.jpg"] {
            let etag = put(&store, key, key.as_bytes()).await.unwrap();
            let listed = &list(&store, key).await[0];
            assert_eq!((listed.key.as_deref(), listed.e_tag.as_ref()), (Some(key), Some(&etag)));
            assert_eq!(listed.size, Some(i64::try_from(key.len()).unwrap()));
            assert_eq!(get(&store, key, Some(&etag)).await.unwrap(), (etag, key.as_bytes().to_vec()));
        }
    }

    #[tokio::test]
    async fn another_etag_than_the_expected_one_is_refused() {
        let (_folder, store) = store().await;
        let old = put(&store, "x", b"1").await.unwrap();
        put(&store, "x", b"2").await.unwrap();
        let error = get(&store, "x", Some(&old)).await.unwrap_err();
        assert_eq!(*error.code(), S3ErrorCode::PreconditionFailed);
    }

    #[tokio::test]
    async fn folders_are_no_objects_and_objects_no_folders() {
        let (_folder, store) = store().await;
        put(&store, "a/b/c", b"1").await.unwrap();
        for key in ["a", "a/b", "a/b/", "../cars/a/b/c"] {
            assert_eq!(*get(&store, key, None).await.unwrap_err().code(), S3ErrorCode::NoSuchKey, "{key}");
        }
        for key in ["a/b", "a/b/c/d/e"] {
            assert_eq!(*put(&store, key, b"").await.unwrap_err().code(), S3ErrorCode::InvalidArgument, "{key}");
        }
        assert_eq!(list(&store, "").await.len(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn readers_never_see_one_objects_bytes_with_the_etag_of_another() {
        let (_folder, store) = store().await;
        put(&store, "x", b"0").await.unwrap();
        let writers: Vec<_> = (0..4_u8)
            .map(|writer| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    for round in 0..50_u8 {
                        put(&store, "x", &[writer, round].repeat(1000)).await.unwrap();
                    }
                })
            })
            .collect();
        for _ in 0..200 {
            let (etag, bytes) = get(&store, "x", None).await.unwrap();
            let md5 = put(&store, "y", &bytes).await.unwrap();
            assert_eq!(etag, md5);
        }
        for writer in writers {
            writer.await.unwrap();
        }
    }
}
