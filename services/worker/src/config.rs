//! The command line. Every option is also an environment variable; `--help` says which.

use std::{net::SocketAddr, str::FromStr, time::Duration};

use clap::{Args, Parser};
use perito_domain::lifecycle::JobKind;
use perito_nets::DeviceRequest;
use perito_runtime::{BrokerArgs, DatabaseArgs, ObjectStoreArgs, ShutdownArgs, TelemetryArgs};

/// Runs training, scoring and evaluation tasks on one device.
///
/// Start one worker for each GPU, with `--device cuda:0`, `--device cuda:1` and so on, or any number on CPUs. A worker that is
/// stopped (SIGTERM) finishes the scoring tasks it holds within the grace period and gives the rest back; one that is killed
/// loses nothing but time.
#[derive(Debug, Parser)]
#[command(name = "perito-worker", version = perito_runtime::version())]
pub struct Config {
    /// Postgres.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// RabbitMQ.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// S3.
    #[command(flatten)]
    pub objects: ObjectStoreArgs,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Shutdown.
    #[command(flatten)]
    pub shutdown: ShutdownArgs,
    /// The work itself.
    #[command(flatten)]
    pub work: WorkArgs,
}

/// What this worker does, and with how much.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Work")]
pub struct WorkArgs {
    /// Where networks run: `cpu`, `cuda:N`, or `auto` for the first GPU if there is one. A device that is asked for and absent
    /// is an error at start.
    #[arg(long, env = "PERITO_DEVICE", default_value = "auto")]
    pub device: DeviceRequest,
    /// The kinds of task to run, separated by commas.
    #[arg(long, env = "PERITO_TASKS", value_delimiter = ',', default_value = "train,score,evaluate,sweep", value_parser = JobKind::from_str)]
    pub tasks: Vec<JobKind>,
    /// The name in attempts and logs; the host's name and the process id unless told.
    #[arg(long, env = "PERITO_WORKER_NAME")]
    pub name: Option<String>,
    /// How long a lease holds without a heartbeat. A task of a worker that died runs again after this long.
    #[arg(long, env = "PERITO_LEASE", default_value = "30s", value_parser = humantime::parse_duration)]
    pub lease: Duration,
    /// Scoring tasks at once: with two, one loads while the other commits.
    #[arg(long, env = "PERITO_SCORING_TASKS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub scoring_tasks: u16,
    /// Images in one forward pass.
    #[arg(long, env = "PERITO_BATCH_SIZE", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch_size: u16,
    /// Images fetched or decoded at once, over all tasks.
    #[arg(long, env = "PERITO_FETCH_CONCURRENCY", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub fetch_concurrency: u16,
    /// Threads that decode images; as many as there are cores unless told.
    #[arg(long, env = "PERITO_DECODE_THREADS")]
    pub decode_threads: Option<usize>,
    /// Threads that libtorch uses for one operation on a CPU; as many as there are cores unless told.
    #[arg(long, env = "PERITO_COMPUTE_THREADS")]
    pub compute_threads: Option<usize>,
    /// Memory for decoded training images, in MiB. What does not fit goes to disk.
    #[arg(long, env = "PERITO_CACHE_MIB", default_value_t = 2048)]
    pub cache_mib: u64,
    /// Disk space, in the folder for temporary files, for decoded training images that do not fit into memory, in MiB. What does not
    /// fit there either is loaded again in every epoch.
    #[arg(long, env = "PERITO_DISK_CACHE_MIB", default_value_t = 16_384)]
    pub disk_cache_mib: u64,
    /// How long a training runs without writing a checkpoint, from which another worker can go on. One is written on SIGTERM too.
    #[arg(long, env = "PERITO_CHECKPOINT_INTERVAL", default_value = "5m", value_parser = humantime::parse_duration)]
    pub checkpoint_interval: Duration,
    /// Write a checkpoint after every so many epochs too.
    #[arg(long, env = "PERITO_CHECKPOINT_EPOCHS", value_parser = clap::value_parser!(u32).range(1..))]
    pub checkpoint_epochs: Option<u32>,
    /// The largest image that is fetched, in MiB.
    #[arg(long, env = "PERITO_MAX_IMAGE_MIB", default_value_t = 64)]
    pub max_image_mib: u64,
    /// The largest image that is decoded, in millions of pixels.
    #[arg(long, env = "PERITO_MAX_IMAGE_MEGAPIXELS", default_value_t = 100)]
    pub max_image_megapixels: u64,
    /// Where to serve `/healthz`, `/readyz` and `/metrics`; nowhere unless told.
    #[arg(long, env = "PERITO_WORKER_LISTEN")]
    pub listen: Option<SocketAddr>,
}
