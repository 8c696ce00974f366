//! Old months of predictions leave, and come back. Each step is one transaction, and `archives` says which was the last, so that a
//! process that dies between two leaves nothing that the next one does not find.
//!
//! Attached, a month is part of the table `predictions`. [`Database::detach_month`] takes it out, and with it the runs out of the views of
//! rows. [`Database::archive_stored`] records where its copy is, [`Database::drop_month`] drops it. [`Database::attach_month`] brings it back
//! from either state; after a drop, [`Database::load_month`] fills it first.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use perito_domain::{
    month::Month,
    table::{Column, ColumnType, Row},
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::{
    Database,
    copy_format::{HEADER, TRAILER, encode},
    error::{During, Error, ErrorKind, Result},
    extract::Extract,
};

/// Waiting longer for readers and writers of the table would make everybody else wait behind us.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '2s'";
/// How often, and how long after each other, the right to archive is asked for.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// Bytes that are sent at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// No answer to one chunk for so long: the server is gone.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(120);

/// The columns of a prediction, as they are archived.
const COLUMNS: [(&str, ColumnType); 8] = [
    ("job_id", ColumnType::Uuid),
    ("image_id", ColumnType::Int64),
    ("run_date", ColumnType::Date),
    ("severity", ColumnType::Text),
    ("p_minor", ColumnType::Float32),
    ("p_moderate", ColumnType::Float32),
    ("p_severe", ColumnType::Float32),
    ("scored_at", ColumnType::Timestamp),
];

/// How far a month has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveState {
    /// Out of the views; its table waits to be stored.
    Detached,
    /// In the object store too.
    Stored,
    /// Only in the object store.
    Archived,
}

/// A month that is leaving or has left.
#[derive(Debug, Clone, PartialEq)]
pub struct Archive {
    /// The month.
    pub month: Month,
    /// How far it has come.
    pub state: ArchiveState,
    /// Where its copy goes: the bucket,
    pub bucket: String,
    /// and what its keys begin with.
    pub prefix: String,
    /// How many runs it has.
    pub runs: i64,
    /// How many predictions.
    pub predictions: i64,
    /// What was stored.
    pub manifest: Option<Value>,
    /// When its table was dropped.
    pub archived_at: Option<DateTime<Utc>>,
}

/// A month that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentMonth {
    /// The month.
    pub month: Month,
    /// Runs that have ended.
    pub runs: i64,
    /// Runs that have not: they may still write into it.
    pub unfinished: i64,
    /// What its table and indexes take on disk, in bytes.
    pub bytes: i64,
}

