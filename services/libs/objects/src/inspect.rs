//! What a person who looks for a fault wants to know of the store: whether everything that Perito does there is allowed.

use std::time::SystemTime;

use bytes::Bytes;

use crate::{
    client::ObjectStore,
    error::{Error, ErrorKind, Failure, Result},
};

impl ObjectStore {
    /// Writes a small object under `key`, reads it back, finds it in a listing and removes it. The store's clock, to the second.
    ///
    /// # Errors
    /// The first operation that failed, by its name; the kinds of every operation.
    pub async fn rehearse(&self, bucket: &str, key: &str) -> Result<Option<SystemTime>> {
        use futures::TryStreamExt as _;
        let content = Bytes::from_static(b"perito looks whether it may write here");
        self.put(bucket, key, content.clone(), "text/plain").await?;
        let looked = async {
            let read = self.get(bucket, key, None, content.len() as u64).await?;
            let listed: Vec<_> = self.list(bucket, key).try_collect().await?;
            if read != content || listed.len() != 1 {
                let failure = Failure::new(ErrorKind::Invalid, "what was written did not come back");
                return Err(Error::new("get object", format!("{bucket}/{key}"), failure));
            }
            self.modified_at(bucket, key).await
        }
        .await;
        // Removed in any case; what failed first is told first.
        let removed = self.delete(bucket, key).await;
        let clock = looked?;
        removed.map(|()| clock)
    }

    async fn modified_at(&self, bucket: &str, key: &str) -> Result<Option<SystemTime>> {
        let request = || self.answer(0, self.client().head_object().bucket(bucket).key(key).send());
        let answer = self.run("head object", format!("{bucket}/{key}"), request).await?;
        Ok(answer.last_modified().and_then(|at| SystemTime::try_from(*at).ok()))
    }
}
