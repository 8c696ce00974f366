//! Frozen, versioned, labelled selections of photographs.

use chrono::{DateTime, Utc};
use perito_domain::{
    Severity,
    limits::MAX_BATCH,
    names::{DatasetRef, Name},
    spec::Split,
};
use sqlx::PgConnection;

use crate::{
    Database, ImageObject,
    error::{During, Error, ErrorKind, Result},
};

/// A version that is being filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftDataset {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The version it will be.
    pub version: i32,
}

/// A frozen version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: i32,
    /// SHA-256 over its content: split, label, ETag and size of each image.
    pub digest: String,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// When it was frozen.
    pub frozen_at: DateTime<Utc>,
    /// What it was made of, where its images do not tell.
    pub origin: Option<String>,
    /// How many images, by split and label.
    pub counts: Vec<(Split, Severity, i64)>,
}

impl Dataset {
    /// `name@version`
    pub fn reference(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// One image of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledImage {
    /// Where it is.
    pub image: ImageObject,
    /// The part of the dataset that it belongs to.
    pub split: Split,
    /// What is on it.
    pub label: Severity,
}

impl Database {
    /// Begins the next version of a dataset. `origin` is what it is made of, where its images do not tell. Abandoned drafts of the same name
    /// are removed after a day.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn create_draft(&self, name: &Name, origin: Option<&str>) -> Result<DraftDataset> {
        let mut tx = self.begin("begin a dataset").await?;
        let draft = draft(&mut tx, name, origin).await?;
        tx.commit().await.during("begin a dataset")?;
        Ok(draft)
    }

    /// Adds images to a draft, idempotently. How many were new to it.
    ///
    /// # Errors
    /// `Conflict` when the dataset is frozen, `NotFound` when there is none or an image is unknown.
    pub async fn add_items(&self, dataset_id: i64, items: &[(i64, Split, Severity)]) -> Result<u64> {
        if items.len() > MAX_BATCH {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{} items in one batch: at most {MAX_BATCH}", items.len()),
            ));
        }
        let mut tx = self.begin("begin adding items").await?;
        lock_draft(&mut tx, dataset_id).await?;
        let ids: Vec<i64> = items.iter().map(|item| item.0).collect();
        let splits: Vec<String> = items.iter().map(|item| item.1.to_string()).collect();
        let labels: Vec<String> = items.iter().map(|item| item.2.to_string()).collect();
        let unknown = sqlx::query_scalar!(
            "select given.id from unnest($1::bigint[]) as given(id) left join images i using (id) where i.id is null limit 1",
            &ids
        )
        .fetch_optional(&mut *tx)
        .await
        .during("check images")?;
        if let Some(id) = unknown {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no image {id:?}: register it first")));
        }
        let added = sqlx::query!(
            "insert into dataset_items (dataset_id, image_id, split, label)
             select distinct on (image_id) $1, image_id, split, label::severity
             from unnest($2::bigint[], $3::text[], $4::text[]) as given(image_id, split, label)
             on conflict (dataset_id, image_id) do nothing",
            dataset_id,
            &ids,
            &splits,
            &labels
        )
        .execute(&mut *tx)
        .await
        .during("add items")?
        .rows_affected();
        tx.commit().await.during("commit items")?;
        Ok(added)
    }

    /// Freezes a draft. If a version of the same name has the same content, the draft is dropped and that version is returned with
    /// `true`.
    ///
    /// # Errors
    /// `Invalid` for a draft without images, `Conflict` when it is frozen already.
    pub async fn freeze(&self, dataset_id: i64) -> Result<(Dataset, bool)> {
        let mut tx = self.begin("begin freezing").await?;
        let (id, existing) = freeze_draft(&mut tx, dataset_id).await?;
        tx.commit().await.during("freeze the dataset")?;
        Ok((self.dataset_by_id(id).await?, existing))
    }

    /// Every frozen version, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list_datasets(&self) -> Result<Vec<Dataset>> {
        let ids = sqlx::query_scalar!(
            "select id from datasets where frozen_at is not null order by created_at desc, id desc limit 500"
        )
        .fetch_all(&self.control)
        .await
        .during("list datasets")?;
        let mut datasets = Vec::with_capacity(ids.len());
        for id in ids {
            datasets.push(self.dataset_by_id(id).await?);
        }
        Ok(datasets)
    }

    /// A frozen version by reference.
    ///
    /// # Errors
    /// `NotFound` says which versions there are.
    pub async fn dataset(&self, reference: &DatasetRef) -> Result<Dataset> {
        let mut connection = self.control.acquire().await.during("find the dataset")?;
        let (id, _) = find(&mut connection, reference).await?;
        drop(connection);
        self.dataset_by_id(id).await
    }

    pub(crate) async fn dataset_by_id(&self, id: i64) -> Result<Dataset> {
        let row = sqlx::query!(
            r#"select name, version, digest as "digest!", created_at, frozen_at as "frozen_at!", origin from datasets
               where id = $1 and frozen_at is not null"#,
            id
        )
        .fetch_one(&self.control)
        .await
        .during("read the dataset")?;
        let counts = sqlx::query!(
            r#"select split, label::text as "label!", count(*) as "images!" from dataset_items
               where dataset_id = $1 group by split, label order by split, label"#,
            id
        )
        .fetch_all(&self.control)
        .await
        .during("count the dataset")?;
        let counts = counts
            .into_iter()
            .map(|row| Ok((stored(&row.split)?, stored(&row.label)?, row.images)))
            .collect::<Result<_>>()?;
        Ok(Dataset {
            id,
            name: row.name,
            version: row.version,
            digest: row.digest,
            created_at: row.created_at,
            frozen_at: row.frozen_at,
            origin: row.origin,
            counts,
        })
    }

    /// The images of a dataset, in order of their ids.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn dataset_items(&self, dataset_id: i64, split: Option<Split>) -> Result<Vec<LabelledImage>> {
        let rows = sqlx::query!(
            r#"select i.id, i.bucket, i.key, i.etag, i.size_bytes, d.split, d.label::text as "label!"
               from dataset_items d join images i on i.id = d.image_id
               where d.dataset_id = $1 and ($2::text is null or d.split = $2)
               order by i.id"#,
            dataset_id,
            split.map(Split::as_str)
        )
        .fetch_all(&self.control)
        .await
        .during("read the dataset's images")?;
        rows.into_iter()
            .map(|row| {
                let image = ImageObject {
                    id: row.id,
                    bucket: row.bucket,
                    key: row.key,
                    etag: row.etag,
                    size_bytes: row.size_bytes,
                };
                Ok(LabelledImage { image, split: stored(&row.split)?, label: stored(&row.label)? })
            })
            .collect()
    }
}

