//! Photographs that other systems hand in: rows of `intake.staging`, and events of the object store.
//!
//! Both may bring several versions of one object at once, in an order that counts: they are registered in rounds, each object
//! once a round.

use std::{collections::HashMap, str::FromStr as _, time::Duration};

use chrono::{DateTime, Utc};
use perito_domain::{Severity, claims::ClaimRule};
use sqlx::PgConnection;

use crate::{
    Database, NewImage,
    error::{During, Result},
    images::{lock_buckets, register},
    lease::interval,
};

/// What one round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Versions of photographs that were not in the catalogue.
    pub new: u64,
    /// Those that were.
    pub known: u64,
    /// Older versions that were superseded by newer ones.
    pub superseded: u64,
    /// Photographs whose object was removed.
    pub removed: u64,
    /// Events that came after a later one of the same object, and so changed nothing.
    pub late: u64,
    /// Rows that were moved aside.
    pub rejected: u64,
}

/// What happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEvent {
    /// When, by the store's clock.
    pub time: DateTime<Utc>,
    /// Hexadecimal; of two events of one object, the later one has the greater. Some stores give none.
    pub sequencer: Option<String>,
    /// The version that it is about, in a bucket that keeps versions.
    pub version_id: Option<String>,
    /// What.
    pub change: ObjectChange,
}

/// A change to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectChange {
    /// There is a new version of it.
    Created(NewImage),
    /// It is gone.
    Removed {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// Whether it is gone whatever version the event names: a delete marker is the newest version itself.
        marker: bool,
    },
}

impl ObjectEvent {
    fn object(&self) -> (&str, &str) {
        match &self.change {
            ObjectChange::Created(image) => (&image.bucket, &image.key),
            ObjectChange::Removed { bucket, key, .. } => (bucket, key),
        }
    }
}

/// The newest event of an object.
#[derive(Debug, Clone)]
struct Last {
    sequencer: Option<String>,
    time: DateTime<Utc>,
    version_id: Option<String>,
}

impl Last {
    fn is_later_than(&self, event: &ObjectEvent) -> bool {
        match (&self.sequencer, &event.sequencer) {
            (Some(last), Some(this)) => last > &this.to_lowercase(),
            _ => self.time > event.time,
        }
    }
}

impl Database {
    /// Moves rows from `intake.staging` to the catalogue, the oldest `limit` of them; those that cannot be taken go to
    /// `intake.rejected` with the reason, in the same transaction. `None` when there are none, or another replica is at it.
    ///
    /// # Errors
    /// `Unavailable`: nothing was moved.
    pub async fn take_staged(&self, limit: i64, claims: &ClaimRule) -> Result<Option<Taken>> {
        let mut tx = self.begin_bulk("begin taking staged photographs").await?;
        // Alone, so that of two versions of an object the one that was inserted later wins.
        let alone = sqlx::query_scalar!(r#"select pg_try_advisory_xact_lock(hashtext('intake.staging')) as "alone!""#)
            .fetch_one(&mut *tx)
            .await
            .during("lock the intake")?;
        if !alone {
            return Ok(None);
        }
        let rows = sqlx::query!(
            "with oldest as (select id from intake.staging order by id limit $1 for update skip locked)
             delete from intake.staging s using oldest where s.id = oldest.id
             returning s.id, bucket, key, etag, size_bytes, claim_id, label, inserted_at, inserted_by",
            limit
        )
        .fetch_all(&mut *tx)
        .await
        .during("take staged photographs")?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut images = Vec::with_capacity(rows.len());
        let mut rejected = Vec::new();
        for (place, row) in rows.iter().enumerate() {
            let staged = Staged {
                bucket: row.bucket.as_deref(),
                key: row.key.as_deref(),
                etag: row.etag.as_deref(),
                size_bytes: row.size_bytes,
                claim_id: row.claim_id.as_deref(),
                label: row.label.as_deref(),
            };
            match staged.check(claims) {
                Ok(image) => images.push((row.id, image)),
                Err(reason) => rejected.push((place, reason)),
            }
        }
        images.sort_by_key(|(id, _)| *id);
        let images: Vec<NewImage> = images.into_iter().map(|(_, image)| image).collect();
        let mut taken = Taken { rejected: rejected.len() as u64, ..Taken::default() };
        lock_buckets(&mut tx, images.iter().map(|image| image.bucket.as_str())).await?;
        for round in rounds(images, |image| (image.bucket.clone(), image.key.clone())) {
            taken.count(&register(&mut tx, &round).await?);
        }
        let of = |place: &usize| &rows[*place];
        let places: Vec<usize> = rejected.iter().map(|(place, _)| *place).collect();
        sqlx::query!(
            "insert into intake.rejected (staging_id, bucket, key, etag, size_bytes, claim_id, label, inserted_at, inserted_by, reason)
             select * from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[],
                                  $8::timestamptz[], $9::text[], $10::text[])",
            &places.iter().map(|place| of(place).id).collect::<Vec<_>>(),
            &places.iter().map(|place| of(place).bucket.clone()).collect::<Vec<_>>() as &[Option<String>],
            &places.iter().map(|place| of(place).key.clone()).collect::<Vec<_>>() as &[Option<String>],
            &places.iter().map(|place| of(place).etag.clone()).collect::<Vec<_>>() as &[Option<String>],
            &places.iter().map(|place| of(place).size_bytes).collect::<Vec<_>>() as &[Option<i64>],
            &places.iter().map(|place| of(place).claim_id.clone()).collect::<Vec<_>>() as &[Option<String>],
            &places.iter().map(|place| of(place).label.clone()).collect::<Vec<_>>() as &[Option<String>],
            &places.iter().map(|place| of(place).inserted_at).collect::<Vec<_>>(),
            &places.iter().map(|place| of(place).inserted_by.clone()).collect::<Vec<_>>(),
            &rejected.iter().map(|(_, reason)| reason.clone()).collect::<Vec<_>>(),
        )
        .execute(&mut *tx)
        .await
        .during("move rows aside")?;
        tx.commit().await.during("commit staged photographs")?;
        Ok(Some(taken))
    }

