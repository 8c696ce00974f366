//! Aliases: where they point, how they move, and who moved them when and why.
//!
//! An alias moves to another version only when the gate consents: on the same split of the same dataset the new version's macro F1 may be below
//! the present holder's by a margin at most. Whoever forces it says why.

use chrono::{DateTime, Utc};
use perito_domain::{
    aliases::{AliasAction, former_holder},
    audit::Signature,
    names::{DatasetRef, ModelRef, ModelSelector, Name},
    spec::Split,
};
use sqlx::PgConnection;

use crate::{
    Database, Model,
    datasets::{self, stored},
    error::{During, Error, ErrorKind, Result},
    measurements,
    models::{by_id, cannot_score, find},
};

/// An alias to point to a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Promotion {
    /// The model's name.
    pub name: Name,
    /// The version.
    pub version: i32,
    /// The alias.
    pub alias: Name,
    /// What has to hold.
    pub gate: Gate,
    /// Who wants it, and why.
    pub signature: Signature,
}

/// What has to hold before an alias leaves its present holder.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// Where the two are compared; the dataset that the new version was trained on unless told.
    pub dataset: Option<DatasetRef>,
    /// The part of it.
    pub split: Split,
    /// How far below the present holder's the macro F1 may be.
    pub margin: f64,
    /// Move it in any case; needs a reason.
    pub force: bool,
}

/// What the gate compared.
#[derive(Debug, Clone, PartialEq)]
pub struct GateCheck {
    /// The dataset, `name@version`.
    pub dataset: String,
    /// The part of it.
    pub split: Split,
    /// How far below the macro F1 was allowed to be.
    pub margin: f64,
    /// Macro F1 of the version that the alias moved to.
    pub macro_f1: f64,
    /// Macro F1 of the version that it moved from.
    pub former_macro_f1: f64,
}

/// A move of an alias.
#[derive(Debug, Clone, PartialEq)]
pub struct AliasMove {
    /// The alias.
    pub alias: String,
    /// Why it moved.
    pub action: AliasAction,
    /// The version that held it before.
    pub from_version: Option<i32>,
    /// The version that it moved to.
    pub to_version: i32,
    /// Who moved it.
    pub moved_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub moved_at: DateTime<Utc>,
    /// Whether it moved without the gate's consent.
    pub forced: bool,
    /// What the gate compared, if it did.
    pub check: Option<GateCheck>,
}

/// A row to be written.
#[derive(Default)]
struct NewMove {
    from_version: Option<i32>,
    forced: bool,
    /// The dataset's id beside what was compared on it.
    check: Option<(i64, GateCheck)>,
}

impl Database {
    /// Points an alias to a version, if the gate consents. Nothing happens when it points there already.
    ///
    /// # Errors
    /// `NotFound` when there is no such version; `Invalid` when it cannot score, or is forced without a reason; `Conflict` when the gate refuses,
    /// or a measurement is missing, and then it says how to make it.
    pub async fn promote(&self, promotion: &Promotion) -> Result<Model> {
        let Promotion { name, version, alias, gate, signature } = promotion;
        if gate.force && signature.reason.is_none() {
            return Err(Error::new(ErrorKind::Invalid, "forced without a reason: say why with --reason"));
        }
        let mut tx = self.begin("begin promoting").await?;
        lock(&mut tx, name, alias).await?;
        let model = find(&mut tx, &version_of(name, *version)).await?;
        if model.class_names.is_empty() {
            return Err(cannot_score(&model));
        }
        let holder = match holder(&mut tx, name, alias).await? {
            Some(holder) if holder.id == model.id => return Ok(model),
            holder => holder,
        };
        let mut row = NewMove { from_version: holder.as_ref().map(|holder| holder.version), ..NewMove::default() };
        if let Some(holder) = &holder {
            match consent(&mut tx, &model, holder, alias, gate).await {
                Ok((check, refusal)) => {
                    if let Some(refusal) = refusal.filter(|_| !gate.force) {
                        return Err(refusal);
                    }
                    row.forced = check.1.macro_f1 < check.1.former_macro_f1 - check.1.margin;
                    row.check = Some(check);
                }
                // Without measurements there is nothing to consent to.
                Err(error) if gate.force && matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {
                    row.forced = true;
                }
                Err(error) => return Err(error),
            }
        }
        point(&mut tx, &model, alias, AliasAction::Promote, &row, signature).await?;
        let model = by_id(&mut tx, model.id).await?;
        tx.commit().await.during("promote the model")?;
        Ok(model)
    }

