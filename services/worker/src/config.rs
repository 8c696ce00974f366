//! The command line. Every option is also an environment variable; `--help` says which.

use std::{net::SocketAddr, str::FromStr, time::Duration};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser};
use perito_domain::{
    lifecycle::JobKind,
    limits::{MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS},
};
use perito_nets::{DeviceRequest, EngineOptions, Precision};
use perito_runtime::{BrokerArgs, DatabaseArgs, ObjectStoreArgs, ShutdownArgs, TelemetryArgs};
use perito_vision::Limits;

use crate::{budget, predict::PredictArgs};

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
    /// The device, and pixels on their way to it.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// The work itself.
    #[command(flatten)]
    pub work: WorkArgs,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// To serve.
    Serve(Box<Config>),
    /// To grade photographs on disk.
    Predict(Box<PredictArgs>),
}

impl Invocation {
    /// Reads the command line; ends the process when it asks for help, or is wrong.
    pub fn parse() -> Self {
        Self::of(Config::command_line().get_matches())
    }

    fn of(matches: clap::ArgMatches) -> Self {
        let invocation = match matches.subcommand() {
            Some((_, matches)) => PredictArgs::from_arg_matches(matches).map(|args| Self::Predict(Box::new(args))),
            None => Config::from_arg_matches(&matches).map(|config| Self::Serve(Box::new(config))),
        };
        invocation.unwrap_or_else(|error| error.exit())
    }
}

impl Config {
    /// The worker's own options, and the one command that needs none of them.
    fn command_line() -> clap::Command {
        Self::command()
            .subcommand_negates_reqs(true)
            .args_conflicts_with_subcommands(true)
            .subcommand(PredictArgs::augment_args(clap::Command::new("predict")))
    }
}

/// What networks run on, and with how much.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// Where networks run: `cpu`, `cuda:N`, or `auto` for the first GPU if there is one. A device that is asked for and absent
    /// is an error at start.
    #[arg(long, env = "PERITO_DEVICE", default_value = "auto")]
    pub device: DeviceRequest,
    /// The numbers that networks score in: `float32`, `bfloat16` (GPUs since Ampere, CPUs with AVX512_BF16), `float16` (GPUs), or
    /// `auto` for float32 on a CPU and bfloat16 on a GPU.
    #[arg(long, env = "PERITO_PRECISION", default_value_t = Precision::Auto)]
    pub precision: Precision,
    /// Images in one forward pass when scoring; measured for about a second when a model is loaded unless told.
    #[arg(long, env = "PERITO_BATCH_SIZE", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch_size: Option<u16>,
    /// Threads that decode images; as many as there are cores unless told.
    #[arg(long, env = "PERITO_DECODE_THREADS")]
    pub decode_threads: Option<usize>,
    /// Threads that libtorch uses for one operation on a CPU; as many as there are cores unless told.
    #[arg(long, env = "PERITO_COMPUTE_THREADS")]
    pub compute_threads: Option<usize>,
    /// The largest image that is read, in MiB.
    #[arg(long, env = "PERITO_MAX_IMAGE_MIB", default_value_t = MAX_IMAGE_BYTES >> 20)]
    pub max_image_mib: u64,
    /// The largest image that is decoded, in millions of pixels.
    #[arg(long, env = "PERITO_MAX_IMAGE_MEGAPIXELS", default_value_t = MAX_IMAGE_PIXELS / 1_000_000)]
    pub max_image_megapixels: u64,
}

impl EngineArgs {
    /// Threads that decode images.
    pub fn decode_threads(&self) -> usize {
        self.decode_threads.unwrap_or_else(cores)
    }

    /// Threads of one operation on a CPU.
    pub fn compute_threads(&self) -> usize {
        self.compute_threads.unwrap_or_else(cores)
    }

    /// How networks are loaded.
    pub fn options(&self) -> EngineOptions {
        EngineOptions { precision: self.precision, ..EngineOptions::default() }
    }

