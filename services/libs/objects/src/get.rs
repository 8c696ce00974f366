//! Whole objects within limits of size and time, and larger ones part by part.

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use crate::{
    client::{ObjectStore, unquoted},
    error::{Error, ErrorKind, Failure, Result, chain},
};

/// What is asked for at once of an object that does not have to be in memory.
const PART_BYTES: u64 = 8 * 1024 * 1024;

impl ObjectStore {
    /// The bytes of an object of at most `max_bytes`; with `expected_etag`, only if that is its ETag.
    ///
    /// A body that breaks off or stalls is asked for again, as often as any failed attempt.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Changed`], [`ErrorKind::TooLarge`], and the kinds of every operation.
    pub async fn get(&self, bucket: &str, key: &str, expected_etag: Option<&str>, max_bytes: u64) -> Result<Bytes> {
        let once = || self.get_once(bucket, key, expected_etag, None, max_bytes);
        self.run("get object", format!("{bucket}/{key}"), once).await
    }

    /// Hands the bytes of an object of any size to `each`, a part at a time: no more than that is in memory. All parts are of the
    /// same version of the object.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Changed`] when it is replaced meanwhile, the kinds of every operation, and the errors of
    /// `each`.
    pub async fn download<E: From<Error>>(
        &self,
        bucket: &str,
        key: &str,
        mut each: impl AsyncFnMut(Bytes) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let object = self.head(bucket, key).await?;
        let mut from = 0;
        while from < object.size {
            let to = object.size.min(from + PART_BYTES);
            let range = format!("bytes={from}-{}", to - 1);
            let once = || self.get_once(bucket, key, Some(&object.etag), Some(&range), to - from);
            let part = self.run("get part of object", format!("{bucket}/{key}"), once).await?;
            if part.len() as u64 != to - from {
                let detail = format!("{} bytes came of {range}", part.len());
                let failure = Failure::new(ErrorKind::Invalid, detail);
                return Err(Error::new("get part of object", format!("{bucket}/{key}"), failure).into());
            }
            each(part).await?;
            from = to;
        }
        Ok(())
    }

    async fn get_once(
        &self,
        bucket: &str,
        key: &str,
        expected_etag: Option<&str>,
        range: Option<&str>,
        max_bytes: u64,
    ) -> std::result::Result<Bytes, Failure> {
        let request = self.client().get_object().bucket(bucket).key(key).set_range(range.map(str::to_owned));
        let answer = self.answer(0, request.send()).await?;
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
