//! Months of predictions go to the object store and come back. [`perito_database::archive`] has the steps in Postgres; here they are joined
//! with those in S3, in the order in which a crash between any two loses nothing.

use std::{
    fmt,
    io::{Seek as _, Write as _},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use backon::{ExponentialBuilder, Retryable as _};
use chrono::{NaiveDate, Utc};
use perito_database::{Archive, ArchiveLock, ArchiveState, Database, ErrorKind};
use perito_domain::{
    month::{Age, Month},
    table::Row,
};
use perito_objects::ObjectStore;
use perito_tables::{CellReader, Format};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::{
    destination::{Destination, Target},
    export::{export, interruptible},
    progress::Progress,
};

/// Rows that go back at once, and batches of them that are read ahead.
const BATCH: usize = 1024;
const AHEAD: usize = 4;
/// Tries to get hold of the table between its readers and writers.
const TRIES: usize = 20;

/// What happens to a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is young enough.
    Keep,
    /// It leaves.
    Archive,
    /// It was leaving when an earlier run ended.
    GoOn(ArchiveState),
    /// It would leave, had all its runs ended.
    Unfinished(i64),
}

impl Action {
    /// Whether there is something to do.
    pub fn is_work(&self) -> bool {
        matches!(self, Self::Archive | Self::GoOn(_))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("keep"),
            Self::Archive => f.write_str("archive"),
            Self::GoOn(at) => write!(f, "go on archiving ({})", state(*at)),
            Self::Unfinished(runs) => write!(f, "keep: {runs} runs have not ended"),
        }
    }
}

/// A month of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The month.
    pub month: Month,
    /// What happens to it.
    pub action: Action,
    /// Its runs.
    pub runs: i64,
    /// What it takes on disk; not known when it is on its way.
    pub bytes: Option<i64>,
}

/// The name of a state.
pub fn state(state: ArchiveState) -> &'static str {
    match state {
        ArchiveState::Detached => "detached",
        ArchiveState::Stored => "stored",
        ArchiveState::Archived => "archived",
    }
}

/// What would happen to each month that is there or on its way, oldest first.
///
/// # Errors
/// When Postgres does not answer.
pub async fn plan(database: &Database, age: Age, today: NaiveDate) -> anyhow::Result<Vec<Step>> {
    let on_their_way = database.archives().await?.into_iter().filter(|archive| archive.state != ArchiveState::Archived);
    let mut steps: Vec<_> = on_their_way
        .map(|a| Step { month: a.month, action: Action::GoOn(a.state), runs: a.runs, bytes: None })
        .collect();
    for present in database.present_months().await? {
        let action = match present.unfinished {
            _ if !present.month.is_older_than(age, today) => Action::Keep,
            0 => Action::Archive,
            unfinished => Action::Unfinished(unfinished),
        };
        let runs = present.runs + present.unfinished;
        steps.push(Step { month: present.month, action, runs, bytes: Some(present.bytes) });
    }
    steps.sort_by_key(|step| step.month);
    Ok(steps)
}

/// What lies beside an archive: enough to check it, and to read it without Perito.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    month: String,
    predictions: StoredFile,
    runs: StoredFile,
    created_at: String,
    perito: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredFile {
    key: String,
    rows: u64,
    bytes: u64,
    sha256: String,
}

/// A copy that is not what was written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Damaged(String);

/// Archives and restores, one process at a time.
#[derive(Debug)]
pub struct Archiver {
    database: Database,
    store: ObjectStore,
    lock: ArchiveLock,
}

impl Archiver {
    /// Takes the right to.
    ///
    /// # Errors
    /// When another process has it.
    pub async fn begin(database: Database, store: ObjectStore) -> anyhow::Result<Self> {
        let lock = database.lock_archives().await?;
        Ok(Self { database, store, lock })
    }

    /// Archives a month, from whichever step it has come to.
    ///
    /// # Errors
    /// Postgres or S3 fails, or the copy is not what was written. What was done stays done, and nothing is lost.
    pub async fn archive(&self, month: Month, bucket: &str, prefix: &str) -> anyhow::Result<()> {
        if self.find(month).await?.is_none() {
            self.store.ensure_bucket(bucket).await?;
            let place = format!("{prefix}/{month}");
            patiently(|| self.database.detach_month(&self.lock, month, bucket, &place)).await?;
            tracing::info!(archive.month = %month, "detached");
        }
        let mut archive = self.find(month).await?.context("the archive is not recorded")?;
        if archive.state == ArchiveState::Detached {
            self.copy(&archive).await.context("store the month")?;
            archive = self.find(month).await?.context("the archive is not recorded")?;
        }
        if archive.state == ArchiveState::Stored {
            if let Err(error) = interruptible(self.fetch(&archive)).await {
                // An outage says nothing about the copy, nor does a user who has other plans.
                let store = error.downcast_ref::<perito_objects::Error>();
                let gone = store.is_some_and(|error| error.kind() == perito_objects::ErrorKind::NotFound);
                if gone || error.is::<Damaged>() {
                    self.database.archive_stored(&self.lock, month, None).await?;
                }
                return Err(error.context("check the copy of the month: its predictions are kept in Postgres"));
            }
            self.database.drop_month(&self.lock, month).await?;
            eprintln!(
                "{month}: {} predictions archived in s3://{}/{}",
                archive.predictions, archive.bucket, archive.prefix
            );
        }
        Ok(())
    }

