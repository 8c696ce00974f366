//! Options and environment variables of the servers that Perito talks to.
//!
//! They hold plain values: each service turns them into the options of the crate that owns the server. Secrets are no options: see
//! [`crate::secret`].

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::{
    secret::{Secret, SecretError},
    tls,
};

/// How to reach Postgres.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Postgres")]
pub struct DatabaseArgs {
    /// A file that holds `postgres://USER:PASSWORD@HOST:PORT/DATABASE`; or set PERITO_DATABASE_URL to the URL itself. With
    /// `?sslmode=verify-full` the server has to prove who it is, and has to anyway where PERITO_CA_FILE names who vouches for it.
    #[arg(long, env = "PERITO_DATABASE_URL_FILE", value_name = "FILE")]
    pub database_url_file: Option<PathBuf>,
    /// Connections for claims, heartbeats and requests.
    #[arg(long, env = "PERITO_DATABASE_CONNECTIONS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_connections: u32,
    /// Connections of their own for committing results in bulk, so that heartbeats never wait behind them.
    #[arg(long, env = "PERITO_DATABASE_BULK_CONNECTIONS", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_bulk_connections: u32,
}

impl DatabaseArgs {
    /// Where the database is.
    ///
    /// # Errors
    /// When nobody says, or the file cannot be read.
    pub fn url(&self) -> Result<Secret, SecretError> {
        let what = "postgres://USER:PASSWORD@HOST:PORT/DATABASE";
        let url = Secret::require("PERITO_DATABASE_URL", self.database_url_file.as_deref(), what)?;
        Ok(Secret::from(tls::trusting(url.expose())))
    }
}

/// How to reach RabbitMQ.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "RabbitMQ")]
pub struct BrokerArgs {
    /// A file that holds `amqp://USER:PASSWORD@HOST:PORT/VHOST` (`%2f` is the default virtual host; `amqps` is TLS); or set
    /// PERITO_AMQP_URL to the URL itself.
    #[arg(long, env = "PERITO_AMQP_URL_FILE", value_name = "FILE")]
    pub amqp_url_file: Option<PathBuf>,
    /// The first part of the names of queues and exchanges. Installations that share a virtual host need one each.
    #[arg(long, env = "PERITO_BROKER_NAMESPACE", default_value = "perito")]
    pub broker_namespace: String,
}

impl BrokerArgs {
    /// Where the broker is.
    ///
    /// # Errors
    /// When nobody says, or the file cannot be read.
    pub fn url(&self) -> Result<Secret, SecretError> {
        Secret::require("PERITO_AMQP_URL", self.amqp_url_file.as_deref(), "amqp://USER:PASSWORD@HOST:PORT/VHOST")
    }
}

/// How to reach the S3-compatible store.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "S3")]
pub struct ObjectStoreArgs {
    /// The store's URL; AWS's own when absent.
    #[arg(long, env = "PERITO_S3_ENDPOINT", value_parser = plain_url)]
    pub s3_endpoint: Option<url::Url>,
    /// The region.
    #[arg(long, env = "PERITO_S3_REGION", default_value = "us-east-1")]
    pub s3_region: String,
    /// The access key's id.
    #[arg(long, env = "PERITO_S3_ACCESS_KEY_ID")]
    pub s3_access_key_id: Option<String>,
    /// A file that holds the access key's secret; or set PERITO_S3_SECRET_ACCESS_KEY to the secret itself.
    #[arg(long, env = "PERITO_S3_SECRET_ACCESS_KEY_FILE", value_name = "FILE")]
    pub s3_secret_access_key_file: Option<PathBuf>,
    /// The bucket for what Perito writes, and where it looks unless told otherwise.
    #[arg(long, env = "PERITO_S3_BUCKET", default_value = "perito")]
    pub s3_bucket: String,
    /// Sends and checks the SDK's default checksums. Some S3-compatible stores refuse them.
    #[arg(long, env = "PERITO_S3_CHECKSUMS", value_enum, default_value_t = Checksums::WhenRequired)]
    pub s3_checksums: Checksums,
}

impl ObjectStoreArgs {
    /// The access key's secret, if there is one.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn secret_access_key(&self) -> Result<Option<Secret>, SecretError> {
        Secret::find("PERITO_S3_SECRET_ACCESS_KEY", self.s3_secret_access_key_file.as_deref())
    }
}

/// A URL that is no secret: it is shown in logs and errors.
///
/// # Errors
/// When it is malformed, or has a password in it.
pub fn plain_url(text: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(text).map_err(|error| format!("{error}: write http://HOST:PORT or https://HOST"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("write http://HOST:PORT or https://HOST".to_owned());
    }
    if url.password().is_some() || !url.username().is_empty() {
        return Err("leave user and password out of it: the URL is shown in logs and errors".to_owned());
    }
    Ok(url)
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
