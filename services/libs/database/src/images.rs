//! The catalogue of photographs.

use std::collections::{BTreeSet, HashMap};

use perito_domain::{
    Severity,
    limits::MAX_BATCH,
    photograph::{InvalidPhotograph, Photograph},
};
use sqlx::PgConnection;

use crate::{
    Database,
    error::{During, Error, ErrorKind, Result},
};

/// A photograph to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImage {
    /// The bucket, at most 63 characters.
    pub bucket: String,
    /// The key, at most 1,024 bytes.
    pub key: String,
    /// The object's ETag, without quotes.
    pub etag: String,
    /// The object's size.
    pub size_bytes: i64,
    /// The claim that it belongs to.
    pub claim_id: Option<String>,
    /// What is known to be on it.
    pub label: Option<Severity>,
}

impl NewImage {
    /// Refuses what the catalogue does not take.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self) -> std::result::Result<(), InvalidPhotograph> {
        let Self { bucket, key, etag, size_bytes, claim_id, .. } = self;
        Photograph { bucket, key, etag, size_bytes: *size_bytes, claim_id: claim_id.as_deref() }.check()
    }
}

/// What registering did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// How many were not in the catalogue.
    pub new: u64,
    /// How many were.
    pub known: u64,
    /// How many older versions of objects these replaced.
    pub superseded: u64,
    /// The ids, in the order of the input.
    pub ids: Vec<i64>,
}

/// Where a registered photograph is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageObject {
    /// Its id in the catalogue.
    pub id: i64,
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The ETag it was registered with, without quotes.
    pub etag: String,
    /// Its size.
    pub size_bytes: i64,
}

impl Database {
    /// Registers photographs, idempotently by (bucket, key, ETag). A new ETag supersedes the version that was present; an old ETag
    /// that is back becomes present again. Claims and labels that are given replace those stored.
    ///
    /// # Errors
    /// `Invalid` for a batch over [`MAX_BATCH`], for a field that the catalogue does not take, or for an object that is listed twice
    /// with different ETags.
    pub async fn register_images(&self, images: &[NewImage]) -> Result<Registered> {
        check(images)?;
        // A bulk write: whoever waits here keeps nobody's heartbeat waiting.
        let mut tx = self.begin_bulk("begin registering images").await?;
        lock_buckets(&mut tx, images.iter().map(|image| image.bucket.as_str())).await?;
        let registered = register(&mut tx, images).await?;
        tx.commit().await.during("commit images")?;
        Ok(registered)
    }
}

/// Lets one registration at a time change what is present in a bucket: of two that bring different versions of an object, the
/// second one has to see the first one's.
pub(crate) async fn lock_buckets(tx: &mut PgConnection, buckets: impl Iterator<Item = &str>) -> Result<()> {
    let buckets: BTreeSet<String> = buckets.map(str::to_owned).collect();
    let buckets: Vec<String> = buckets.into_iter().collect();
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtext('register images'), hashtext(bucket))
         from (select bucket from unnest($1::text[]) as bucket order by hashtext(bucket)) ordered",
        &buckets
    )
    .fetch_all(tx)
    .await
    .during("lock the buckets")?;
    Ok(())
}

/// Registers photographs, each object once, in buckets that are locked.
pub(crate) async fn register(tx: &mut PgConnection, images: &[NewImage]) -> Result<Registered> {
    let buckets: Vec<_> = images.iter().map(|image| image.bucket.clone()).collect();
    let keys: Vec<_> = images.iter().map(|image| image.key.clone()).collect();
    let etags: Vec<_> = images.iter().map(|image| image.etag.clone()).collect();
    let sizes: Vec<_> = images.iter().map(|image| image.size_bytes).collect();
    let claims: Vec<_> = images.iter().map(|image| image.claim_id.clone()).collect();
    let labels: Vec<_> = images.iter().map(|image| image.label.map(|label| label.to_string())).collect();
    let rows = sqlx::query!(
        r#"
        with given as (
            select distinct on (bucket, key, etag) *
            from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[])
                 with ordinality as given(bucket, key, etag, size_bytes, claim_id, label, position)
            order by bucket, key, etag, position desc
        )
        insert into images as i (bucket, key, etag, size_bytes, claim_id, label)
        select bucket, key, etag, size_bytes, claim_id, label::severity from given order by bucket, key, etag
        on conflict (bucket, key, etag) do update
        set claim_id = coalesce(excluded.claim_id, i.claim_id),
            label = coalesce(excluded.label, i.label),
            superseded_at = null
        returning id, bucket, key, (xmax = 0) as "inserted!"
        "#,
        &buckets,
        &keys,
        &etags,
        &sizes,
        &claims as &[Option<String>],
        &labels as &[Option<String>],
    )
    .fetch_all(&mut *tx)
    .await
    .during("register images")?;
    let present: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let superseded = sqlx::query!(
        r#"
        update images old set superseded_at = now()
        from images fresh
        where fresh.id = any($1) and old.bucket = fresh.bucket and old.key = fresh.key
          and old.id <> fresh.id and old.superseded_at is null
        "#,
        &present,
    )
    .execute(tx)
    .await
    .during("supersede images")?
    .rows_affected();
    let ids: HashMap<_, _> = rows.iter().map(|row| ((row.bucket.as_str(), row.key.as_str()), row.id)).collect();
    let new = rows.iter().filter(|row| row.inserted).count() as u64;
    Ok(Registered {
        new,
        known: rows.len() as u64 - new,
        superseded,
        ids: images.iter().map(|image| ids[&(image.bucket.as_str(), image.key.as_str())]).collect(),
    })
}

fn check(images: &[NewImage]) -> Result<()> {
    let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, message));
    if images.len() > MAX_BATCH {
        return invalid(format!("{} images in one batch: at most {MAX_BATCH}", images.len()));
    }
    let mut etags = HashMap::new();
    for image in images {
        image.check().map_err(|error| Error::new(ErrorKind::Invalid, format!("{:?}: {error}", image.key)))?;
        let NewImage { bucket, key, etag, .. } = image;
        if etags.insert((bucket, key), etag).is_some_and(|other| other != etag) {
            return invalid(format!("{bucket}/{key} is listed twice with different ETags"));
        }
    }
    Ok(())
}
