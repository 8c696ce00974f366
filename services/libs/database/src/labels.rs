//! What adjusters decided: recorded beside the predictions, and made into datasets.

use chrono::{DateTime, Utc};
use perito_domain::{Severity, limits::MAX_BATCH, names::Name, spec::Split};

use crate::{
    Database, Dataset,
    datasets::{draft, freeze_draft},
    error::{During, Error, ErrorKind, Result},
};

/// A decision about a photograph (by number, or by bucket and key) or about a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLabel {
    /// The photograph's number.
    pub image_id: Option<i64>,
    /// The photograph's bucket, with the key.
    pub bucket: Option<String>,
    /// The photograph's key, with the bucket.
    pub key: Option<String>,
    /// The ETag of the version that was looked at; the present one unless told.
    pub etag: Option<String>,
    /// The claim; beside a photograph it has to be the photograph's.
    pub claim_id: Option<String>,
    /// What was decided.
    pub severity: Severity,
    /// Who or what system says so.
    pub source: String,
    /// When it was decided.
    pub decided_at: DateTime<Utc>,
}

/// What becomes of a batch with bad rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRows {
    /// Nothing is recorded.
    Refuse,
    /// The others are recorded.
    Skip,
    /// Nothing is recorded in any case: the batch is only checked.
    Check,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelsRecorded {
    /// Decisions that were not known before; 0 when nothing was recorded.
    pub new: u64,
    /// Decisions that were.
    pub known: u64,
    /// Rows that cannot be right: their place in the batch, counted from 0, and what is wrong.
    pub problems: Vec<(usize, String)>,
}

/// Which decisions become a dataset, and how they are split.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledSelection {
    /// The dataset's name.
    pub name: Name,
    /// The share of the claims that is for validation, above 0 and below 1.
    pub validation_share: f64,
    /// Another seed splits otherwise.
    pub seed: u64,
    /// Only decisions of this source.
    pub source: Option<String>,
    /// Only decisions made at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Photographs without a decision of their own take their claim's.
    pub claim_labels: bool,
}

impl Database {
    /// Records decisions, idempotently by what they are about, source and time.
    ///
    /// # Errors
    /// `Invalid` when the batch is too large or a text has a NUL character. Bad rows are no error: the answer names them.
    pub async fn record_labels(&self, labels: &[NewLabel], bad_rows: BadRows) -> Result<LabelsRecorded> {
        if labels.len() > MAX_BATCH {
            let message = format!("{} labels in one batch: at most {MAX_BATCH}", labels.len());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let text = |field: fn(&NewLabel) -> &Option<String>| labels.iter().map(|label| field(label).clone()).collect();
        let image_ids: Vec<Option<i64>> = labels.iter().map(|label| label.image_id).collect();
        let buckets: Vec<Option<String>> = text(|label| &label.bucket);
        let keys: Vec<Option<String>> = text(|label| &label.key);
        let etags: Vec<Option<String>> = text(|label| &label.etag);
        let claims: Vec<Option<String>> = text(|label| &label.claim_id);
        let severities: Vec<String> = labels.iter().map(|label| label.severity.to_string()).collect();
        let sources: Vec<String> = labels.iter().map(|label| label.source.clone()).collect();
        let times: Vec<DateTime<Utc>> = labels.iter().map(|label| label.decided_at).collect();
        let nul = |text: &Option<String>| text.as_ref().is_some_and(|text| text.contains('\0'));
        if [&buckets, &keys, &etags, &claims].into_iter().flatten().any(nul)
            || sources.iter().any(|text| text.contains('\0'))
        {
            return Err(Error::new(ErrorKind::Invalid, "a text has a NUL character, which Postgres cannot store"));
        }
        let mut tx = self.begin_bulk("begin recording labels").await?;
        let rows = sqlx::query!(
            r#"select given.position as "position!", r.recorded as "recorded!", r.problem
               from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[])
                    with ordinality as given(image_id, bucket, key, etag, claim_id, severity, source, decided_at, position)
               cross join lateral record_label(given.image_id, given.bucket, given.key, given.etag, given.claim_id,
                                               given.severity::severity, given.source, given.decided_at) r
               order by 1"#,
            &image_ids as &[Option<i64>],
            &buckets as &[Option<String>],
            &keys as &[Option<String>],
            &etags as &[Option<String>],
            &claims as &[Option<String>],
            &severities,
            &sources,
            &times
        )
        .fetch_all(&mut *tx)
        .await
        .during("record labels")?;
        let mut outcome = LabelsRecorded::default();
        for row in rows {
            match row.problem {
                Some(problem) => outcome.problems.push((row.position as usize - 1, problem)),
                None if row.recorded => outcome.new += 1,
                None => outcome.known += 1,
            }
        }
        let keep = match bad_rows {
            BadRows::Refuse => outcome.problems.is_empty(),
            BadRows::Skip => true,
            BadRows::Check => false,
        };
        if keep {
            tx.commit().await.during("commit labels")?;
        } else {
            tx.rollback().await.during("drop labels")?;
            if bad_rows == BadRows::Refuse {
                (outcome.new, outcome.known) = (0, 0);
            }
        }
        Ok(outcome)
    }

