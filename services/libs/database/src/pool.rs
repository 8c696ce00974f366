//! Connections: one pool for control (claims, heartbeats, requests), another for bulk writes, so that a heartbeat never waits
//! behind a COPY.

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use sqlx::{
    Connection, PgConnection, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    error::{During, Error, ErrorKind, Result},
    no_delay,
};

/// How to reach Postgres.
#[derive(Clone)]
pub struct DatabaseOptions {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`
    pub url: String,
    /// Connections for claims, heartbeats and requests.
    pub control_connections: u32,
    /// Connections for committing results.
    pub bulk_connections: u32,
}

/// Waiting for a connection longer than this is an error.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that takes longer for one round trip is not worth keeping.
const ROUND_TRIP_TIMEOUT: Duration = Duration::from_secs(5);
/// A statement may take this long: planning ten million images and committing a large shard fit.
const STATEMENT_TIMEOUT: &str = "300s";
/// Between two looks at the pools.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);
/// A transaction that waits for us longer than this is given up by the server.
const IDLE_TRANSACTION_TIMEOUT: &str = "60s";

/// Why there is no connection. What only another configuration can mend is not worth another try.
fn refused(place: &str, error: &sqlx::Error) -> Error {
    // Told apart by text alone: what rustls says comes as an I/O error.
    let text = error.to_string();
    let way_out = if text.contains("invalid peer certificate") {
        "is its certificate authority in the file that PERITO_CA_FILE names (or ?sslrootcert= of the URL), and this its name?"
    } else if text.contains("does not support TLS") {
        "turn it on there, or say ?sslmode=disable in the URL"
    } else {
        return Error::from_sqlx(place, error);
    };
    Error::new(ErrorKind::Invalid, format!("{place}: {text}; {way_out}"))
}

/// Perito's database. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Database {
    pub(crate) control: PgPool,
    pub(crate) bulk: PgPool,
}

impl Database {
    /// Connects, once, to find out early whether that works.
    ///
    /// # Errors
    /// Names the host, port and database, never the password, and the way out.
    pub async fn connect(options: &DatabaseOptions) -> Result<Self> {
        // The parser takes any scheme. The text of its errors can hold the URL, and so the password.
        let scheme = ["postgres://", "postgresql://"].iter().any(|scheme| options.url.starts_with(scheme));
        let connect = PgConnectOptions::from_str(&options.url)
            .ok()
            .filter(|_| scheme)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Invalid,
                    "the database URL is malformed: write postgres://USER:PASSWORD@HOST:PORT/DATABASE (PERITO_DATABASE_URL)",
                )
            })?
            .application_name("perito")
            .options([
                ("statement_timeout", STATEMENT_TIMEOUT),
                ("idle_in_transaction_session_timeout", IDLE_TRANSACTION_TIMEOUT),
            ]);
        let place = format!(
            "connect to Postgres at {}:{}, database {}",
            connect.get_host(),
            connect.get_port(),
            connect.get_database().unwrap_or("(default)")
        );
        // One plain connection first: a pool that cannot connect says only that it timed out, not why.
        let probe = tokio::time::timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(&connect))
            .await
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
            .map_err(|error| refused(&place, &error))?;
        // Nothing depends on a clean goodbye.
        drop(probe);
        let pool = |connections| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .after_connect(|_, _| {
                    no_delay::set();
                    Box::pin(async { Ok(()) })
                })
                .after_release(|connection, _| Box::pin(sound(connection)))
        };
        let control = pool(options.control_connections).connect_lazy_with(connect.clone());
        let bulk = pool(options.bulk_connections).connect_lazy_with(connect);
        Ok(Self { control, bulk })
    }

    /// Asks for an answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("select 1").execute(&self.control).await.during("ping Postgres")?;
        Ok(())
    }

    /// Measures the pools for ever: how many connections they have, and how long it takes to get one.
    pub async fn keep_measuring(self) {
        loop {
            for (name, pool) in [("control", &self.control), ("bulk", &self.bulk)] {
                let idle = pool.num_idle();
                let used = (pool.size() as usize).saturating_sub(idle);
                metrics::gauge!("perito_database_connections", "pool" => name, "state" => "idle").set(idle as f64);
                metrics::gauge!("perito_database_connections", "pool" => name, "state" => "used").set(used as f64);
                // A pool that nothing has used yet has none, and is left so.
                if pool.size() == 0 {
                    continue;
                }
                let began = Instant::now();
                // A failure took its time too, and whoever needs a connection reports it.
                drop(pool.acquire().await);
                metrics::histogram!("perito_database_acquire_seconds", "pool" => name).record(began.elapsed());
            }
            tokio::time::sleep(MEASURE_INTERVAL).await;
        }
    }

    /// Begins a transaction for control.
    pub(crate) async fn begin(&self, what: &str) -> Result<Transaction<'static, Postgres>> {
        begin(&self.control).await.during(what)
    }

    /// Begins a transaction for bulk writes.
    pub(crate) async fn begin_bulk(&self, what: &str) -> Result<Transaction<'static, Postgres>> {
        begin(&self.bulk).await.during(what)
    }
}

/// Begins in a task of its own, which goes on when the caller is dropped. sqlx takes a `begin` that is dropped half way for one that was
/// never sent: the connection would return to the pool within an open transaction, and whatever its next user does would never be
/// committed.
async fn begin(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    let pool = pool.clone();
    let beginning =
        tokio::spawn(async move { tokio::time::timeout(ACQUIRE_TIMEOUT + ROUND_TRIP_TIMEOUT, pool.begin()).await });
    match beginning.await {
        Ok(begun) => begun.unwrap_or_else(|_| Err(silent())),
        // Only when the runtime ends.
        Err(_) => Err(sqlx::Error::PoolClosed),
    }
}

/// Whether a connection may be used again: it answers, in time, and what it answers is the answer to this question. A silent one would
/// keep its next user waiting for ever. One whose COPY was dropped half way still has the end of that to tell, and would answer each
/// question with what belongs to the one before.
async fn sound(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let question = sqlx::query_scalar::<_, i32>("select 1").fetch_one(connection);
    let answer = tokio::time::timeout(ROUND_TRIP_TIMEOUT, question).await;
    answer.unwrap_or_else(|_| Err(silent())).map(|one| one == 1)
}

fn silent() -> sqlx::Error {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
