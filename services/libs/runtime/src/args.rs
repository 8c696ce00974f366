//! Options and environment variables of the servers that Perito talks to.
//!
//! They hold plain values: each service turns them into the options of the crate that owns the server. Secrets come from the
//! environment, so that they never stand in a list of processes.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::secret::Secret;

/// How to reach Postgres.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Postgres")]
pub struct DatabaseArgs {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`
    #[arg(long, env = "PERITO_DATABASE_URL", hide_env_values = true)]
    pub database_url: Secret,
    /// Connections for claims, heartbeats and requests.
    #[arg(long, env = "PERITO_DATABASE_CONNECTIONS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_connections: u32,
    /// Connections of their own for committing results in bulk, so that heartbeats never wait behind them.
    #[arg(long, env = "PERITO_DATABASE_BULK_CONNECTIONS", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_bulk_connections: u32,
}

/// How to reach RabbitMQ.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "RabbitMQ")]
pub struct BrokerArgs {
    /// `amqp://USER:PASSWORD@HOST:PORT/VHOST` (`%2f` is the default virtual host)
    #[arg(long, env = "PERITO_AMQP_URL", hide_env_values = true)]
    pub amqp_url: Secret,
    /// The first part of the names of queues and exchanges. Installations that share a virtual host need one each.
    #[arg(long, env = "PERITO_BROKER_NAMESPACE", default_value = "perito")]
    pub broker_namespace: String,
}

/// How to reach the S3-compatible store.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "S3")]
pub struct ObjectStoreArgs {
    /// The store's URL; AWS's own when absent.
    #[arg(long, env = "PERITO_S3_ENDPOINT")]
    pub s3_endpoint: Option<url::Url>,
    /// The region.
    #[arg(long, env = "PERITO_S3_REGION", default_value = "us-east-1")]
    pub s3_region: String,
    /// The access key's id.
    #[arg(long, env = "PERITO_S3_ACCESS_KEY_ID")]
    pub s3_access_key_id: Option<String>,
    /// The access key's secret (better by environment variable).
    #[arg(long, env = "PERITO_S3_SECRET_ACCESS_KEY", hide_env_values = true)]
    pub s3_secret_access_key: Option<Secret>,
    /// The bucket for what Perito writes, and where it looks unless told otherwise.
    #[arg(long, env = "PERITO_S3_BUCKET", default_value = "perito")]
    pub s3_bucket: String,
    /// Sends and checks the SDK's default checksums. Some S3-compatible stores refuse them.
    #[arg(long, env = "PERITO_S3_CHECKSUMS", value_enum, default_value_t = Checksums::WhenRequired)]
    pub s3_checksums: Checksums,
}

/// When the S3 client computes checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Checksums {
    /// Only where the protocol demands it.
    WhenRequired,
    /// Wherever the protocol allows it.
    WhenSupported,
}

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub struct TelemetryArgs {
    /// Lines for people or JSON for machines.
    #[arg(long, env = "PERITO_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
    /// What to log, such as `info` or `warn,perito_worker=debug`.
    #[arg(long, env = "PERITO_LOG", default_value = "info", global = true)]
    pub log: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How a service ends.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Shutdown")]
pub struct ShutdownArgs {
    /// How long work in progress may take to end after SIGTERM. What has not ended by then is given back.
    #[arg(long, env = "PERITO_GRACE", default_value = "25s", value_parser = humantime::parse_duration)]
    pub grace: Duration,
}