    /// Brings a month back; how many predictions it has.
    ///
    /// # Errors
    /// Postgres or S3 fails, or the archive is not what was written. Then nothing of it shows.
    pub async fn restore(&self, month: Month) -> anyhow::Result<i64> {
        let Some(archive) = self.find(month).await? else {
            bail!("{month} is not archived: see `perito retention list`");
        };
        if archive.state == ArchiveState::Archived {
            let file = interruptible(self.fetch(&archive)).await.context("read the archive")?;
            let (sender, mut batches) = mpsc::channel(AHEAD);
            let reader = CellReader::open(file.path(), &self.database.archive_columns())?;
            let reading = tokio::task::spawn_blocking(move || read(reader, &sender));
            let progress = Progress::with_count("restoring", archive.predictions.unsigned_abs());
            let next = async || {
                let batch: Option<anyhow::Result<Vec<Row>>> = batches.recv().await;
                if let Some(Ok(batch)) = &batch {
                    progress.advance(batch.len() as u64, 0);
                }
                batch
            };
            interruptible(self.database.load_month(&self.lock, month, next)).await?;
            progress.finish();
            drop(batches);
            reading.await.context("read the archive")?;
        }
        patiently(|| self.database.attach_month(&self.lock, month)).await?;
        Ok(archive.predictions)
    }

    async fn find(&self, month: Month) -> anyhow::Result<Option<Archive>> {
        Ok(self.database.archives().await?.into_iter().find(|archive| archive.month == month))
    }

    /// Writes the month's files, the manifest last.
    async fn copy(&self, archive: &Archive) -> anyhow::Result<()> {
        let month = archive.month;
        let key = |name: &str| format!("{}/{name}", archive.prefix);
        let runs = self.database.archived_runs(month).await?;
        let runs_text = runs.to_string();
        let target = Target::Object { bucket: archive.bucket.clone(), key: key("predictions.parquet") };
        let destination = Destination::open(&target, "application/vnd.apache.parquet", || Ok(self.store.clone()))?;
        let extract = self.database.archive_extract(month);
        let progress = Progress::unknown("archiving");
        let (rows, written) = export(&self.database, &extract, Format::Parquet, destination, &progress).await?;
        progress.finish();
        ensure!(
            rows == archive.predictions.unsigned_abs(),
            "{rows} predictions were written of {}",
            archive.predictions
        );
        self.store.put(&archive.bucket, &key("runs.json"), runs_text.clone(), "application/json").await?;
        let manifest = serde_json::to_value(Manifest {
            version: 1,
            month: month.to_string(),
            predictions: StoredFile {
                key: key("predictions.parquet"),
                rows,
                bytes: written.bytes,
                sha256: written.sha256,
            },
            runs: StoredFile {
                key: key("runs.json"),
                rows: runs.as_array().map_or(0, Vec::len) as u64,
                bytes: runs_text.len() as u64,
                sha256: hex::encode(Sha256::digest(&runs_text)),
            },
            created_at: Utc::now().to_rfc3339(),
            perito: perito_runtime::version().to_owned(),
        })?;
        let text = serde_json::to_string_pretty(&manifest)?;
        self.store.put(&archive.bucket, &key("manifest.json"), text, "application/json").await?;
        Ok(self.database.archive_stored(&self.lock, month, Some(&manifest)).await?)
    }

    /// Reads all of an archive, and refuses it unless it is what was written. The predictions, in a file.
    async fn fetch(&self, archive: &Archive) -> anyhow::Result<tempfile::NamedTempFile> {
        let manifest = archive.manifest.clone().context("the archive has no manifest")?;
        let manifest: Manifest = serde_json::from_value(manifest).context("read the manifest")?;
        let mut file = tempfile::NamedTempFile::new().context("make a file for the archive")?;
        let predictions = &manifest.predictions;
        let progress = Progress::with_bytes("checking", 1, predictions.bytes);
        let mut digest = Sha256::new();
        let each = async |part: bytes::Bytes| {
            digest.update(&part);
            progress.advance(0, part.len() as u64);
            file.write_all(&part).context("write the archive to a file")
        };
        self.store.download(&archive.bucket, &predictions.key, each).await?;
        progress.advance(1, 0);
        progress.finish();
        let found = hex::encode(digest.finalize());
        let place = format!("s3://{}/{}", archive.bucket, predictions.key);
        if found != predictions.sha256 {
            bail!(Damaged(format!("{place} has SHA-256 {found}, and its manifest {}", predictions.sha256)));
        }
        file.rewind().context("read the archive")?;
        let reader = CellReader::open(file.path(), &self.database.archive_columns())?;
        // Each row, and not only what the footer says.
        let count = tokio::task::spawn_blocking(move || {
            let mut reader = reader;
            reader.try_fold(0_u64, |count, row| row.map(|_| count + 1))
        });
        let count = count.await.context("read the archive")?.map_err(|error| Damaged(error.to_string()))?;
        if count != predictions.rows || count != archive.predictions.unsigned_abs() {
            let (said, had) = (predictions.rows, archive.predictions);
            bail!(Damaged(format!("{place} has {count} predictions, its manifest {said}, and the month had {had}")));
        }
        Ok(file)
    }
}

/// Reads batch by batch, as long as somebody wants them.
fn read(reader: CellReader, to: &mpsc::Sender<anyhow::Result<Vec<Row>>>) {
    let mut batch = Vec::with_capacity(BATCH);
    for row in reader {
        match row {
            Ok(row) => batch.push(row),
            Err(error) => {
                let _ = to.blocking_send(Err(error.into()));
                return;
            }
        }
        if batch.len() == BATCH && to.blocking_send(Ok(std::mem::take(&mut batch))).is_err() {
            return;
        }
    }
    if !batch.is_empty() {
        let _ = to.blocking_send(Ok(batch));
    }
}

/// Tries again while the table is too busy.
async fn patiently<F, T>(step: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = perito_database::Result<T>>,
{
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .with_max_times(TRIES);
    let busy = |error: &perito_database::Error| error.kind() == ErrorKind::Unavailable;
    Ok(step.retry(backoff).when(busy).await?)
}
