//! Deleting a version that nothing uses. The catalogue forgets it first; whoever asked removes the weights last.

use chrono::{DateTime, Utc};
use perito_domain::{
    audit::Signature,
    names::{ModelRef, ModelSelector, Name},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Database, Model,
    error::{During, Error, ErrorKind, Result},
    models::find,
};

/// A version that has been deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedModel {
    /// Its name.
    pub name: String,
    /// Its version, which is never given again.
    pub version: i32,
    /// Where its weights are, or were: the bucket.
    pub artifact_bucket: String,
    /// The key.
    pub artifact_key: String,
    /// A version that has the same weights file, which therefore has to stay.
    pub shared_with: Option<String>,
    /// Who deleted it.
    pub deleted_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub deleted_at: DateTime<Utc>,
}

impl Database {
    /// Deletes a version that nothing uses, with its own training's measurement. Deleting it again gives the same answer, so that the removal of
    /// its weights can be tried again.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when something uses it, and then it says what.
    pub async fn delete_model(&self, name: &Name, version: i32, signature: &Signature) -> Result<DeletedModel> {
        let mut tx = self.begin("begin deleting a model").await?;
        if let Some(deleted) = tombstone(&mut tx, name, version).await? {
            return Ok(deleted);
        }
        let reference = ModelRef { name: name.clone(), selector: ModelSelector::Version(version) };
        let model = find(&mut tx, &reference).await?;
        // Whoever is about to refer to it waits, and then finds nothing.
        sqlx::query!("select id from models where id = $1 for update", model.id)
            .fetch_optional(&mut *tx)
            .await
            .during("lock the model")?;
        let uses = uses(&mut tx, &model).await?;
        if !uses.is_empty() {
            return Err(Error::new(ErrorKind::Conflict, format!("{reference} is in use: {}", uses.join("; "))));
        }
        sqlx::query!(
            "insert into deleted_models (name, version, artifact_bucket, artifact_key, artifact_sha256, artifact_bytes, facts, deleted_by, reason)
             select name, version, artifact_bucket, artifact_key, artifact_sha256, artifact_bytes, to_jsonb(m), $2, $3
             from models m where id = $1",
            model.id,
            signature.by(),
            signature.reason()
        )
        .execute(&mut *tx)
        .await
        .during("record the deletion")?;
        forget(&mut tx, model.id, model.job_id).await?;
        let deleted = tombstone(&mut tx, name, version).await?;
        tx.commit().await.during("delete the model")?;
        deleted.ok_or_else(|| Error::new(ErrorKind::Internal, format!("the deletion of {reference} was not recorded")))
    }
}

async fn tombstone(tx: &mut PgConnection, name: &Name, version: i32) -> Result<Option<DeletedModel>> {
    sqlx::query_as!(
        DeletedModel,
        r#"select name, version, artifact_bucket, artifact_key, deleted_by, reason, deleted_at,
                  (select m.name || '@' || m.version from models m
                   where m.artifact_bucket = x.artifact_bucket and m.artifact_key = x.artifact_key limit 1) as shared_with
           from deleted_models x where name = $1 and version = $2"#,
        name.as_str(),
        version
    )
    .fetch_optional(tx)
    .await
    .during("look for the deletion")
}

/// What uses a version, in words. Jobs that failed or were cancelled have no results that anybody sees: they do not count.
async fn uses(tx: &mut PgConnection, model: &Model) -> Result<Vec<String>> {
    let reference = model.reference();
    let row = sqlx::query!(
        r#"
        with named as (
            -- What a queued job's specification means is only settled when it is planned: NAME is the newest version.
            select $2::text as exact, case when not exists (select from models where name = $3 and version > $4) then $3::text end as newest
        )
        select array(select alias from model_aliases where model_id = $1 order by alias) as "aliases!",
               array(select j.id from jobs j, named
                     where j.state in ('queued', 'running')
                       and (j.model_id = $1
                            or case j.kind when 'train' then j.spec ->> 'weights' when 'sweep' then j.spec #>> '{train,weights}'
                                           else j.spec ->> 'model' end in (named.exact, named.newest))
                     order by j.created_at) as "open!: Vec<Uuid>",
               (select count(*) from jobs where model_id = $1 and state = 'succeeded' and kind = 'score') as "runs!",
               (select count(*) from jobs where model_id = $1 and state = 'succeeded' and kind = 'evaluate') as "evaluations!",
               array(select t.name || '@' || t.version
                     from models t join jobs j on j.id = t.job_id
                     where t.hyperparameters ->> 'weights' = $2
                        -- NAME and NAME@ALIAS meant what they pointed to when the training was planned.
                        or t.hyperparameters ->> 'weights' = $3
                           and $4 = (select max(version) from models n where n.name = $3 and n.created_at <= j.planned_at)
                        or exists (select from alias_tenures a
                                   where a.name = $3 and a.version = $4 and t.hyperparameters ->> 'weights' = $3 || '@' || a.alias
                                     and j.planned_at >= a.held_from and j.planned_at < a.held_until)
                     order by t.id) as "heirs!: Vec<String>",
               (select count(*) from model_comparisons c join evaluations e on e.id in (c.champion_evaluation_id, c.challenger_evaluation_id)
                where e.model_id = $1) as "comparisons!"
        "#,
        model.id,
        reference,
        model.name,
        model.version
    )
    .fetch_one(tx)
    .await
    .during("look for uses of the model")?;
    let mut uses = Vec::new();
    if !row.aliases.is_empty() {
        uses.push(format!(
            "{} {} to it (move it with perito model promote)",
            row.aliases.join(", "),
            points(row.aliases.len())
        ));
    }
    if let Some(first) = row.open.first() {
        uses.push(format!(
            "{} open, such as {first} (wait for it, or perito job cancel {first})",
            counted(row.open.len(), "job")
        ));
    }
    for (count, what) in [
        (row.runs, "finished scoring run"),
        (row.evaluations, "evaluation"),
        (row.comparisons, "comparison with another model"),
    ] {
        if count > 0 {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            uses.push(format!("{} would lose lineage", counted(count, what)));
        }
    }
    if !row.heirs.is_empty() {
        uses.push(format!("{} was trained from it", row.heirs.join(", ")));
    }
    Ok(uses)
}

fn points(count: usize) -> &'static str {
    if count == 1 { "points" } else { "point" }
}

fn counted(count: usize, what: &str) -> String {
    match what.split_once(' ') {
        _ if count == 1 => format!("1 {what}"),
        Some(("comparison", rest)) => format!("{count} comparisons {rest}"),
        _ => format!("{count} {what}s"),
    }
}

/// Removes the version with its own training's measurement and the predictions behind it.
async fn forget(tx: &mut PgConnection, model_id: i64, training: Option<Uuid>) -> Result<()> {
    sqlx::query!(
        "delete from predictions p using jobs j, evaluations e
         where e.model_id = $1 and j.id = $2 and e.job_id = j.id and p.job_id = j.id and p.run_date = j.run_date",
        model_id,
        training
    )
    .execute(&mut *tx)
    .await
    .during("delete the training's predictions")?;
    sqlx::query!("delete from evaluations where model_id = $1 and job_id = $2", model_id, training)
        .execute(&mut *tx)
        .await
        .during("delete the training's measurement")?;
    sqlx::query!("update jobs set model_id = null where model_id = $1", model_id)
        .execute(&mut *tx)
        .await
        .during("release the jobs")?;
    sqlx::query!("delete from models where id = $1", model_id).execute(tx).await.during("delete the model")?;
    Ok(())
}
