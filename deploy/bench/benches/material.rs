//! What a scoring job needs: photographs of a size, and networks that have learned nothing.
//!
//!     cargo bench --manifest-path deploy/bench/Cargo.toml --bench material -- photographs FOLDER 640x480 480
//!     cargo bench --manifest-path deploy/bench/Cargo.toml --bench material -- network FILE resnet18 224
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use perito_domain::{preprocessing::Preprocessing, spec::JobSpec};
use perito_nets::{DeviceRequest, Trainer};
use rayon::prelude::*;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["photographs", folder, size, count] => {
            let (width, height) = size.split_once('x').unwrap();
            photographs(folder.as_ref(), width.parse().unwrap(), height.parse().unwrap(), count.parse().unwrap());
        }
        ["network", file, architecture, side] => network(file.as_ref(), architecture, side.parse().unwrap()),
        _ => panic!("see the first lines of deploy/bench/benches/material.rs"),
    }
}

/// One claim for each photograph. No two are alike.
fn photographs(folder: &Path, width: usize, height: usize, count: usize) {
    (0..count).into_par_iter().for_each(|number| {
        let claim = folder.join(format!("C-{number:05}"));
        std::fs::create_dir_all(&claim).unwrap();
        std::fs::write(claim.join("0.jpg"), perito_bench::photograph(width, height, number as u64)).unwrap();
    });
}

fn network(file: &Path, architecture: &str, side: u32) {
    let spec = serde_json::json!({"kind": "train", "model": "m", "dataset": "d", "architecture": architecture, "image_size": side,
                                  "freeze": null});
    let JobSpec::Train(spec) = JobSpec::parse(spec).unwrap() else { panic!("no training") };
    let device = DeviceRequest::Cpu.resolve().unwrap();
    let trainer = Trainer::new(&spec, &Preprocessing::imagenet(side), [1; 3], None, device).unwrap();
    std::fs::write(file, trainer.weights().unwrap()).unwrap();
}
