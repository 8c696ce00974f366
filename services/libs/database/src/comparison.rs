//! Two models on the same images, and whether they differ by more than chance.

use chrono::{DateTime, Utc};
use perito_domain::{
    audit::Person,
    metrics::mcnemar::{Agreement, McNemar},
    names::{DatasetRef, ModelRef, Name},
    spec::Split,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Database,
    datasets::{self, stored},
    error::{During, Error, ErrorKind, Result},
    measurements::{self, Newest},
    models::find,
};

/// One of the two models of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Contender {
    /// The version, `name@version`.
    pub model: String,
    /// The job that measured it.
    pub job_id: Uuid,
    /// Its accuracy on the split.
    pub accuracy: f64,
    /// Its macro F1 on the split.
    pub macro_f1: f64,
}

/// A stored comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The first model.
    pub champion: Contender,
    /// The second model.
    pub challenger: Contender,
    /// The dataset, `name@version`.
    pub dataset: String,
    /// The part of it.
    pub split: Split,
    /// Images that both graded, by who was right.
    pub agreement: Agreement,
    /// Images that only one of them graded.
    pub left_out: i64,
    /// What the test says.
    pub mcnemar: McNemar,
    /// Who asked first.
    pub compared_by: Option<String>,
    /// When.
    pub compared_at: DateTime<Utc>,
}

struct ComparisonRow {
    champion: String,
    champion_job_id: Uuid,
    champion_accuracy: f64,
    champion_macro_f1: f64,
    challenger: String,
    challenger_job_id: Uuid,
    challenger_accuracy: f64,
    challenger_macro_f1: f64,
    dataset: String,
    split: String,
    both_right: i64,
    only_champion_right: i64,
    only_challenger_right: i64,
    both_wrong: i64,
    left_out: i64,
    test: String,
    statistic: f64,
    p_value: f64,
    compared_by: Option<String>,
    compared_at: DateTime<Utc>,
}

/// The columns of a comparison, one macro so that every query reads the same ones.
macro_rules! select_comparisons {
    ($condition:literal, $($argument:expr),*) => {
        sqlx::query_as!(
            ComparisonRow,
            r#"select m.name || '@' || m.version as "champion!", a.job_id as champion_job_id, a.accuracy as champion_accuracy,
                      a.macro_f1 as champion_macro_f1, n.name || '@' || n.version as "challenger!", b.job_id as challenger_job_id,
                      b.accuracy as challenger_accuracy, b.macro_f1 as challenger_macro_f1, d.name || '@' || d.version as "dataset!",
                      a.split, c.both_right, c.only_champion_right, c.only_challenger_right, c.both_wrong, c.left_out, c.test,
                      c.statistic, c.p_value, c.compared_by, c.compared_at
               from model_comparisons c
               join evaluations a on a.id = c.champion_evaluation_id
               join evaluations b on b.id = c.challenger_evaluation_id
               join models m on m.id = a.model_id
               join models n on n.id = b.model_id
               join datasets d on d.id = a.dataset_id "# + $condition,
            $($argument),*
        )
    };
}

impl TryFrom<ComparisonRow> for Comparison {
    type Error = Error;

    fn try_from(row: ComparisonRow) -> Result<Self> {
        Ok(Self {
            champion: Contender {
                model: row.champion,
                job_id: row.champion_job_id,
                accuracy: row.champion_accuracy,
                macro_f1: row.champion_macro_f1,
            },
            challenger: Contender {
                model: row.challenger,
                job_id: row.challenger_job_id,
                accuracy: row.challenger_accuracy,
                macro_f1: row.challenger_macro_f1,
            },
            dataset: row.dataset,
            split: stored(&row.split)?,
            agreement: Agreement {
                both_right: row.both_right.unsigned_abs(),
                only_champion_right: row.only_champion_right.unsigned_abs(),
                only_challenger_right: row.only_challenger_right.unsigned_abs(),
                both_wrong: row.both_wrong.unsigned_abs(),
            },
            left_out: row.left_out,
            mcnemar: McNemar { test: stored(&row.test)?, statistic: row.statistic, p_value: row.p_value },
            compared_by: row.compared_by,
            compared_at: row.compared_at,
        })
    }
}

