//! ResNet18 at 224 pixels, in each way that the engine can be made ready, beside tch's own in eager mode and ONNX Runtime.
//!
//!     cargo bench --manifest-path deploy/bench/Cargo.toml --bench engine [-- FILTER]
//!
//! tch and ONNX Runtime get tensors of floats; the engine gets the decoder's bytes, and copies and normalises them in its time.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use perito_bench::Peer;
use perito_domain::{
    preprocessing::Preprocessing,
    spec::{JobSpec, TrainSpec},
};
use perito_nets::{
    DeviceRequest, Engine, EngineOptions, Precision, Preparation, Topology, Trainer, cpu_has_bfloat16, set_threads,
};
use tch::{Kind, Tensor, nn};

/// As in the worker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIDE: u32 = 224;
const BATCH: usize = 16;

fn specification() -> TrainSpec {
    let spec =
        serde_json::json!({"kind": "train", "model": "m", "dataset": "d", "architecture": "resnet18", "freeze": null});
    match JobSpec::parse(spec).unwrap() {
        JobSpec::Train(spec) => *spec,
        other => panic!("{other:?}"),
    }
}

fn engine(criterion: &mut Criterion) {
    let threads = std::thread::available_parallelism().unwrap().get();
    set_threads(threads);
    let (device, contract) = (DeviceRequest::Cpu.resolve().unwrap(), Preprocessing::imagenet(SIDE));
    let spec = specification();
    let weights = Trainer::new(&spec, &contract, [1; 3], None, device).unwrap().weights().unwrap();
    let file = std::env::temp_dir().join(format!("perito-bench-{}.safetensors", std::process::id()));
    std::fs::write(&file, &weights).unwrap();

    let mut group = criterion.benchmark_group("engine-resnet18");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.sample_size(10).measurement_time(Duration::from_secs(8)).warm_up_time(Duration::from_secs(1));

    let mut variables = nn::VarStore::new(tch::Device::Cpu);
    let network = tch::vision::resnet::resnet18(&variables.root(), 3);
    variables.load(&file).unwrap();
    let floats = Tensor::rand([BATCH as i64, 3, i64::from(SIDE), i64::from(SIDE)], (Kind::Float, tch::Device::Cpu));
    group.bench_function("eager", |bencher| {
        bencher.iter(|| tch::no_grad(|| f64::try_from(network_sum(&network, &floats)).unwrap()));
    });
    let pixels: Vec<Vec<u8>> = (0..BATCH).map(|image| vec![image as u8 * 15; (SIDE * SIDE * 3) as usize]).collect();
    let pixels: Vec<&[u8]> = pixels.iter().map(Vec::as_slice).collect();
    let topology = Topology { architecture: spec.architecture, image_size: SIDE, dropout: 0.0 };
    let mut forms = vec![
        ("folded", Preparation::Folded, Precision::Float32),
        ("channels-last", Preparation::ChannelsLast, Precision::Float32),
        ("packed", Preparation::Packed, Precision::Float32),
    ];
    if cpu_has_bfloat16() {
        forms.push(("packed-bfloat16", Preparation::Packed, Precision::Bfloat16));
    }
    for (name, preparation, precision) in forms {
        let options = EngineOptions { preparation, precision };
        let engine = Engine::prepare(&topology, &contract, &weights, device, options).unwrap();
        group.bench_function(name, |bencher| bencher.iter(|| engine.probabilities(&pixels).unwrap()));
    }
    let arguments = ["onnxruntime", file.to_str().unwrap(), &BATCH.to_string(), &threads.to_string()];
    if let Some(mut runtime) = Peer::start(&arguments) {
        group.bench_function("onnxruntime", |bencher| bencher.iter_custom(|iterations| runtime.time(iterations, "")));
    }
    group.finish();
    std::fs::remove_file(&file).unwrap();
}

fn network_sum(network: &impl nn::ModuleT, input: &Tensor) -> Tensor {
    network.forward_t(input, false).sum(Kind::Double)
}

criterion_group!(benches, engine);
criterion_main!(benches);