/// The right to archive and restore, which one process has at a time. The server takes it back when the process ends.
#[derive(Debug)]
pub struct ArchiveLock(#[expect(dead_code, reason = "held, never used")] PgConnection);

fn table(month: Month) -> String {
    format!("predictions_{}", month.first_day().format("%Y_%m"))
}

fn columns() -> Vec<Column> {
    COLUMNS.map(|(name, kind)| Column { name: name.to_owned(), kind }).into()
}

fn state(text: &str) -> Result<ArchiveState> {
    match text {
        "detached" => Ok(ArchiveState::Detached),
        "stored" => Ok(ArchiveState::Stored),
        "archived" => Ok(ArchiveState::Archived),
        other => Err(Error::new(ErrorKind::Internal, format!("an archive is {other:?}"))),
    }
}

impl Database {
    /// Takes the right to archive and restore.
    ///
    /// # Errors
    /// `Conflict` when another process has it.
    pub async fn lock_archives(&self) -> Result<ArchiveLock> {
        let mut connection = self.unhurried().await?;
        for _ in 0..LOCK_TRIES {
            let taken = sqlx::query_scalar!(r#"select pg_try_advisory_lock(hashtext('archives')) as "taken!""#)
                .fetch_one(&mut connection)
                .await
                .during("lock the archives")?;
            if taken {
                return Ok(ArchiveLock(connection));
            }
            // Of a holder that has just ended the server may not know yet.
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Err(Error::new(ErrorKind::Conflict, "another process is archiving or restoring: wait until it has ended"))
    }

    /// The months that are there, oldest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn present_months(&self) -> Result<Vec<PresentMonth>> {
        let rows = sqlx::query!(
            r#"select to_date(right(c.relname, 7), 'YYYY_MM') as "month!", pg_total_relation_size(c.oid) as "bytes!",
                      count(j.id) filter (where j.finished_at is not null) as "runs!",
                      count(j.id) filter (where j.finished_at is null) as "unfinished!"
               from pg_inherits i
               join pg_class c on c.oid = i.inhrelid
               left join jobs j on date_trunc('month', j.run_date) = to_date(right(c.relname, 7), 'YYYY_MM')
               where i.inhparent = 'predictions'::regclass
               group by c.oid, c.relname order by c.relname"#
        )
        .fetch_all(&self.control)
        .await
        .during("list the months")?;
        let month = |day: NaiveDate| Month::of(day);
        Ok(rows
            .into_iter()
            .map(|row| PresentMonth {
                month: month(row.month),
                runs: row.runs,
                unfinished: row.unfinished,
                bytes: row.bytes,
            })
            .collect())
    }

    /// The months that are leaving or have left, oldest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn archives(&self) -> Result<Vec<Archive>> {
        let rows = sqlx::query!(
            "select month, state, bucket, prefix, runs, predictions, manifest, archived_at from archives order by month"
        )
        .fetch_all(&self.control)
        .await
        .during("list the archives")?;
        rows.into_iter()
            .map(|row| {
                Ok(Archive {
                    month: Month::of(row.month),
                    state: state(&row.state)?,
                    bucket: row.bucket,
                    prefix: row.prefix,
                    runs: row.runs,
                    predictions: row.predictions,
                    manifest: row.manifest,
                    archived_at: row.archived_at,
                })
            })
            .collect()
    }

    /// Takes a month out of `predictions`, and its runs out of the views of rows, at once. What is left of the month moves to the
    /// schema `archive`.
    ///
    /// # Errors
    /// `Conflict` when a run of the month has not ended; `Unavailable` when the table is too busy: try again.
    pub async fn detach_month(&self, _lock: &ArchiveLock, month: Month, bucket: &str, prefix: &str) -> Result<()> {
        let mut connection = self.unhurried().await?;
        let mut tx = connection.begin().await.during("begin detaching")?;
        tx.execute(LOCK_TIMEOUT).await.during("begin detaching")?;
        let name = table(month);
        // Waits for those who read or write just now, and then nobody else does until the commit.
        tx.execute(AssertSqlSafe(format!("alter table predictions detach partition {name}")))
            .await
            .during("detach the month")?;
        tx.execute(AssertSqlSafe(format!("alter table {name} set schema archive"))).await.during("detach the month")?;
        let unfinished = sqlx::query_scalar!(
            r#"select count(*) as "count!" from jobs where run_date >= $1 and run_date < $2 and finished_at is null"#,
            month.first_day(),
            month.end()
        )
        .fetch_one(&mut *tx)
        .await
        .during("look for unfinished runs")?;
        if unfinished > 0 {
            return Err(Error::new(ErrorKind::Conflict, format!("{unfinished} runs of {month} have not ended")));
        }
        let predictions: i64 = sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from archive.{name}")))
            .fetch_one(&mut *tx)
            .await
            .during("count the month's predictions")?;
        let runs = sqlx::query!(
            "update jobs set archived_at = now() where run_date >= $1 and run_date < $2",
            month.first_day(),
            month.end()
        )
        .execute(&mut *tx)
        .await
        .during("mark the runs archived")?
        .rows_affected();
        sqlx::query!(
            "update latest_scores l set archived = true from jobs j where j.id = l.job_id and j.run_date >= $1 and j.run_date < $2",
            month.first_day(),
            month.end()
        )
        .execute(&mut *tx)
        .await
        .during("hide the scores")?;
        // A run of the month may have ended after one of a later month, whose scores are the latest now.
        sqlx::query!(
            "insert into latest_scores (image_id, job_id, model_id, severity, p_minor, p_moderate, p_severe, scored_at, finished_at)
             select distinct on (p.image_id) p.image_id, p.job_id, j.model_id, p.severity, p.p_minor, p.p_moderate, p.p_severe,
                    p.scored_at, j.finished_at
             from latest_scores l
             join jobs a on a.id = l.job_id and a.run_date >= $1 and a.run_date < $2
             join predictions p on p.image_id = l.image_id
             join jobs j on j.id = p.job_id and j.run_date = p.run_date and j.kind = 'score' and j.state = 'succeeded'
             where l.archived
             order by p.image_id, j.finished_at desc, j.id desc
             on conflict (image_id) do update
             set job_id = excluded.job_id, model_id = excluded.model_id, severity = excluded.severity, p_minor = excluded.p_minor,
                 p_moderate = excluded.p_moderate, p_severe = excluded.p_severe, scored_at = excluded.scored_at,
                 finished_at = excluded.finished_at, archived = false",
            month.first_day(),
            month.end()
        )
        .execute(&mut *tx)
        .await
        .during("find the latest scores that are left")?;
        sqlx::query!(
            "insert into archives (month, bucket, prefix, runs, predictions) values ($1, $2, $3, $4, $5)",
            month.first_day(),
            bucket,
            prefix,
            runs.cast_signed(),
            predictions
        )
        .execute(&mut *tx)
        .await
        .during("record the archive")?;
        tx.commit().await.during("detach the month")
    }

    /// All predictions of a month that is detached.
    pub fn archive_extract(&self, month: Month) -> Extract {
        let names = COLUMNS
            .map(|(name, kind)| if kind == ColumnType::Text { format!("{name}::text") } else { name.to_owned() });
        Extract { query: format!("select {} from archive.{}", names.join(", "), table(month)), columns: columns() }
    }

    /// The columns of what [`Self::archive_extract`] gives and [`Self::load_month`] takes.
    pub fn archive_columns(&self) -> Vec<Column> {
        columns()
    }

    /// The runs of a month, as they are recorded beside its predictions.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn archived_runs(&self, month: Month) -> Result<Value> {
        sqlx::query_scalar!(
            r#"select coalesce(jsonb_agg(jsonb_build_object(
                          'job_id', j.id, 'kind', j.kind, 'state', j.state, 'model', m.name || '@' || m.version, 'run_date', j.run_date,
                          'images_scored', j.images_scored, 'images_failed', j.images_failed, 'finished_at', j.finished_at, 'spec', j.spec)
                      order by j.id), '[]') as "runs!"
               from jobs j left join models m on m.id = j.model_id
               where j.run_date >= $1 and j.run_date < $2"#,
            month.first_day(),
            month.end()
        )
        .fetch_one(&self.control)
        .await
        .during("read the month's runs")
    }

    /// Records that a month is stored; `None`, that it turned out not to be, and has to be stored again.
    ///
    /// # Errors
    /// `Conflict` when it is not on its way.
    pub async fn archive_stored(&self, _lock: &ArchiveLock, month: Month, manifest: Option<&Value>) -> Result<()> {
        let moved = sqlx::query!(
            "update archives set manifest = $2, state = case when $2::jsonb is null then 'detached' else 'stored' end
             where month = $1 and state in ('detached', 'stored')",
            month.first_day(),
            manifest
        )
        .execute(&self.control)
        .await
        .during("record the copy")?
        .rows_affected();
        one(moved, month)
    }

    /// Drops the table of a month that is stored.
    ///
    /// # Errors
    /// `Conflict` when it is not stored.
    pub async fn drop_month(&self, _lock: &ArchiveLock, month: Month) -> Result<()> {
        let mut tx = self.begin("begin dropping").await?;
        let moved = sqlx::query!(
            "update archives set state = 'archived', archived_at = now() where month = $1 and state = 'stored'",
            month.first_day()
        )
        .execute(&mut *tx)
        .await
        .during("record the archive")?
        .rows_affected();
        one(moved, month)?;
        tx.execute(AssertSqlSafe(format!("drop table archive.{}", table(month))))
            .await
            .during("drop the month's table")?;
        tx.commit().await.during("drop the month's table")
    }

    /// Makes the table of an archived month again and begins to fill it. Whatever an earlier try left of it goes.
    ///
    /// # Errors
    /// `Conflict` when the month is not archived, `Invalid` when not all of it comes.
    /// And those of `next`.
    pub async fn load_month<E: From<Error>>(
        &self,
        _lock: &ArchiveLock,
        month: Month,
        mut next: impl AsyncFnMut() -> Option<std::result::Result<Vec<Row>, E>>,
    ) -> std::result::Result<u64, E> {
        let mut connection = self.unhurried().await?;
        let mut tx = connection.begin().await.during("begin loading")?;
        let archived = sqlx::query_scalar!(
            "select predictions from archives where month = $1 and state = 'archived' for update",
            month.first_day()
        )
        .fetch_optional(&mut *tx)
        .await
        .during("find the archive")?;
        let Some(expected) = archived else { return Err(not_there(month).into()) };
        let name = table(month);
        let make = format!(
            "drop table if exists archive.{name};
             create table archive.{name} (like public.predictions including defaults including constraints including indexes)"
        );
        tx.execute(sqlx::raw_sql(AssertSqlSafe(make))).await.during("make the month's table")?;
        let statement =
            format!("copy archive.{name} ({}) from stdin (format binary)", COLUMNS.map(|(name, _)| name).join(", "));
        let mut copy = tx.copy_in_raw(&statement).await.during("begin the copy")?;
        let mut buffer = HEADER.to_vec();
        let failed = loop {
            let rows = match next().await {
                None => break None,
                Some(Err(error)) => break Some(error),
                Some(Ok(rows)) => rows,
            };
            for row in rows {
                buffer.extend_from_slice(&(COLUMNS.len() as i16).to_be_bytes());
                for value in &row {
                    encode(&mut buffer, value)?;
                }
            }
            if buffer.len() >= CHUNK_BYTES {
                let sent = tokio::time::timeout(CHUNK_TIMEOUT, copy.send(std::mem::take(&mut buffer))).await;
                sent.map_err(|_| Error::new(ErrorKind::Unavailable, "copy predictions: the server takes no more"))?
                    .during("copy predictions")?;
            }
        };
        if let Some(error) = failed {
            copy.abort("the archive cannot be read").await.during("give up the copy")?;
            return Err(error);
        }
        buffer.extend_from_slice(&TRAILER.to_be_bytes());
        copy.send(buffer).await.during("copy predictions")?;
        let loaded = copy.finish().await.during("end the copy")?;
        if loaded != expected.unsigned_abs() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("the archive of {month} has {loaded} predictions, and had {expected}"),
            )
            .into());
        }
        tx.commit().await.during("load the month")?;
        Ok(loaded)
    }

    /// Puts a month back into `predictions`, and its runs into the views, at once.
    ///
    /// # Errors
    /// `Conflict` when there is no table of it: load it first. `Unavailable` when the table `predictions` is too busy: try again.
    pub async fn attach_month(&self, _lock: &ArchiveLock, month: Month) -> Result<()> {
        let mut connection = self.unhurried().await?;
        let mut tx = connection.begin().await.during("begin attaching")?;
        tx.execute(LOCK_TIMEOUT).await.during("begin attaching")?;
        let name = table(month);
        let there: bool = sqlx::query_scalar("select to_regclass($1) is not null")
            .bind(format!("archive.{name}"))
            .fetch_one(&mut *tx)
            .await
            .during("look for the month's table")?;
        if !there {
            return Err(Error::new(ErrorKind::Conflict, format!("there is no table of {month}")));
        }
        let attach = format!(
            "alter table archive.{name} set schema public;
             alter table predictions attach partition {name} for values from ('{}') to ('{}')",
            month.first_day(),
            month.end()
        );
        tx.execute(sqlx::raw_sql(AssertSqlSafe(attach))).await.during("attach the month")?;
        sqlx::query!(
            "update jobs set archived_at = null where run_date >= $1 and run_date < $2",
            month.first_day(),
            month.end()
        )
        .execute(&mut *tx)
        .await
        .during("mark the runs present")?;
        sqlx::query!(
            "update latest_scores l set archived = false from jobs j
             where j.id = l.job_id and l.archived and j.run_date >= $1 and j.run_date < $2",
            month.first_day(),
            month.end()
        )
        .execute(&mut *tx)
        .await
        .during("show the scores")?;
        sqlx::query(
            "select rank_scores(j) from jobs j
             where run_date >= $1 and run_date < $2 and kind = 'score' and state = 'succeeded' order by finished_at, id",
        )
        .bind(month.first_day())
        .bind(month.end())
        .execute(&mut *tx)
        .await
        .during("find the latest scores")?;
        let gone = sqlx::query!("delete from archives where month = $1", month.first_day())
            .execute(&mut *tx)
            .await
            .during("forget the archive")?
            .rows_affected();
        one(gone, month)?;
        tx.commit().await.during("attach the month")
    }
}

fn one(rows: u64, month: Month) -> Result<()> {
    if rows == 1 { Ok(()) } else { Err(not_there(month)) }
}

fn not_there(month: Month) -> Error {
    Error::new(ErrorKind::Conflict, format!("{month} is not at this step of archiving: see `perito retention list`"))
}