    /// Points an alias back to the version that held it before the last promotion. `holder` is the version that the caller believes to hold
    /// it now: another one is a `Conflict`, so that a rollback that is sent twice happens once.
    ///
    /// # Errors
    /// `NotFound` when there is no such alias; `Conflict` when there is no way back.
    pub async fn roll_back(
        &self,
        name: &Name,
        alias: &Name,
        holder_seen: Option<i32>,
        signature: &Signature,
    ) -> Result<Model> {
        let mut tx = self.begin("begin rolling back").await?;
        lock(&mut tx, name, alias).await?;
        let reference = ModelRef { name: name.clone(), selector: ModelSelector::Alias(alias.clone()) };
        let present = find(&mut tx, &reference).await?;
        let conflict = |message: String| Err(Error::new(ErrorKind::Conflict, message));
        if holder_seen.is_some_and(|seen| seen != present.version) {
            return conflict(format!(
                "{reference} points to version {} now, not to {}: look at `perito model history {name}` first",
                present.version,
                holder_seen.unwrap_or_default()
            ));
        }
        let moves = sqlx::query!(
            "select action, to_version from alias_moves where name = $1 and alias = $2 order by id",
            name.as_str(),
            alias.as_str()
        )
        .fetch_all(&mut *tx)
        .await
        .during("read the alias's history")?;
        let moves = moves
            .into_iter()
            .map(|row| Ok((stored(&row.action)?, row.to_version)))
            .collect::<Result<Vec<(AliasAction, i32)>>>()?;
        let Some(version) = former_holder(&moves) else {
            return conflict(format!("{reference} has no former holder: {} was its first", present.reference()));
        };
        let former = match find(&mut tx, &version_of(name, version)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return conflict(format!(
                    "the former holder {name}@{version} has been deleted: choose another version with `perito model promote`"
                ));
            }
            former => former?,
        };
        let row = NewMove { from_version: Some(present.version), ..NewMove::default() };
        point(&mut tx, &former, alias, AliasAction::Rollback, &row, signature).await?;
        let model = by_id(&mut tx, former.id).await?;
        tx.commit().await.during("roll the alias back")?;
        Ok(model)
    }

    /// The moves of a model's aliases, or of one of them, the newest first, at most 500.
    ///
    /// # Errors
    /// `NotFound` when no model ever had that name.
    pub async fn alias_history(&self, name: &Name, alias: Option<&Name>) -> Result<Vec<AliasMove>> {
        let known = sqlx::query_scalar!(
            r#"select exists(select from models where name = $1) or exists(select from alias_moves where name = $1) as "known!""#,
            name.as_str()
        )
        .fetch_one(&self.control)
        .await
        .during("find the model")?;
        if !known {
            let message = format!("there is no model {name}: see `perito model list`");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        let rows = sqlx::query!(
            r#"select h.alias, h.action, h.from_version, h.to_version, h.moved_by, h.reason, h.moved_at, h.forced,
                      d.name || '@' || d.version as dataset, h.split, h.margin, h.macro_f1, h.former_macro_f1
               from alias_moves h left join datasets d on d.id = h.dataset_id
               where h.name = $1 and ($2::text is null or h.alias = $2) order by h.id desc limit 500"#,
            name.as_str(),
            alias.map(Name::as_str)
        )
        .fetch_all(&self.control)
        .await
        .during("read the history")?;
        let read = |(dataset, split, margin, macro_f1, former): (_, Option<String>, _, _, _)| -> Result<_> {
            let split = split.as_deref().map(stored::<Split>).transpose()?;
            let check = || {
                Some(GateCheck {
                    dataset: dataset?,
                    split: split?,
                    margin: margin?,
                    macro_f1: macro_f1?,
                    former_macro_f1: former?,
                })
            };
            Ok(check())
        };
        rows.into_iter()
            .map(|row| {
                Ok(AliasMove {
                    alias: row.alias,
                    action: stored(&row.action)?,
                    from_version: row.from_version,
                    to_version: row.to_version,
                    moved_by: row.moved_by,
                    reason: row.reason,
                    moved_at: row.moved_at,
                    forced: row.forced,
                    check: read((row.dataset, row.split, row.margin, row.macro_f1, row.former_macro_f1))?,
                })
            })
            .collect()
    }
}

