//! A JPEG to a network's input of 224 pixels: by each version of the contract, and by Pillow.
//!
//!     cargo bench --manifest-path deploy/bench/Cargo.toml --bench decode [-- FILTER]
//!
//! The photographs are drawn: slopes, edges and the noise of a sensor, at the quality that cameras and phones use.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use perito_bench::Peer;
use perito_domain::preprocessing::{self, Preprocessing};
use perito_vision::{Limits, preprocess};
use rand::{RngExt as _, SeedableRng as _};
use turbojpeg::{Compressor, Image, OutputBuf, PixelFormat, Subsamp};

/// As in the worker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIDE: u32 = 224;

/// A photograph of about this many bytes for each pixel as cameras write: 4:2:0, quality 85.
fn photograph(width: usize, height: usize) -> Vec<u8> {
    let mut noise = rand_chacha::ChaCha8Rng::seed_from_u64(width as u64);
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
            let edge = if ((u * 23.0).sin() + (v * 17.0).cos() + u * v * 3.0).fract().abs() < 0.5 { 60.0 } else { 0.0 };
            let texture = 18.0 * (x as f32 * 0.9).sin() * (y as f32 * 0.7).cos();
            for base in [90.0 + 90.0 * u, 80.0 + 80.0 * v, 70.0 + 60.0 * (u - v).abs()] {
                pixels.push((base + edge + texture + noise.random_range(-9.0..9.0)).clamp(0.0, 255.0) as u8);
            }
        }
    }
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(85).unwrap();
    compressor.set_subsamp(Subsamp::Sub2x2).unwrap();
    let mut jpeg = OutputBuf::new_owned();
    let image = Image { pixels: pixels.as_slice(), width, pitch: width * 3, height, format: PixelFormat::RGB };
    compressor.compress(image, &mut jpeg).unwrap();
    jpeg.to_vec()
}

fn decode(criterion: &mut Criterion) {
    let mut pillow = Peer::start(&["pillow", &SIDE.to_string()]);
    let folder = std::env::temp_dir().join(format!("perito-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, width, height) in [("12MP", 4000, 3000), ("640x480", 640, 480)] {
        let jpeg = photograph(width, height);
        let file = folder.join(format!("{name}.jpg"));
        std::fs::write(&file, &jpeg).unwrap();
        eprintln!(
            "{name}: {} bytes, {:.2} bits for each pixel",
            jpeg.len(),
            jpeg.len() as f64 * 8.0 / (width * height) as f64
        );
        let mut group = criterion.benchmark_group(format!("decode-{name}"));
        group.sample_size(15).measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_secs(1));
        for (name, version) in [("exact", preprocessing::EXACT), ("reduced", preprocessing::REDUCED)] {
            let contract = Preprocessing { version, ..Preprocessing::imagenet(SIDE) };
            group.bench_function(name, |bencher| {
                bencher.iter(|| preprocess(black_box(&jpeg), &contract, &Limits::default()).unwrap());
            });
        }
        if let Some(pillow) = &mut pillow {
            group.bench_function("pillow", |bencher| {
                bencher.iter_custom(|iterations| pillow.time(iterations, file.to_str().unwrap()));
            });
        }
        group.finish();
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

criterion_group!(benches, decode);
criterion_main!(benches);
