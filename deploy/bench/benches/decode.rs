//! A JPEG to a network's input of 224 pixels: by each version of the contract, and by Pillow.
//!
//!     cargo bench --manifest-path deploy/bench/Cargo.toml --bench decode [-- FILTER]
//!
//! The photographs are drawn: slopes, edges and the noise of a sensor, at the quality that cameras and phones use.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use perito_bench::{Peer, photograph};
use perito_domain::preprocessing::{self, Preprocessing};
use perito_vision::{Limits, preprocess};

/// As in the worker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIDE: u32 = 224;

fn decode(criterion: &mut Criterion) {
    let mut pillow = Peer::start(&["pillow", &SIDE.to_string()]);
    let folder = std::env::temp_dir().join(format!("perito-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, width, height) in [("12MP", 4000, 3000), ("640x480", 640, 480)] {
        let jpeg = photograph(width, height, width as u64);
        let file = folder.join(format!("{name}.jpg"));
        std::fs::write(&file, &jpeg).unwrap();
        eprintln!(
            "{name}: {} bytes, {:.2} bits for each pixel",
            jpeg.len(),
            jpeg.len() as f64 * 8.0 / (width * height) as f64
        );
        let mut group = criterion.benchmark_group(format!("decode-{name}"));
        group.sample_size(15).measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_secs(1));
        let versions =
            [("exact", preprocessing::EXACT), ("reduced", preprocessing::REDUCED), ("lowest", preprocessing::LOWEST)];
        for (name, version) in versions {
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
