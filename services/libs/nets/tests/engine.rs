//! The engine beside its results: numbers, batches and what a model file says of itself.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::time::Duration;

use common::{cpu, file, filled, pictures, spec, topology, trainer, views};
use perito_domain::{artifact::ArtifactDescription, preprocessing::Preprocessing, spec::Architecture};
use perito_nets::{Engine, EngineOptions, Precision, Preparation, cpu_has_bfloat16, describe};
use serde_json::json;

fn engine(architecture: Architecture, options: EngineOptions) -> perito_nets::Result<Engine> {
    let topology = topology(architecture.as_str(), 64);
    Engine::prepare(&topology, &Preprocessing::imagenet(64), &file(&filled(architecture, 64)), cpu(), options)
}

#[test]
fn the_packed_form_is_the_best_one_here() {
    let engine = engine(Architecture::Cnn4, EngineOptions::default()).unwrap();
    assert_eq!(engine.preparation(), Preparation::Packed);
}

#[test]
fn a_batch_may_start_before_the_one_before_is_finished() {
    for architecture in [Architecture::Cnn4, Architecture::Resnet18] {
        let engine = engine(architecture, EngineOptions::default()).unwrap();
        let pictures = pictures(5, 64);
        let (ones, others) = (&pictures[..3], &pictures[3..]);
        let (first, second) = (engine.start(&views(ones)).unwrap(), engine.start(&views(others)).unwrap());
        let (second, first) = (second.finish().unwrap(), first.finish().unwrap());
        let together = engine.probabilities(&views(&pictures)).unwrap();
        for (apart, together) in first.iter().chain(&second).flatten().zip(together.iter().flatten()) {
            assert!((apart - together).abs() < 1e-5);
        }
    }
}

#[test]
fn bfloat16_is_near_where_the_processor_has_it_and_refused_elsewhere() {
    let options = EngineOptions { precision: Precision::Bfloat16, ..EngineOptions::default() };
    for architecture in [Architecture::Cnn4, Architecture::Resnet18] {
        let short = match engine(architecture, options) {
            Err(error) => {
                assert!(!cpu_has_bfloat16() && error.to_string().contains("bfloat16"), "{error}");
                continue;
            }
            Ok(engine) => engine,
        };
        assert!(cpu_has_bfloat16());
        let exact = engine(architecture, EngineOptions::default()).unwrap();
        let pictures = pictures(4, 64);
        let (short, exact) =
            (short.probabilities(&views(&pictures)).unwrap(), exact.probabilities(&views(&pictures)).unwrap());
        let differences = short.iter().flatten().zip(exact.iter().flatten()).map(|(one, other)| (one - other).abs());
        let largest = differences.fold(0.0, f32::max);
        assert!(largest > 0.0 && largest < 0.03, "{architecture}: {largest}");
    }
    let float16 = EngineOptions { precision: Precision::Float16, ..EngineOptions::default() };
    let refused = engine(Architecture::Cnn4, float16).err().unwrap().to_string();
    assert!(refused.contains("float16 is for GPUs"), "{refused}");
    for text in ["auto", "float32", "bfloat16", "float16"] {
        assert_eq!(text.parse::<Precision>().unwrap().to_string(), text);
    }
    assert!("int8".parse::<Precision>().is_err());
}

#[test]
fn a_batch_size_is_measured() {
    let engine = engine(Architecture::Cnn4, EngineOptions::default()).unwrap();
    let size = engine.measure_batch_size(Duration::from_millis(50)).unwrap();
    assert!([4, 8, 16, 32].contains(&size), "{size}");
}

#[test]
fn a_trained_model_describes_itself() {
    let spec = spec("resnet18", json!({}));
    let weights = trainer(&spec, None).weights().unwrap();
    let description = describe(&weights).unwrap().unwrap();
    assert_eq!(description, ArtifactDescription::new(Architecture::Resnet18, Preprocessing::imagenet(32)));
    assert_eq!(description.why_not_scoring(), None);
    assert_eq!(weights, trainer(&spec, None).weights().unwrap(), "the same weights are the same file");
    assert_eq!(describe(&file(&filled(Architecture::Cnn4, 32))).unwrap(), None);
    assert!(describe(b"no safetensors").is_err());
}
