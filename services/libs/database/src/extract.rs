//! Rows on their way out, however many: one COPY, of which only what is on its way is in memory.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use perito_domain::table::{Column, Row};
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use crate::{
    Database,
    copy_format::Decoder,
    error::{During, Error, ErrorKind, Result},
};

/// A query may take its time before its first row. Longer than this without a row, and the server is given up.
const STALL: Duration = Duration::from_secs(30 * 60);
/// For the connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Rows that are handed over at once.
const BATCH: usize = 1024;

/// A query whose rows are wanted, all of them. Only this crate makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extract {
    pub(crate) query: String,
    pub(crate) columns: Vec<Column>,
}

impl Extract {
    /// The columns of each row.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }
}

impl Database {
    /// Hands every row to `each`, in batches, as they come: the server waits for a slow reader. The number of rows.
    ///
    /// # Errors
    /// Those of Postgres (`Invalid` for a value that is none of its column's type), and those of `each`.
    pub async fn extract_rows<E: From<Error>>(
        &self,
        extract: &Extract,
        mut each: impl AsyncFnMut(Vec<Row>) -> std::result::Result<(), E>,
    ) -> std::result::Result<u64, E> {
        let mut decoder = Decoder::new(extract.columns.iter().map(|column| column.kind).collect());
        let mut rows = Vec::with_capacity(BATCH);
        let mut count = 0;
        self.copy_out(extract, "format binary", async |bytes| {
            decoder.feed(&bytes);
            while let Some(row) = decoder.row()? {
                rows.push(row);
                count += 1;
                if rows.len() == BATCH {
                    each(std::mem::replace(&mut rows, Vec::with_capacity(BATCH))).await?;
                }
            }
            Ok::<(), E>(())
        })
        .await?;
        decoder.end()?;
        if !rows.is_empty() {
            each(rows).await?;
        }
        Ok(count)
    }

    /// Hands the rows to `each` as lines of CSV, as Postgres writes them, with a header. The number of rows.
    ///
    /// # Errors
    /// Those of [`Database::extract_rows`].
    pub async fn extract_csv<E: From<Error>>(
        &self,
        extract: &Extract,
        mut each: impl AsyncFnMut(Bytes, u64) -> std::result::Result<(), E>,
    ) -> std::result::Result<u64, E> {
        // "Zero or more CopyData messages (always one per row)": PostgreSQL documentation, "Message Flow". The header is the first.
        let mut messages = 0_u64;
        self.copy_out(extract, "format csv, header true", async |bytes| {
            messages += 1;
            each(bytes, messages - 1).await
        })
        .await?;
        Ok(messages.saturating_sub(1))
    }

    async fn copy_out<E: From<Error>>(
        &self,
        extract: &Extract,
        format: &str,
        mut each: impl AsyncFnMut(Bytes) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut connection = self.unhurried().await?;
        let statement = format!("copy ({}) to stdout ({format})", extract.query);
        let mut stream = connection.copy_out_raw(&statement).await.during("begin reading rows")?;
        loop {
            let next = timeout(STALL, stream.try_next()).await.map_err(|_| {
                Error::new(ErrorKind::Unavailable, format!("read rows: none came for {} minutes", STALL.as_secs() / 60))
            })?;
            let Some(bytes) = next.during("read rows")? else { return Ok(()) };
            each(bytes).await?;
        }
    }

    /// A connection of its own, for statements that may take as long as they need. The server looks now and then whether we are
    /// still there.
    pub(crate) async fn unhurried(&self) -> Result<PgConnection> {
        let options = (*self.bulk.connect_options()).clone().options([
            ("statement_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("client_connection_check_interval", "10s"),
            ("timezone", "UTC"),
            ("datestyle", "ISO"),
        ]);
        timeout(CONNECT, PgConnection::connect_with(&options))
            .await
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
            .during("connect to Postgres")
    }
}

/// A name as SQL has it, whatever is in it.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