fn version_of(name: &Name, version: i32) -> ModelRef {
    ModelRef { name: name.clone(), selector: ModelSelector::Version(version) }
}

/// One move at a time, the first one of an alias too.
async fn lock(tx: &mut PgConnection, name: &Name, alias: &Name) -> Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('alias ' || $1 || '@' || $2))", name.as_str(), alias.as_str())
        .fetch_one(tx)
        .await
        .during("lock the alias")?;
    Ok(())
}

async fn holder(tx: &mut PgConnection, name: &Name, alias: &Name) -> Result<Option<Model>> {
    let id = sqlx::query_scalar!(
        "select model_id from model_aliases where name = $1 and alias = $2",
        name.as_str(),
        alias.as_str()
    )
    .fetch_optional(&mut *tx)
    .await
    .during("find the alias's holder")?;
    match id {
        Some(id) => Ok(Some(by_id(tx, id).await?)),
        None => Ok(None),
    }
}

/// Compares the two versions. What was compared, and the refusal if there is one.
async fn consent(
    tx: &mut PgConnection,
    model: &Model,
    holder: &Model,
    alias: &Name,
    gate: &Gate,
) -> Result<((i64, GateCheck), Option<Error>)> {
    let named = match (&gate.dataset, &model.dataset) {
        (Some(dataset), _) => dataset.clone(),
        (None, Some(trained_on)) => stored(trained_on)?,
        (None, None) => {
            let message = format!(
                "{alias} points to {} now, and {} was trained on no dataset of this registry: name the one to compare them on with \
                 --dataset, or move it all the same with --force --reason TEXT",
                holder.reference(),
                model.reference()
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
    };
    let (dataset_id, dataset) = datasets::find(tx, &named).await?;
    let split = gate.split;
    let mut scores = [0.0; 2];
    for (score, version) in scores.iter_mut().zip([model, holder]) {
        *score = measurements::newest(tx, version, (dataset_id, &dataset), split).await?.macro_f1;
    }
    let [macro_f1, former_macro_f1] = scores;
    let check = GateCheck { dataset: dataset.clone(), split, margin: gate.margin, macro_f1, former_macro_f1 };
    let refusal = (macro_f1 < former_macro_f1 - gate.margin).then(|| {
        Error::new(
            ErrorKind::Conflict,
            format!(
                "the macro F1 of {} on {dataset} ({split}) is {macro_f1:.4}, below the {former_macro_f1:.4} of {}, which {alias} points to, by \
                 more than the margin of {}: the alias stays; to move it all the same, add --force --reason TEXT",
                model.reference(),
                holder.reference(),
                gate.margin
            ),
        )
    });
    Ok(((dataset_id, check), refusal))
}

/// Moves the alias and writes the row that says so.
async fn point(
    tx: &mut PgConnection,
    model: &Model,
    alias: &Name,
    action: AliasAction,
    row: &NewMove,
    signature: &Signature,
) -> Result<()> {
    sqlx::query!(
        "insert into model_aliases (name, alias, model_id) values ($1, $2, $3)
         on conflict (name, alias) do update set model_id = excluded.model_id, updated_at = now()",
        model.name,
        alias.as_str(),
        model.id
    )
    .execute(&mut *tx)
    .await
    .during("set the alias")?;
    let check = row.check.as_ref();
    sqlx::query!(
        "insert into alias_moves (name, alias, action, from_version, to_version, moved_by, reason, forced, dataset_id, split, margin,
                                  macro_f1, former_macro_f1)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        model.name,
        alias.as_str(),
        action.as_str(),
        row.from_version,
        model.version,
        signature.by(),
        signature.reason(),
        row.forced,
        check.map(|(dataset_id, _)| *dataset_id),
        check.map(|(_, check)| check.split.as_str()),
        check.map(|(_, check)| check.margin),
        check.map(|(_, check)| check.macro_f1),
        check.map(|(_, check)| check.former_macro_f1)
    )
    .execute(tx)
    .await
    .during("record the move")?;
    Ok(())
}
