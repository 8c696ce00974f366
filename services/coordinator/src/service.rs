//! The coordinator as a process: connects, starts the loops, serves, and ends in good order.

use std::{future::IntoFuture, sync::Arc};

use anyhow::Context;
use futures::FutureExt as _;
use perito_broker::{BrokerOptions, Consumer, DeadLetters, ErrorKind, Publisher};
use perito_database::Database;
use perito_domain::retry::{Backoff, ErrorClass};
use perito_runtime::{health::Health, lifecycle::Shutdown, telemetry, tls};
use tls_listener::TlsListener;
use tokio::{net::TcpListener, time::Instant};
use tokio_rustls::TlsAcceptor;

use crate::{
    api::{self, Access, App, Limits},
    config::Config,
    loops::{self, Loops, Queues, Wake},
};

/// Between attempts to reach Postgres at start.
const STARTUP_BACKOFF: Backoff =
    Backoff { base: std::time::Duration::from_millis(200), cap: std::time::Duration::from_secs(3) };

/// Runs until a signal has been obeyed.
///
/// # Errors
/// Postgres stays out of reach for the start-up timeout, its schema is not the one of this build, or the address is
/// taken. RabbitMQ may come and go.
pub async fn run(config: Config) -> anyhow::Result<()> {
    tracing::info!(version = perito_runtime::version(), ?config, "coordinator starting");
    let shutdown = Shutdown::on_signals(config.shutdown.grace).context("handle signals")?;
    let metrics = telemetry::install_metrics()?;
    let database = tokio::select! {
        database = connect(&config) => database?,
        () = shutdown.soft().cancelled() => return Ok(()),
    };
    if config.migrate {
        let applied = database.migrate().await.context("apply migrations")?;
        tracing::info!(migrations.applied = applied, "schema is up to date");
    }
    database.check_schema().await.context("check the schema")?;
    let access = access(&config, &database).await?;

    let tls = match (&config.api.tls_cert, &config.api.tls_key) {
        (Some(certificates), Some(key)) => Some(tls::server_config(certificates, key)?),
        _ => None,
    };
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listen on {} (choose another address with --listen)", config.listen))?;
    let broker_options = config.broker_options()?;
    let publisher = broker(broker_options.clone()).await?;
    let dead_letters = DeadLetters::new(broker_options.clone());
    let (wake, queues) = (Wake::default(), Queues::default());
    let loops = Loops {
        database: database.clone(),
        publisher: publisher.clone(),
        consumer: Consumer::new(broker_options),
        wake: wake.clone(),
        queues: queues.clone(),
        pace: config.loops,
        intake: config.intake,
    };
    loops::start(&loops, &shutdown);
    tokio::spawn(database.clone().keep_measuring());
    let limits = Limits::new(config.api.max_requests.into(), config.api.request_timeout);
    let health = checks(Health::new(shutdown.soft().clone(), metrics), &database, &publisher);
    let router = api::router(App { database, wake, queues, dead_letters }, access, limits, health.router());
    tracing::info!(listen = %listener.local_addr().unwrap_or(config.listen), tls = tls.is_some(), "coordinator serving");

    // Readiness turns false at the signal, and the loops end; when load balancers have had the time to notice, no more connections are
    // taken and requests end.
    let (drained, delay) = (shutdown.clone(), config.drain_delay);
    let finished = async move {
        drained.soft().cancelled().await;
        tokio::join!(drained.finished(), tokio::time::sleep(delay));
    };
    let serving = match tls {
        None => axum::serve(listener, router).with_graceful_shutdown(finished).into_future().left_future(),
        Some(tls) => {
            let listener = TlsListener::new(TlsAcceptor::from(Arc::new(tls)), listener);
            axum::serve(listener, router).with_graceful_shutdown(finished).into_future().right_future()
        }
    };
    tokio::select! {
        outcome = serving => outcome.context("serve")?,
        () = shutdown.hard().cancelled() => tracing::warn!("what was in hand is dropped"),
    }
    tracing::info!("coordinator stopped");
    Ok(())
}

/// Reaches Postgres, which may be starting too.
async fn connect(config: &Config) -> anyhow::Result<Database> {
    let deadline = Instant::now() + config.startup_timeout;
    let options = config.database_options()?;
    let mut failures = 0;
    loop {
        let error = match Database::connect(&options).await {
            Ok(database) => return Ok(database),
            Err(error) => error,
        };
        failures += 1;
        let delay = STARTUP_BACKOFF.delay(failures, &mut rand::rng());
        if error.class() == ErrorClass::Permanent || Instant::now() + delay > deadline {
            return Err(error).context("connect to Postgres");
        }
        tracing::warn!(error.message = %error, retry.delay_ms = delay.as_millis() as u64, "Postgres is not there yet");
        tokio::time::sleep(delay).await;
    }
}

/// Who may use the API; says so where that is everybody, or nobody yet.
async fn access(config: &Config, database: &Database) -> anyhow::Result<Access> {
    if config.api.insecure {
        tracing::warn!(listen = %config.listen, "the API is open to whoever reaches it (--insecure)");
        return Ok(Access::Open);
    }
    if !database.has_tokens().await? {
        tracing::warn!(
            "no token is in force, so the API refuses everybody: make one with `perito token create NAME --role admin --direct`"
        );
    }
    Ok(Access::Tokens)
}

/// RabbitMQ may be away; but options that can never work are refused now.
async fn broker(options: BrokerOptions) -> anyhow::Result<Publisher> {
    let publisher = Publisher::new(options);
    match publisher.ping().await {
        Err(error) if error.kind() == ErrorKind::Invalid => Err(error).context("use RabbitMQ"),
        _ => Ok(publisher),
    }
}

/// What has to work for this replica to be useful.
fn checks(health: Health, database: &Database, publisher: &Publisher) -> Health {
    let (reach, schema, publisher) = (database.clone(), database.clone(), publisher.clone());
    health
        .check("database", move || {
            let database = reach.clone();
            async move { database.ping().await }
        })
        .check("schema", move || {
            let database = schema.clone();
            async move { database.check_schema().await }
        })
        .check("broker", move || {
            let publisher = publisher.clone();
            async move { publisher.ping().await }
        })
}