impl Database {
    /// Compares two versions by their newest measurements on a split, and stores it. The same two measurements are compared once.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when the two are the same version or have no image in common; `Conflict` when a measurement is missing, and then it
    /// says how to make it.
    pub async fn compare_models(
        &self,
        champion: &ModelRef,
        challenger: &ModelRef,
        dataset: &DatasetRef,
        split: Split,
        by: Option<&Person>,
    ) -> Result<Comparison> {
        let mut tx = self.begin("begin comparing").await?;
        let (first, second) = (find(&mut tx, champion).await?, find(&mut tx, challenger).await?);
        if first.id == second.id {
            let message = format!("{champion} and {challenger} are the same version, {}", first.reference());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let (dataset_id, dataset) = datasets::find(&mut tx, dataset).await?;
        let a = measurements::newest(&mut tx, &first, (dataset_id, &dataset), split).await?;
        let b = measurements::newest(&mut tx, &second, (dataset_id, &dataset), split).await?;
        let (agreement, left_out) = count(&mut tx, &a, &b, dataset_id, split).await?;
        if agreement.images() == 0 {
            let message = format!("{} and {} have graded no image in common", first.reference(), second.reference());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let mcnemar = agreement.mcnemar();
        sqlx::query!(
            "insert into model_comparisons (champion_evaluation_id, challenger_evaluation_id, both_right, only_champion_right,
                                            only_challenger_right, both_wrong, left_out, test, statistic, p_value, compared_by)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict do nothing",
            a.evaluation_id,
            b.evaluation_id,
            agreement.both_right.cast_signed(),
            agreement.only_champion_right.cast_signed(),
            agreement.only_challenger_right.cast_signed(),
            agreement.both_wrong.cast_signed(),
            left_out,
            mcnemar.test.as_str(),
            mcnemar.statistic,
            mcnemar.p_value,
            by.map(Person::as_str)
        )
        .execute(&mut *tx)
        .await
        .during("record the comparison")?;
        let row = select_comparisons!(
            "where c.champion_evaluation_id = $1 and c.challenger_evaluation_id = $2",
            a.evaluation_id,
            b.evaluation_id
        )
        .fetch_one(&mut *tx)
        .await
        .during("read the comparison")?;
        tx.commit().await.during("commit the comparison")?;
        row.try_into()
    }

    /// Stored comparisons in which a model of this name took part, or all, the newest first, at most 500.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list_comparisons(&self, name: Option<&Name>) -> Result<Vec<Comparison>> {
        let rows = select_comparisons!(
            "where $1::text is null or m.name = $1 or n.name = $1 order by c.compared_at desc, c.id desc limit 500",
            name.map(Name::as_str)
        )
        .fetch_all(&self.control)
        .await
        .during("list comparisons")?;
        rows.into_iter().map(Comparison::try_from).collect()
    }
}

/// Who was right on the images of the split, and how many images only one of the two graded.
async fn count(
    tx: &mut PgConnection,
    champion: &Newest,
    challenger: &Newest,
    dataset_id: i64,
    split: Split,
) -> Result<(Agreement, i64)> {
    let row = sqlx::query!(
        r#"with a as (select p.image_id, p.severity from jobs j join predictions p on p.job_id = j.id and p.run_date = j.run_date
                      where j.id = $1),
                b as (select p.image_id, p.severity from jobs j join predictions p on p.job_id = j.id and p.run_date = j.run_date
                      where j.id = $2)
           select count(*) filter (where a.severity = d.label and b.severity = d.label) as "both_right!",
                  count(*) filter (where a.severity = d.label and b.severity <> d.label) as "only_champion_right!",
                  count(*) filter (where a.severity <> d.label and b.severity = d.label) as "only_challenger_right!",
                  count(*) filter (where a.severity <> d.label and b.severity <> d.label) as "both_wrong!",
                  count(*) filter (where (a.image_id is null) <> (b.image_id is null)) as "left_out!"
           from dataset_items d
           left join a on a.image_id = d.image_id
           left join b on b.image_id = d.image_id
           where d.dataset_id = $3 and d.split = $4"#,
        champion.job_id,
        challenger.job_id,
        dataset_id,
        split.as_str()
    )
    .fetch_one(tx)
    .await
    .during("count who was right")?;
    let agreement = Agreement {
        both_right: row.both_right.unsigned_abs(),
        only_champion_right: row.only_champion_right.unsigned_abs(),
        only_challenger_right: row.only_challenger_right.unsigned_abs(),
        both_wrong: row.both_wrong.unsigned_abs(),
    };
    Ok((agreement, row.left_out))
}