/// Begins the next version of a name.
pub(crate) async fn draft(tx: &mut PgConnection, name: &Name, origin: Option<&str>) -> Result<DraftDataset> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('dataset ' || $1))", name.as_str())
        .fetch_one(&mut *tx)
        .await
        .during("lock the dataset's name")?;
    sqlx::query!(
        "delete from datasets where name = $1 and frozen_at is null and created_at < now() - interval '1 day'",
        name.as_str()
    )
    .execute(&mut *tx)
    .await
    .during("remove abandoned drafts")?;
    let row = sqlx::query!(
        "insert into datasets (name, version, origin)
         select $1, coalesce(max(version), 0) + 1, $2 from datasets where name = $1
         returning id, version",
        name.as_str(),
        origin
    )
    .fetch_one(tx)
    .await
    .during("begin a dataset")?;
    Ok(DraftDataset { id: row.id, name: name.to_string(), version: row.version })
}

/// Freezes a draft, or drops it for the older version of the name that has the same content. The frozen version's id, and whether it is that
/// one.
pub(crate) async fn freeze_draft(tx: &mut PgConnection, dataset_id: i64) -> Result<(i64, bool)> {
    let name = lock_draft(tx, dataset_id).await?;
    let digest = sqlx::query_scalar!(
        r#"
        select encode(sha256(convert_to(string_agg(
                   concat_ws(' ', d.split, d.label, i.etag, i.size_bytes), E'\n'
                   order by d.split, d.label, i.etag, i.size_bytes), 'UTF8')), 'hex')
        from dataset_items d join images i on i.id = d.image_id
        where d.dataset_id = $1
        "#,
        dataset_id
    )
    .fetch_one(&mut *tx)
    .await
    .during("compute the dataset's digest")?
    .ok_or_else(|| Error::new(ErrorKind::Invalid, format!("dataset {name} has no images: add some, then freeze it")))?;
    let existing = sqlx::query_scalar!("select id from datasets where name = $1 and digest = $2", name, digest)
        .fetch_optional(&mut *tx)
        .await
        .during("look for the same content")?;
    match existing {
        Some(_) => sqlx::query!("delete from datasets where id = $1", dataset_id).execute(&mut *tx).await,
        None => {
            sqlx::query!("update datasets set digest = $2, frozen_at = now() where id = $1", dataset_id, digest)
                .execute(&mut *tx)
                .await
        }
    }
    .during("freeze the dataset")?;
    Ok((existing.unwrap_or(dataset_id), existing.is_some()))
}

/// The id and the reference, `name@version`, of a frozen version.
pub(crate) async fn find(connection: &mut PgConnection, reference: &DatasetRef) -> Result<(i64, String)> {
    let row = sqlx::query!(
        r#"select id, name || '@' || version as "reference!" from datasets
           where name = $1 and frozen_at is not null and ($2::int is null or version = $2)
           order by version desc limit 1"#,
        reference.name.as_str(),
        reference.version
    )
    .fetch_optional(connection)
    .await
    .during("find the dataset")?
    .ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("there is no dataset {reference}: see `perito dataset list`"))
    })?;
    Ok((row.id, row.reference))
}

/// Locks a draft and gives its name.
async fn lock_draft(tx: &mut PgConnection, dataset_id: i64) -> Result<String> {
    let row = sqlx::query!("select name, frozen_at from datasets where id = $1 for update", dataset_id)
        .fetch_optional(tx)
        .await
        .during("find the draft")?
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no dataset with the id {dataset_id}")))?;
    match row.frozen_at {
        None => Ok(row.name),
        Some(_) => Err(Error::new(ErrorKind::Conflict, format!("dataset {} is frozen: begin a new version", row.name))),
    }
}

/// Reads a value that the schema constrains.
pub(crate) fn stored<T: std::str::FromStr>(text: &str) -> Result<T>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| Error::new(ErrorKind::Internal, format!("read a stored value: {error}")))
}
