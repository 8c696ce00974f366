//! `perito-worker predict`: photographs on disk to grades, through the decoder and the engine that scoring tasks use, without any
//! server.
//!
//! | module | holds |
//! |---|---|
//! | [`files`] | which files are meant |
//! | [`model`] | a model file, and what it says of itself |
//! | [`table`] | rows, as a table, JSON, CSV or Parquet |

pub mod files;
pub mod model;
pub mod table;

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use perito_domain::{Severity, failure::FailureReason};
use perito_nets::Engine;
use perito_vision::{Limits, Pixels};
use rayon::prelude::*;

use self::{
    model::{ModelArgs, ModelFile},
    table::{Format, Row},
};
use crate::{artifacts::MEASURING, config::EngineArgs};

const HELP: &str = "\
A model file is a registered model's artifact (perito model download severity@production severity.safetensors), or any safetensors
file with torchvision's names; one that does not say what it is needs --arch.

Of a folder, every .jpg, .jpeg, .jpe, .jfif, .png and .webp below it is graded. A file that cannot be is a row with its reason.

Exit codes:
  0  every photograph is graded
  1  an error
  2  wrong usage
  3  at least one photograph could not be graded; its row says why

Examples:
  perito-worker predict --model severity.safetensors car.jpg
  perito-worker predict --model severity.safetensors claims/ --format csv --output grades.csv
  perito-worker predict --model severity.safetensors claims/ --output grades.parquet
  perito-worker predict --model severity.safetensors claims/ --format json | jq 'select(.severity == \"severe\") | .path'
  perito-worker predict --model resnet18.safetensors --arch resnet18 --image-size 224 car.jpg";

/// Grades photographs on disk, without any server.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct PredictArgs {
    /// Photographs, and folders of them.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// How to write the rows; by the ending of --output unless told, else a table. JSON is one object a line.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Where to write them; standard output unless told. An existing file is replaced when all is done.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The model.
    #[command(flatten)]
    model: ModelArgs,
    /// The device.
    #[command(flatten)]
    engine: EngineArgs,
}

/// Grades, and tells how it went.
pub fn main(args: &PredictArgs) -> ExitCode {
    match run(args) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("{failed} of the photographs could not be graded: their rows say why");
            ExitCode::from(3)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How many photographs could not be graded.
fn run(args: &PredictArgs) -> anyhow::Result<usize> {
    let format = Format::choose(args.format, args.output.as_deref())?;
    let paths = files::search(&args.paths)?;
    let device = args.engine.device.resolve().context("choose the device")?;
    perito_nets::set_threads(args.engine.compute_threads());
    let model = ModelFile::read(&args.model)?;
    let engine = model.engine(device, args.engine.options())?;
    let batch_size = match args.engine.batch_size {
        Some(size) => size.into(),
        // Not worth measuring for what is one batch in any case.
        None if paths.len() <= 8 => 8,
        None => engine.measure_batch_size(MEASURING)?,
    };
    let decoders = rayon::ThreadPoolBuilder::new()
        .num_threads(args.engine.decode_threads())
        .thread_name(|n| format!("decode-{n}"))
        .build()
        .context("start the decoding threads")?;
    let rows = grade(&engine, &model, &paths, batch_size, &decoders, &args.engine.limits())?;
    table::write(&rows, format, args.output.as_deref())?;
    Ok(rows.iter().filter(|row| row.reason.is_some()).count())
}

/// A photograph's pixels, or what is wrong with it.
type Outcome = Result<Pixels, (FailureReason, String)>;

/// Grades all photographs, in their order. While the device has a batch, the next one is decoded.
fn grade(
    engine: &Engine,
    model: &ModelFile,
    paths: &[PathBuf],
    batch_size: usize,
    decoders: &rayon::ThreadPool,
    limits: &Limits,
) -> anyhow::Result<Vec<Row>> {
    let bar = bar(paths.len() as u64);
    let contract = &model.description.preprocessing;
    std::thread::scope(|scope| {
        let (sender, batches) = mpsc::sync_channel(1);
        scope.spawn(move || {
            for batch in paths.chunks(batch_size) {
                let decode = |path: &PathBuf| -> Outcome {
                    let bytes = files::read(path, limits)?;
                    perito_vision::preprocess(&bytes, contract, limits)
                        .map_err(|error| (error.reason(), error.to_string()))
                };
                let outcomes: Vec<Outcome> = decoders.install(|| batch.par_iter().map(decode).collect());
                // Nobody waits any more when the device has failed.
                if sender.send((batch, outcomes)).is_err() {
                    break;
                }
            }
        });
        let mut rows = Vec::with_capacity(paths.len());
        for (batch, outcomes) in batches {
            let pixels: Vec<&[u8]> = outcomes.iter().flatten().map(Pixels::as_bytes).collect();
            let mut grades = engine.probabilities(&pixels)?.into_iter();
            rows.extend(batch.iter().zip(&outcomes).map(|(path, outcome)| row(path, outcome, &mut grades)));
            bar.inc(batch.len() as u64);
        }
        bar.finish_and_clear();
        Ok(rows)
    })
}

fn row(path: &Path, outcome: &Outcome, grades: &mut impl Iterator<Item = [f32; 3]>) -> Row {
    let path = path.display().to_string();
    match outcome {
        Ok(_) => Row::graded(path, grades.next().map(|grade| (Severity::most_likely(&grade), grade))),
        Err((reason, detail)) => Row::failed(path, *reason, detail.clone()),
    }
}

/// A bar on a terminal, nothing elsewhere.
fn bar(photographs: u64) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("    grading [{bar:30}] {pos}/{len}  {per_sec}  ETA {eta}");
    ProgressBar::with_draw_target(Some(photographs), target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "))
}
