//! Objects whose bytes come bit by bit: a multipart upload, which shows when it is complete and not before.

use aws_sdk_s3::{
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use bytes::{Bytes, BytesMut};

use crate::{
    client::{ObjectStore, PutObject, unquoted},
    error::{Error, ErrorKind, Failure, Result},
};

/// Bytes of the first parts. Later ones are longer, so that an object may have 5 TiB within S3's limit of 10,000 parts.
const PART_BYTES: usize = 16 * 1024 * 1024;
/// After so many parts they get longer.
const PARTS_OF_A_LENGTH: usize = 1000;
/// S3's limit.
const MAX_PARTS: usize = 10_000;

/// An object on its way. Dropped without [`Self::complete`] or [`Self::abort`], it leaves parts behind that the store keeps until a rule
/// of the bucket removes them.
#[derive(Debug)]
pub struct Upload {
    store: ObjectStore,
    bucket: String,
    key: String,
    content_type: String,
    buffer: BytesMut,
    id: Option<String>,
    parts: Vec<CompletedPart>,
}

impl ObjectStore {
    /// Begins an object. Nothing is sent before the first part is full.
    pub fn upload(&self, bucket: &str, key: &str, content_type: &str) -> Upload {
        Upload {
            store: self.clone(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            content_type: content_type.to_owned(),
            buffer: BytesMut::new(),
            id: None,
            parts: Vec::new(),
        }
    }
}

impl Upload {
    /// Appends bytes.
    ///
    /// # Errors
    /// The kinds of every operation: [`ErrorKind::NotFound`] for a missing bucket.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        let length = PART_BYTES * (1 + self.parts.len() / PARTS_OF_A_LENGTH);
        while self.buffer.len() >= length {
            let part = self.buffer.split_to(length).freeze();
            self.send(part).await?;
        }
        Ok(())
    }

    /// Sends the rest, and lets the object show, in place of one of the same key.
    ///
    /// # Errors
    /// The kinds of every operation.
    pub async fn complete(mut self) -> Result<PutObject> {
        let rest = std::mem::take(&mut self.buffer).freeze();
        if self.id.is_none() {
            return self.store.put(&self.bucket, &self.key, rest, &self.content_type).await;
        }
        if !rest.is_empty() {
            self.send(rest).await?;
        }
        let parts = CompletedMultipartUpload::builder().set_parts(Some(self.parts.clone())).build();
        let request = || {
            let request = self.store.client().complete_multipart_upload().bucket(&self.bucket).key(&self.key);
            self.store.answer(0, request.set_upload_id(self.id.clone()).multipart_upload(parts.clone()).send())
        };
        let answer = self.store.run("complete upload", self.target(), request).await?;
        Ok(PutObject { etag: unquoted(answer.e_tag().unwrap_or_default()).to_owned() })
    }

    /// Removes what was sent.
    ///
    /// # Errors
    /// The kinds of every operation.
    pub async fn abort(self) -> Result<()> {
        if self.id.is_none() {
            return Ok(());
        }
        let request = || {
            let request = self.store.client().abort_multipart_upload().bucket(&self.bucket).key(&self.key);
            self.store.answer(0, request.set_upload_id(self.id.clone()).send())
        };
        self.store.run("abort upload", self.target(), request).await.map(drop)
    }

    async fn send(&mut self, part: Bytes) -> Result<()> {
        if self.parts.len() == MAX_PARTS {
            let failure = Failure::new(ErrorKind::TooLarge, format!("it has more than {MAX_PARTS} parts"));
            return Err(Error::new("upload part", self.target(), failure));
        }
        if self.id.is_none() {
            let request = || {
                let request = self.store.client().create_multipart_upload().bucket(&self.bucket).key(&self.key);
                self.store.answer(0, request.content_type(&self.content_type).send())
            };
            let answer = self.store.run("begin upload", self.target(), request).await?;
            self.id = answer.upload_id().map(str::to_owned);
        }
        let number = self.parts.len() as i32 + 1;
        let request = || {
            let request = self.store.client().upload_part().bucket(&self.bucket).key(&self.key).part_number(number);
            let request = request.set_upload_id(self.id.clone()).body(ByteStream::from(part.clone()));
            self.store.answer(part.len(), request.send())
        };
        let answer = self.store.run("upload part", self.target(), request).await?;
        let done = CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag().map(str::to_owned)).build();
        self.parts.push(done);
        Ok(())
    }

    fn target(&self) -> String {
        format!("{}/{}", self.bucket, self.key)
    }
}
