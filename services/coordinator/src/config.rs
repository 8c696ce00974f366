//! The command line of the coordinator. Each option has an environment variable; a flag wins.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser};
use perito_broker::BrokerOptions;
use perito_database::DatabaseOptions;
use perito_domain::claims::ClaimRule;
use perito_runtime::{BrokerArgs, DatabaseArgs, ShutdownArgs, TelemetryArgs, tls};

use crate::store_events::watched::Watched;

/// Serves the API, and plans, dispatches and finishes jobs. Any number of replicas may run.
#[derive(Debug, Clone, Parser)]
#[command(name = "perito-coordinator", version = perito_runtime::version(), about)]
pub struct Config {
    /// The address to listen on.
    #[arg(long, env = "PERITO_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Applies missing migrations before starting. Without it, a database that lacks any is refused.
    #[arg(long, env = "PERITO_MIGRATE")]
    pub migrate: bool,
    /// How long to wait for Postgres at start.
    #[arg(long, env = "PERITO_STARTUP_TIMEOUT", default_value = "30s", value_parser = humantime::parse_duration)]
    pub startup_timeout: Duration,
    /// How long after SIGTERM requests are still taken, while `/readyz` already says no: as long as load balancers take to notice.
    #[arg(long, env = "PERITO_DRAIN_DELAY", default_value = "3s", value_parser = humantime::parse_duration)]
    pub drain_delay: Duration,
    /// Bounds of the API.
    #[command(flatten)]
    pub api: ApiArgs,
    /// Pace of the loops.
    #[command(flatten)]
    pub loops: LoopArgs,
    /// Where photographs come from.
    #[command(flatten)]
    pub intake: IntakeArgs,
    /// Postgres.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// RabbitMQ.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Shutdown.
    #[command(flatten)]
    pub shutdown: ShutdownArgs,
}

/// Bounds of the API.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "API")]
pub struct ApiArgs {
    /// How long a request may take.
    #[arg(long, env = "PERITO_REQUEST_TIMEOUT", default_value = "30s", value_parser = humantime::parse_duration)]
    pub request_timeout: Duration,
    /// Requests in hand at once; more are turned away.
    #[arg(long, env = "PERITO_MAX_REQUESTS", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_requests: u16,
    /// Serves HTTPS with the certificates in this PEM file, the server's own first; health and metrics too.
    #[arg(long, env = "PERITO_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Their key, a PEM file.
    #[arg(long, env = "PERITO_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Answers everybody, without tokens: whoever reaches the address may do everything. For a machine of one's own.
    #[arg(long, env = "PERITO_INSECURE")]
    pub insecure: bool,
}

/// Pace of the loops.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Loops")]
pub struct LoopArgs {
    /// Tasks of each kind that wait in the broker at once. Small enough for priorities to count, large enough that no
    /// worker waits for the dispatcher.
    #[arg(long, env = "PERITO_WINDOW", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub window: u32,
    /// How often each loop looks for work that nobody told it of.
    #[arg(long, env = "PERITO_POLL_INTERVAL", default_value = "500ms", value_parser = humantime::parse_duration)]
    pub poll_interval: Duration,
    /// How long a dispatched task may lack both a message and a worker before it is dispatched again.
    #[arg(long, env = "PERITO_LOST_AFTER", default_value = "10s", value_parser = humantime::parse_duration)]
    pub lost_after: Duration,
}

/// Where photographs come from, besides the API.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Intake")]
pub struct IntakeArgs {
    /// Takes photographs from the object store's event notifications: the buckets, or the starts of keys in them, separated by commas.
    /// The store publishes to the exchange NAMESPACE.s3-events. Off unless given.
    #[arg(long, env = "PERITO_S3_EVENTS", value_name = "BUCKET[/PREFIX]", value_delimiter = ',')]
    pub s3_events: Vec<Watched>,
    /// A regular expression whose group `claim` is the claim's id in a key, as in `/(?<claim>C[0-9]+)_`. Without it the claim is the
    /// name of the folder that holds the photograph.
    #[arg(long, env = "PERITO_CLAIM_PATTERN", value_name = "REGEX")]
    pub claim_pattern: Option<ClaimRule>,
}

impl IntakeArgs {
    pub(crate) fn claims(&self) -> ClaimRule {
        self.claim_pattern.clone().unwrap_or_default()
    }
}

impl Config {
    pub(crate) fn database_options(&self) -> anyhow::Result<DatabaseOptions> {
        Ok(DatabaseOptions {
            url: self.database.url()?.expose().to_owned(),
            control_connections: self.database.database_connections,
            bulk_connections: self.database.database_bulk_connections,
        })
    }

    pub(crate) fn broker_options(&self) -> anyhow::Result<BrokerOptions> {
        let mut options = BrokerOptions::new(self.broker.url()?.expose(), &self.broker.broker_namespace);
        options.certificate_authorities = tls::ca_bundle()?;
        Ok(options)
    }
}