    /// Does what events say, in their order. An event that is older than the newest one of its object changes nothing.
    ///
    /// The images have to be right: check them before.
    ///
    /// # Errors
    /// `Unavailable`: nothing was done.
    pub async fn apply_events(&self, events: &[ObjectEvent]) -> Result<Taken> {
        let mut tx = self.begin_bulk("begin applying events").await?;
        lock_buckets(&mut tx, events.iter().map(|event| event.object().0)).await?;
        let mut last = last_events(&mut tx, events).await?;
        let mut taken = Taken::default();
        let mut current = Vec::with_capacity(events.len());
        for event in events {
            let (bucket, key) = event.object();
            let object = (bucket.to_owned(), key.to_owned());
            let before = last.get(&object);
            let other_version = match (&event.change, &event.version_id) {
                // Whether it was the newest one, only the event that created it can tell.
                (ObjectChange::Removed { marker: false, .. }, Some(version)) => {
                    before.is_none_or(|before| before.version_id.as_ref() != Some(version))
                }
                _ => false,
            };
            if other_version || before.is_some_and(|before| before.is_later_than(event)) {
                taken.late += 1;
                continue;
            }
            last.insert(
                object,
                Last {
                    sequencer: event.sequencer.as_ref().map(|sequencer| sequencer.to_lowercase()),
                    time: event.time,
                    version_id: event.version_id.clone(),
                },
            );
            current.push(event);
        }
        for round in rounds(current, |event| (event.object().0.to_owned(), event.object().1.to_owned())) {
            let mut created = Vec::new();
            let mut removed = Vec::new();
            for event in round {
                match &event.change {
                    ObjectChange::Created(image) => created.push(image.clone()),
                    ObjectChange::Removed { bucket, key, .. } => removed.push((bucket.clone(), key.clone())),
                }
            }
            taken.count(&register(&mut tx, &created).await?);
            taken.removed += remove(&mut tx, removed).await?;
        }
        remember(&mut tx, last).await?;
        tx.commit().await.during("commit events")?;
        Ok(taken)
    }

    /// Forgets the newest events of objects that have had none for so long. How many those were.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn forget_events(&self, older_than: Duration, limit: i64) -> Result<u64> {
        let forgotten = sqlx::query!(
            "with old as (
                 select bucket, key from intake.last_events where seen_at < now() - $1::interval order by seen_at limit $2
                 for update skip locked
             )
             delete from intake.last_events e using old where e.bucket = old.bucket and e.key = old.key",
            interval(older_than),
            limit
        )
        .execute(&self.bulk)
        .await
        .during("forget old events")?;
        Ok(forgotten.rows_affected())
    }
}

impl Taken {
    fn count(&mut self, registered: &crate::Registered) {
        self.new += registered.new;
        self.known += registered.known;
        self.superseded += registered.superseded;
    }
}

/// A row as it was inserted.
struct Staged<'a> {
    bucket: Option<&'a str>,
    key: Option<&'a str>,
    etag: Option<&'a str>,
    size_bytes: Option<i64>,
    claim_id: Option<&'a str>,
    label: Option<&'a str>,
}

impl Staged<'_> {
    fn check(&self, claims: &ClaimRule) -> std::result::Result<NewImage, String> {
        let required = |field: &str, text: Option<&str>| text.map(str::to_owned).ok_or(format!("{field} is null"));
        let key = required("key", self.key)?;
        let image = NewImage {
            bucket: required("bucket", self.bucket)?,
            etag: required("etag", self.etag)?.trim_matches('"').to_owned(),
            size_bytes: self.size_bytes.ok_or("size_bytes is null")?,
            claim_id: self.claim_id.map(str::to_owned).or_else(|| claims.claim_id(&key)),
            label: self.label.map(Severity::from_str).transpose().map_err(|error| format!("label: {error}"))?,
            key,
        };
        image.check().map_err(|error| error.to_string())?;
        Ok(image)
    }
}

