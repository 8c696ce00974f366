//! How far a model's answers move when photographs are decoded at a reduced scale, or networks computed in bfloat16.
//!
//!     cargo bench --manifest-path deploy/bench/Cargo.toml --bench agreement -- --model FILE FOLDER [--json FILE]
//!
//! The model file is what `perito model download` writes. Below the folder are photographs; those that are large enough are decoded at a
//! reduced scale, and how many these were is part of the answer. With `--at WIDTHxHEIGHT` photographs are first enlarged to that size
//! and written as JPEGs again, for folders of small ones.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{io::Cursor, path::PathBuf};

use clap::Parser;
use image::{DynamicImage, codecs::jpeg::JpegEncoder, imageops::FilterType};
use perito_domain::{
    Severity,
    preprocessing::{self, Preprocessing},
};
use perito_nets::{DeviceRequest, Engine, EngineOptions, Precision, Topology, cpu_has_bfloat16, describe};
use perito_vision::{Limits, Pixels, Scale, decode, preprocess};
use rayon::prelude::*;
use walkdir::WalkDir;

#[derive(Parser)]
struct Options {
    /// A folder of photographs.
    folder: PathBuf,
    /// The model, as `perito model download` writes it.
    #[arg(long)]
    model: PathBuf,
    /// Enlarges photographs to at least this size first.
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size)]
    at: Option<(u32, u32)>,
    /// Where to write the figures.
    #[arg(long)]
    json: Option<PathBuf>,
    /// What `cargo bench` says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let parsed = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    parsed.ok_or_else(|| "expected WIDTHxHEIGHT, such as 1600x1200".to_owned())
}

/// How two sets of answers differ.
struct Agreement {
    top1: f64,
    mean: f64,
    largest: f64,
}

fn compare(ones: &[[f32; 3]], others: &[[f32; 3]]) -> Agreement {
    let same =
        ones.iter().zip(others).filter(|(one, other)| Severity::most_likely(one) == Severity::most_likely(other));
    let differences: Vec<f64> =
        ones.iter().flatten().zip(others.iter().flatten()).map(|(one, other)| f64::from((one - other).abs())).collect();
    Agreement {
        top1: same.count() as f64 / ones.len() as f64,
        mean: differences.iter().sum::<f64>() / differences.len() as f64,
        largest: differences.iter().copied().fold(0.0, f64::max),
    }
}

fn main() {
    let options = Options::parse();
    let limits = Limits::default();
    let weights = std::fs::read(&options.model).unwrap();
    let model = describe(&weights).unwrap().expect("the model file does not say what it is: see perito model download");
    let contract = model.preprocessing;
    let files = WalkDir::new(&options.folder).sort_by_file_name().into_iter().filter_map(Result::ok);
    let photographs: Vec<Vec<u8>> = files
        .filter(|entry| entry.file_type().is_file())
        .collect::<Vec<_>>()
        .par_iter()
        .filter_map(|entry| {
            let bytes = std::fs::read(entry.path()).ok()?;
            match options.at {
                Some(size) => enlarged(&bytes, size, &limits).ok(),
                None => Some(bytes),
            }
        })
        .filter(|bytes| decode(bytes, Scale::Full, &limits).is_ok())
        .collect();
    let reduced = photographs.par_iter().filter(|bytes| is_reduced(bytes, contract.image_size, &limits)).count();
    println!(
        "{} photographs, {reduced} of them decoded at a reduced scale for {} pixels",
        photographs.len(),
        contract.image_size
    );

    let device = DeviceRequest::Cpu.resolve().unwrap();
    let answers = |version: u32, precision: Precision| {
        let contract = Preprocessing { version, ..contract.clone() };
        let topology = Topology { architecture: model.architecture, image_size: contract.image_size, dropout: 0.0 };
        let options = EngineOptions { precision, ..EngineOptions::default() };
        let engine = Engine::prepare(&topology, &contract, &weights, device, options).unwrap();
        photographs.chunks(16).flat_map(|batch| answer(&engine, batch, &contract, &limits)).collect::<Vec<_>>()
    };
    let exact = answers(preprocessing::EXACT, Precision::Float32);
    let mut figures =
        vec![("reduced against exact decoding", compare(&exact, &answers(preprocessing::LOWEST, Precision::Float32)))];
    if cpu_has_bfloat16() {
        figures
            .push(("bfloat16 against float32", compare(&exact, &answers(preprocessing::EXACT, Precision::Bfloat16))));
    }
    for (what, Agreement { top1, mean, largest }) in &figures {
        println!(
            "{what}: same class {:.2} %, probabilities differ by {mean:.5} on average, {largest:.4} at most",
            top1 * 100.0
        );
    }
    if let Some(path) = &options.json {
        let figures = figures.iter().map(|(what, Agreement { top1, mean, largest })| {
            serde_json::json!({"what": what, "photographs": photographs.len(), "reduced": reduced, "same_class": top1,
                "mean_absolute_difference": mean, "largest_absolute_difference": largest})
        });
        std::fs::write(path, serde_json::Value::from(figures.collect::<Vec<_>>()).to_string()).unwrap();
    }
}

fn answer(engine: &Engine, batch: &[Vec<u8>], contract: &Preprocessing, limits: &Limits) -> Vec<[f32; 3]> {
    let pixels: Vec<Pixels> = batch.par_iter().map(|bytes| preprocess(bytes, contract, limits).unwrap()).collect();
    engine.probabilities(&pixels.iter().map(Pixels::as_bytes).collect::<Vec<_>>()).unwrap()
}

fn is_reduced(bytes: &[u8], side: u32, limits: &Limits) -> bool {
    let full = decode(bytes, Scale::Full, limits).map(|picture| picture.dimensions());
    full != decode(bytes, Scale::ReducedFor(side), limits).map(|picture| picture.dimensions())
}

/// The photograph at twice, three times and so on its size, until it is at least this large.
fn enlarged(bytes: &[u8], (width, height): (u32, u32), limits: &Limits) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let picture = decode(bytes, Scale::Full, limits)?;
    let times = width.div_ceil(picture.width()).max(height.div_ceil(picture.height()));
    let large = DynamicImage::from(picture);
    let large = large.resize_exact(large.width() * times, large.height() * times, FilterType::CatmullRom);
    let mut jpeg = Cursor::new(Vec::new());
    large.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, 90))?;
    Ok(jpeg.into_inner())
}