    /// Freezes the decisions that count as a version of a dataset. All photographs of a claim are in the same split, which is a function of the seed
    /// and the claim alone: a claim stays where it is when others come. A photograph without a claim is a claim of its own. Photographs that
    /// have been replaced are left out. Returns whether an older version has the same content.
    ///
    /// # Errors
    /// `NotFound` when there is nothing to choose from; `Invalid` when a split would be empty.
    pub async fn dataset_from_labels(&self, selection: &LabelledSelection) -> Result<(Dataset, bool)> {
        let LabelledSelection { name, validation_share, seed, source, since, claim_labels } = selection;
        if !(*validation_share > 0.0 && *validation_share < 1.0) {
            let message = format!("a validation share of {validation_share}: expected a number above 0 and below 1");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let mut tx = self.begin_bulk("begin a dataset from labels").await?;
        let draft = draft(&mut tx, name, Some(&selection.origin())).await?;
        sqlx::query!(
            "with decisions as (
                 select image_id, claim_id, severity from current_labels
                 where ($4::text is null or source = $4) and ($5::timestamptz is null or decided_at >= $5)
             ), chosen as (
                 select i.id, i.claim_id, i.bucket, i.key, d.severity
                 from decisions d join images i on i.id = d.image_id
                 where i.superseded_at is null
                 union all
                 select i.id, i.claim_id, i.bucket, i.key, d.severity
                 from decisions d join images i on i.claim_id = d.claim_id
                 where $6 and d.image_id is null and i.superseded_at is null
                   and not exists (select from human_labels own where own.image_id = i.id)
             )
             insert into dataset_items (dataset_id, image_id, split, label)
             select $1, id, case when draw < $2 then 'validation' else 'training' end, severity
             from chosen
             cross join lateral (select coalesce('claim ' || claim_id, 'image ' || bucket || '/' || key) as unit) units
             -- The first 52 bits of a SHA-256, as a number from 0 to 1.
             cross join lateral (select ('x' || substr(encode(sha256(convert_to($3::text || ' ' || unit, 'UTF8')), 'hex'), 1, 13))::bit(52)::bigint
                                        / 4503599627370496.0::double precision as draw) draws",
            draft.id,
            validation_share,
            seed.to_string(),
            source.as_deref(),
            *since,
            claim_labels
        )
        .execute(&mut *tx)
        .await
        .during("choose the labelled images")?;
        let counts = sqlx::query!(
            r#"select count(*) filter (where split = 'training') as "training!", count(*) filter (where split = 'validation') as "validation!"
               from dataset_items where dataset_id = $1"#,
            draft.id
        )
        .fetch_one(&mut *tx)
        .await
        .during("count the labelled images")?;
        let missing = match (counts.training, counts.validation) {
            (0, 0) => {
                let hint = if *claim_labels {
                    ""
                } else {
                    ", or let photographs take their claim's decision (--claim-labels)"
                };
                let message =
                    format!("no present photograph has such a decision: import some with `perito labels import`{hint}");
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            (0, _) => Some(Split::Training),
            (_, 0) => Some(Split::Validation),
            _ => None,
        };
        if let Some(split) = missing {
            let message = format!(
                "the {split} split would be empty: {} photographs fall into the other one; choose another --validation-share or --seed, or \
                 import more decisions",
                counts.training + counts.validation
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let (id, existing) = freeze_draft(&mut tx, draft.id).await?;
        tx.commit().await.during("freeze the dataset")?;
        Ok((self.dataset_by_id(id).await?, existing))
    }
}

impl LabelledSelection {
    /// For the record.
    fn origin(&self) -> String {
        let mut origin = format!("human labels, validation share {}, seed {}", self.validation_share, self.seed);
        if let Some(source) = &self.source {
            origin.push_str(&format!(", of {source}"));
        }
        if let Some(since) = &self.since {
            origin.push_str(&format!(", since {}", since.to_rfc3339()));
        }
        if self.claim_labels {
            origin.push_str(", with claims' decisions");
        }
        origin
    }
}