/// Parts of a sequence in its order, each of which has every object once at most.
fn rounds<T>(things: Vec<T>, object: impl Fn(&T) -> (String, String)) -> Vec<Vec<T>> {
    let mut seen: HashMap<(String, String), usize> = HashMap::new();
    let mut rounds: Vec<Vec<T>> = Vec::new();
    for thing in things {
        let count = seen.entry(object(&thing)).or_default();
        if rounds.len() == *count {
            rounds.push(Vec::new());
        }
        rounds[*count].push(thing);
        *count += 1;
    }
    rounds
}

async fn last_events(tx: &mut PgConnection, events: &[ObjectEvent]) -> Result<HashMap<(String, String), Last>> {
    let buckets: Vec<String> = events.iter().map(|event| event.object().0.to_owned()).collect();
    let keys: Vec<String> = events.iter().map(|event| event.object().1.to_owned()).collect();
    let rows = sqlx::query!(
        "select bucket, key, sequencer, event_time, version_id
         from intake.last_events where (bucket, key) in (select * from unnest($1::text[], $2::text[]))",
        &buckets,
        &keys
    )
    .fetch_all(tx)
    .await
    .during("look for earlier events")?;
    let last = |sequencer, time, version_id| Last { sequencer, time, version_id };
    Ok(rows
        .into_iter()
        .map(|row| ((row.bucket, row.key), last(row.sequencer, row.event_time, row.version_id)))
        .collect())
}

async fn remember(tx: &mut PgConnection, last: HashMap<(String, String), Last>) -> Result<()> {
    let mut rows: Vec<_> = last.into_iter().collect();
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    sqlx::query!(
        "insert into intake.last_events as e (bucket, key, sequencer, event_time, version_id)
         select * from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[])
         on conflict (bucket, key) do update
         set sequencer = excluded.sequencer, event_time = excluded.event_time, version_id = excluded.version_id, seen_at = now()",
        &rows.iter().map(|((bucket, _), _)| bucket.clone()).collect::<Vec<_>>(),
        &rows.iter().map(|((_, key), _)| key.clone()).collect::<Vec<_>>(),
        &rows.iter().map(|(_, last)| last.sequencer.clone()).collect::<Vec<_>>() as &[Option<String>],
        &rows.iter().map(|(_, last)| last.time).collect::<Vec<_>>(),
        &rows.iter().map(|(_, last)| last.version_id.clone()).collect::<Vec<_>>() as &[Option<String>],
    )
    .execute(tx)
    .await
    .during("remember events")?;
    Ok(())
}

async fn remove(tx: &mut PgConnection, objects: Vec<(String, String)>) -> Result<u64> {
    let (buckets, keys): (Vec<String>, Vec<String>) = objects.into_iter().unzip();
    let removed = sqlx::query!(
        "update images i set superseded_at = now()
         from unnest($1::text[], $2::text[]) as gone(bucket, key)
         where i.bucket = gone.bucket and i.key = gone.key and i.superseded_at is null",
        &buckets,
        &keys
    )
    .execute(tx)
    .await
    .during("supersede removed objects")?;
    Ok(removed.rows_affected())
}

/// What waits in one bucket for its first score.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketBacklog {
    /// The bucket.
    pub bucket: String,
    /// How many photographs wait.
    pub waiting: i64,
    /// When the one that waits longest was registered.
    pub oldest_registered_at: Option<DateTime<Utc>>,
    /// How many more could not be scored by a run that has finished.
    pub unscorable: i64,
}

/// What waits in the intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntakeCounts {
    /// Rows of `intake.staging`, at most [`MOST_COUNTED`].
    pub staged: i64,
    /// Rows of `intake.rejected`, at most [`MOST_COUNTED`].
    pub rejected: i64,
}

/// Beyond it nobody asks how many exactly.
pub const MOST_COUNTED: i64 = 100_000;

impl Database {
    /// What `analytics.backlog` says.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn backlog(&self) -> Result<Vec<BucketBacklog>> {
        sqlx::query_as!(
            BucketBacklog,
            r#"select bucket as "bucket!", waiting as "waiting!", oldest_registered_at, unscorable as "unscorable!"
               from analytics.backlog order by bucket"#
        )
        .fetch_all(&self.control)
        .await
        .during("measure the backlog")
    }

    /// How many rows wait in the intake, and how many were moved aside.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn intake_counts(&self) -> Result<IntakeCounts> {
        sqlx::query_as!(
            IntakeCounts,
            r#"select (select count(*) from (select from intake.staging limit $1) s) as "staged!",
                      (select count(*) from (select from intake.rejected limit $1) r) as "rejected!""#,
            MOST_COUNTED
        )
        .fetch_one(&self.control)
        .await
        .during("count the intake")
    }
}
