//! s3s-fs with ETags in its listings, which registration in bulk relies on.

use std::path::Path;

use s3s::{S3, S3Request, S3Response, S3Result, dto::*};
use s3s_fs::FileSystem;

/// A folder as an S3 store.
pub(crate) struct Store(FileSystem);

impl Store {
    /// Opens a folder.
    pub(crate) fn open(root: &Path) -> Result<Self, s3s_fs::Error> {
        FileSystem::new(root).map(Self)
    }

    async fn etag(&self, bucket: &str, key: &str, uri: &http::Uri) -> Option<ETag> {
        let input = HeadObjectInput { bucket: bucket.to_owned(), key: key.to_owned(), ..Default::default() };
        let request = S3Request {
            input,
            method: http::Method::HEAD,
            uri: uri.clone(),
            headers: http::HeaderMap::new(),
            extensions: http::Extensions::new(),
            credentials: None,
            region: None,
            service: None,
            trailing_headers: None,
        };
        // An object that was deleted since the listing: it stays listed, without an ETag.
        self.0.head_object(request).await.ok().and_then(|response| response.output.e_tag)
    }
}

/// Implements [`S3`] by handing operations to s3s-fs as they are, but for listings. What is not named here answers
/// `NotImplemented`. (`async_trait` must see the methods written out, so the macro makes the whole block.)
macro_rules! implement_s3 {
    ($($operation:ident($input:ty) -> $output:ty;)*) => {
        #[async_trait::async_trait]
        impl S3 for Store {
            $(async fn $operation(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                self.0.$operation(request).await
            })*

            async fn list_objects_v2(
                &self,
                request: S3Request<ListObjectsV2Input>,
            ) -> S3Result<S3Response<ListObjectsV2Output>> {
                let (bucket, uri) = (request.input.bucket.clone(), request.uri.clone());
                let mut response = self.0.list_objects_v2(request).await?;
                for object in response.output.contents.iter_mut().flatten() {
                    if let Some(key) = &object.key {
                        object.e_tag = self.etag(&bucket, key, &uri).await;
                    }
                }
                Ok(response)
            }
        }
    };
}

implement_s3! {
    create_bucket(CreateBucketInput) -> CreateBucketOutput;
    head_bucket(HeadBucketInput) -> HeadBucketOutput;
    list_buckets(ListBucketsInput) -> ListBucketsOutput;
    get_object(GetObjectInput) -> GetObjectOutput;
    head_object(HeadObjectInput) -> HeadObjectOutput;
    put_object(PutObjectInput) -> PutObjectOutput;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput;
    upload_part(UploadPartInput) -> UploadPartOutput;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput;
}
