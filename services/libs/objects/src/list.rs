//! Everything below a prefix, as a stream.

use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::{
    client::{ObjectStore, unquoted},
    error::{ErrorKind, Result},
};

/// What a store tells of an object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSummary {
    /// The object's key.
    pub key: String,
    /// Its ETag, without quotes.
    pub etag: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Where a listing stands.
enum Page {
    /// Before the page with this token.
    Next(Option<String>),
    /// After the last page.
    End,
}

impl ObjectStore {
    /// Every object whose key starts with `prefix`, in the store's order, fetched page by page as the reader gets on.
    ///
    /// An error ends the stream.
    pub fn list(&self, bucket: &str, prefix: &str) -> impl Stream<Item = Result<ObjectSummary>> + Send + use<> {
        let (store, bucket, prefix) = (self.clone(), bucket.to_owned(), prefix.to_owned());
        let pages =
            stream::try_unfold((store, bucket, prefix, Page::Next(None)), async |(store, bucket, prefix, page)| {
                let Page::Next(token) = page else { return Ok(None) };
                let (objects, next) = store.list_page(&bucket, &prefix, token.as_deref()).await?;
                let next = next.map_or(Page::End, |token| Page::Next(Some(token)));
                Ok(Some((stream::iter(objects).map(Ok), (store, bucket, prefix, next))))
            });
        pages.try_flatten()
    }

    async fn list_page(
        &self,
        bucket: &str,
        prefix: &str,
        token: Option<&str>,
    ) -> Result<(Vec<ObjectSummary>, Option<String>)> {
        let request = || {
            let request = self.client().list_objects_v2().bucket(bucket).prefix(prefix);
            self.answer(0, request.set_continuation_token(token.map(str::to_owned)).send())
        };
        let answer = self.run("list objects", format!("{bucket}/{prefix}"), request).await?;
        let next = answer.next_continuation_token().filter(|_| answer.is_truncated() == Some(true)).map(str::to_owned);
        let mut objects = Vec::with_capacity(answer.contents().len());
        for object in answer.contents() {
            let Some(key) = object.key() else { continue };
            match object.e_tag() {
                Some(etag) => objects.push(ObjectSummary {
                    key: key.to_owned(),
                    etag: unquoted(etag).to_owned(),
                    size: object.size().and_then(|size| size.try_into().ok()).unwrap_or_default(),
                }),
                // Some stores list no ETags. What is gone since the listing is left out.
                None => match self.head(bucket, key).await {
                    Ok(object) => objects.push(object),
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                },
            }
        }
        Ok((objects, next))
    }
}
