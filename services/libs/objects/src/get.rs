//! Whole objects, within limits of size and time.

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use crate::{
    client::{ObjectStore, unquoted},
    error::{ErrorKind, Failure, Result, chain},
};

impl ObjectStore {
    /// The bytes of an object of at most `max_bytes`; with `expected_etag`, only if that is its ETag.
    ///
    /// A body that breaks off or stalls is asked for again, as often as any failed attempt.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Changed`], [`ErrorKind::TooLarge`], and the kinds of every operation.
    pub async fn get(&self, bucket: &str, key: &str, expected_etag: Option<&str>, max_bytes: u64) -> Result<Bytes> {
        self.run("get object", format!("{bucket}/{key}"), || self.get_once(bucket, key, expected_etag, max_bytes)).await
    }

    async fn get_once(
        &self,
        bucket: &str,
        key: &str,
        expected_etag: Option<&str>,
        max_bytes: u64,
    ) -> std::result::Result<Bytes, Failure> {
        let answer = self.answer(0, self.client().get_object().bucket(bucket).key(key).send()).await?;
        if let Some(expected) = expected_etag {
            let found = unquoted(answer.e_tag().unwrap_or_default());
            if found != expected {
                let detail =
                    format!("its ETag is {found}, expected {expected}: it was overwritten since it was registered");
                return Err(Failure::new(ErrorKind::Changed, detail));
            }
        }
        let too_large = |bytes: u64| {
            Failure::new(ErrorKind::TooLarge, format!("it has {bytes} bytes or more, at most {max_bytes} are allowed"))
        };
        let announced = answer.content_length().and_then(|length| u64::try_from(length).ok());
        if let Some(length) = announced.filter(|length| *length > max_bytes) {
            return Err(too_large(length));
        }
        let mut body = answer.body;
        let mut bytes = BytesMut::with_capacity(announced.unwrap_or_default() as usize);
        let stall = self.timeouts().stall;
        loop {
            let part = timeout(stall, body.try_next()).await.map_err(|_| {
                Failure::timeout(&format!("the body stalled after {} bytes: nothing came", bytes.len()), stall)
            })?;
            let part = part.map_err(|error| {
                let detail = format!("the body broke off after {} bytes: {}", bytes.len(), chain(&error));
                Failure::new(ErrorKind::Unavailable, detail)
            })?;
            let Some(part) = part else { break };
            let received = (bytes.len() + part.len()) as u64;
            if received > max_bytes {
                return Err(too_large(received));
            }
            bytes.extend_from_slice(&part);
        }
        match announced {
            Some(length) if length != bytes.len() as u64 => Err(Failure::new(
                ErrorKind::Unavailable,
                format!("the body ended after {} of {length} bytes", bytes.len()),
            )),
            _ => Ok(bytes.freeze()),
        }
    }
}
