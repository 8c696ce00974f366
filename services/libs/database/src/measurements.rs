//! What is known of how well a version does: by its own training and by evaluations.

use chrono::{DateTime, Utc};
use perito_domain::{names::ModelRef, spec::Split};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Database, Model,
    datasets::stored,
    error::{During, Error, ErrorKind, Result},
};

/// A finished measurement of a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The job that measured, `train` or `evaluate`: [`Database::evaluation`] has the figures.
    pub job_id: Uuid,
    /// Its kind.
    pub measured_by: String,
    /// The dataset, `name@version`.
    pub dataset: String,
    /// The dataset's content digest.
    pub dataset_digest: String,
    /// The part of it.
    pub split: Split,
    /// When the job finished.
    pub finished_at: DateTime<Utc>,
}

/// The newest measurement on one split.
pub(crate) struct Newest {
    pub(crate) evaluation_id: i64,
    pub(crate) job_id: Uuid,
    pub(crate) macro_f1: f64,
}

impl Database {
    /// The newest measurement of a version on each split of each dataset, the newest first, at most 100.
    ///
    /// # Errors
    /// `NotFound` when there is no such version.
    pub async fn measurements(&self, reference: &ModelRef) -> Result<Vec<Measured>> {
        let model = self.model(reference).await?;
        let rows = sqlx::query!(
            r#"select * from (
                   select distinct on (e.dataset_id, e.split) e.job_id, j.kind as measured_by, d.name || '@' || d.version as "dataset!",
                          d.digest as "dataset_digest!", e.split, j.finished_at as "finished_at!"
                   from evaluations e join jobs j on j.id = e.job_id join datasets d on d.id = e.dataset_id
                   where e.model_id = $1 and j.state = 'succeeded'
                   order by e.dataset_id, e.split, j.finished_at desc, e.id desc
               ) newest order by 6 desc limit 100"#,
            model.id
        )
        .fetch_all(&self.control)
        .await
        .during("read the model's measurements")?;
        rows.into_iter()
            .map(|row| {
                Ok(Measured {
                    job_id: row.job_id,
                    measured_by: row.measured_by,
                    dataset: row.dataset,
                    dataset_digest: row.dataset_digest,
                    split: stored(&row.split)?,
                    finished_at: row.finished_at,
                })
            })
            .collect()
    }
}

/// The newest finished measurement of a version on a split of a dataset.
///
/// # Errors
/// `Conflict` when there is none: it says how to make it.
pub(crate) async fn newest(
    tx: &mut PgConnection,
    model: &Model,
    (dataset_id, dataset): (i64, &str),
    split: Split,
) -> Result<Newest> {
    sqlx::query_as!(
        Newest,
        "select e.id as evaluation_id, e.job_id, e.macro_f1
         from evaluations e join jobs j on j.id = e.job_id
         where e.model_id = $1 and e.dataset_id = $2 and e.split = $3 and j.state = 'succeeded'
         order by j.finished_at desc, e.id desc limit 1",
        model.id,
        dataset_id,
        split.as_str()
    )
    .fetch_optional(tx)
    .await
    .during("find the model's measurement")?
    .ok_or_else(|| {
        let model = model.reference();
        Error::new(
            ErrorKind::Conflict,
            format!(
                "{model} has not been measured on {dataset} ({split}): run `perito evaluate {model} --dataset {dataset} --split {split} \
                 --watch` first, or add --evaluate"
            ),
        )
    })
}
