//! Rows from Postgres into a file, streamed: a row group of Parquet, or a line of CSV, is in memory, however many rows there are.

use std::io::Write;

use anyhow::Context as _;
use bytes::Bytes;
use perito_database::{Database, Extract};
use perito_domain::table::Row;
use perito_tables::{Format, ParquetWriter};
use tokio::sync::mpsc;

use crate::{
    destination::{Destination, Written},
    progress::Progress,
};

/// Batches of rows, and pieces of the file, that wait for the next one to take them.
const AHEAD: usize = 4;
/// A piece of the file.
const PIECE_BYTES: usize = 1024 * 1024;

/// Writes all rows, and lets the file show when it is whole. How many there are, and what was written.
///
/// # Errors
/// Postgres, the disk or the store fails: then nothing shows.
pub async fn export(
    database: &Database,
    extract: &Extract,
    format: Format,
    mut destination: Destination,
    progress: &Progress,
) -> anyhow::Result<(u64, Written)> {
    let outcome = match format {
        Format::Csv => interruptible(csv(database, extract, &mut destination, progress)).await,
        Format::Parquet => interruptible(parquet(database, extract, &mut destination, progress)).await,
        Format::JsonLines => Err(anyhow::anyhow!("{format} cannot be written: choose parquet or csv")),
    };
    match outcome {
        Ok(rows) => Ok((rows, destination.finish().await?)),
        Err(error) => {
            destination.abort().await;
            Err(error)
        }
    }
}

/// Works until it is done or the user interrupts it (Ctrl-C), so that what was begun can be cleared away.
///
/// # Errors
/// Those of the work, and the interruption.
pub async fn interruptible<T, E>(work: impl Future<Output = Result<T, E>>) -> anyhow::Result<T>
where
    anyhow::Error: From<E>,
{
    tokio::select! {
        outcome = work => Ok(outcome?),
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
    }
}

async fn csv(
    database: &Database,
    extract: &Extract,
    destination: &mut Destination,
    progress: &Progress,
) -> anyhow::Result<u64> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let mut told = 0;
    let rows = database
        .extract_csv(extract, async |line, rows| {
            piece.extend_from_slice(&line);
            if piece.len() >= PIECE_BYTES {
                let bytes = Bytes::from(std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES)));
                destination.write(&bytes).await?;
                progress.advance(rows - told, bytes.len() as u64);
                told = rows;
            }
            anyhow::Ok(())
        })
        .await?;
    let bytes = Bytes::from(piece);
    destination.write(&bytes).await?;
    progress.advance(rows - told, bytes.len() as u64);
    Ok(rows)
}

async fn parquet(
    database: &Database,
    extract: &Extract,
    destination: &mut Destination,
    progress: &Progress,
) -> anyhow::Result<u64> {
    let (rows, mut batches) = mpsc::channel::<Vec<Row>>(AHEAD);
    let (sink, mut pieces) = mpsc::channel::<Bytes>(AHEAD);
    let columns = extract.columns().to_vec();
    // Encoding is work for the processor: on a thread of its own.
    let encoder = tokio::task::spawn_blocking(move || {
        let mut writer = ParquetWriter::new("the export", Pieces { sink, piece: Vec::new() }, &columns)?;
        while let Some(batch) = batches.blocking_recv() {
            for row in batch {
                writer.write(row)?;
            }
        }
        anyhow::Ok(writer.finish()?)
    });
    // When one of the two fails, the other one is dropped, and the encoder ends for want of rows or of a reader.
    let read = async move {
        let each = async |batch: Vec<Row>| {
            let count = batch.len() as u64;
            rows.send(batch).await.ok().context("encode the rows")?;
            progress.advance(count, 0);
            anyhow::Ok(())
        };
        database.extract_rows(extract, each).await
    };
    let write = async {
        while let Some(piece) = pieces.recv().await {
            destination.write(&piece).await?;
            progress.advance(0, piece.len() as u64);
        }
        anyhow::Ok(())
    };
    let outcome = tokio::try_join!(read, write);
    drop(pieces);
    let encoded = encoder.await.context("encode the rows")?;
    // The encoder's error comes first: it is why the others failed.
    match (encoded, outcome) {
        (Err(error), Err(other)) => Err(if error.to_string().contains(GONE) { other } else { error }),
        (Err(error), Ok(_)) | (_, Err(error)) => Err(error),
        (Ok(encoded), Ok((read, ()))) => {
            anyhow::ensure!(encoded == read, "{read} rows were read and {encoded} written");
            Ok(read)
        }
    }
}

/// What the encoder says when nobody takes its pieces any more.
const GONE: &str = "nobody takes the file any more";

/// A file in pieces, through a channel.
struct Pieces {
    sink: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece).into();
        self.sink.blocking_send(piece).map_err(|_| std::io::Error::new(std::io::ErrorKind::BrokenPipe, GONE))
    }
}