    /// What is refused without being decoded.
    pub fn limits(&self) -> Limits {
        Limits { max_bytes: self.max_image_mib << 20, max_pixels: self.max_image_megapixels * 1_000_000 }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What this worker does, and with how much.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Work")]
pub struct WorkArgs {
    /// The kinds of task to run, separated by commas.
    #[arg(long, env = "PERITO_TASKS", value_delimiter = ',', default_value = "train,score,evaluate,sweep", value_parser = JobKind::from_str)]
    pub tasks: Vec<JobKind>,
    /// The name in attempts and logs; the host's name and the process id unless told.
    #[arg(long, env = "PERITO_WORKER_NAME")]
    pub name: Option<String>,
    /// How long a lease holds without a heartbeat. A task of a worker that died runs again after this long.
    #[arg(long, env = "PERITO_LEASE", default_value = "30s", value_parser = humantime::parse_duration)]
    pub lease: Duration,
    /// Memory for the whole process, such as `2GiB`; three quarters of the container's or the machine's unless told. Images wait until
    /// there is room to fetch and to decode them; one that needs more than there will ever be is a failure with its reason.
    #[arg(long, env = "PERITO_MAX_MEMORY", value_name = "SIZE", value_parser = memory)]
    pub max_memory: Option<u64>,
    /// Scoring tasks in hand: with three, one is fetched and decoded, one has the device, and one is being written.
    #[arg(long, env = "PERITO_SCORING_TASKS", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub scoring_tasks: u16,
    /// The most images that are fetched at once. It begins with few, and more are fetched while the decoding threads have nothing to do.
    #[arg(long, env = "PERITO_FETCH_CONCURRENCY", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub fetch_concurrency: u16,
    /// Memory for decoded training images, in MiB; a quarter of --max-memory, and 2048 at most, unless told. What does not fit goes to
    /// disk.
    #[arg(long, env = "PERITO_CACHE_MIB")]
    pub cache_mib: Option<u64>,
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
    /// Where to serve `/healthz`, `/readyz` and `/metrics`; nowhere unless told.
    #[arg(long, env = "PERITO_WORKER_LISTEN")]
    pub listen: Option<SocketAddr>,
}

impl WorkArgs {
    /// Memory for the whole process, in bytes.
    pub fn max_memory(&self) -> u64 {
        self.max_memory.unwrap_or_else(budget::default_max_memory)
    }

    /// Memory for decoded training images, in bytes.
    pub fn cache_bytes(&self) -> u64 {
        self.cache_mib.map_or_else(|| (self.max_memory() / 4).min(2 << 30), |mebibytes| mebibytes << 20)
    }
}

/// The least that a worker can do with.
const LEAST_MEMORY: u64 = 256 << 20;

/// A size in bytes: a whole number, with KiB, MiB, GiB or TiB behind it or without.
fn memory(text: &str) -> Result<u64, String> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "ki" | "kib" => 10,
        "m" | "mi" | "mib" => 20,
        "g" | "gi" | "gib" => 30,
        "t" | "ti" | "tib" => 40,
        _ => return Err("expected a whole number of bytes, KiB, MiB, GiB or TiB, such as 2GiB".to_owned()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    let bytes = bytes.ok_or("expected a whole number of bytes, KiB, MiB, GiB or TiB, such as 2GiB")?;
    if bytes < LEAST_MEMORY {
        return Err(format!("a worker needs at least {} MiB", LEAST_MEMORY >> 20));
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_said_in_bytes_or_their_multiples() {
        let cases = [("2GiB", 2 << 30), ("512 MiB", 512 << 20), ("1073741824", 1 << 30), ("1536Mi", 1536 << 20)];
        for (text, bytes) in cases {
            assert_eq!(memory(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "GiB", "2 GB of it", "1.5GiB", "100MiB", "99999999TiB"] {
            assert!(memory(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn servers_are_asked_for_to_serve_and_not_to_predict() {
        let parse = |words: &str| Config::command_line().try_get_matches_from(words.split(' '));
        let Invocation::Predict(_) = Invocation::of(parse("perito-worker predict --model m a.jpg").unwrap()) else {
            panic!("expected to predict")
        };
        let served = parse("perito-worker --batch-size 4").unwrap();
        let Invocation::Serve(config) = Invocation::of(served) else { panic!("expected to serve") };
        assert_eq!(config.engine.batch_size, Some(4));
        assert!(parse("perito-worker predict --model m").is_err(), "no photographs");
        Config::command_line().debug_assert();
    }
}
