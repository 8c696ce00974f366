//! The networks against PyTorch's: logits, and what three steps of training make of weights and running statistics.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;

use common::{cpu, file, filled, pictures, spec, topology, trainer, views};
use perito_domain::{Severity, preprocessing::Preprocessing};
use perito_nets::{Engine, EngineOptions, Preparation};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Value, json};

/// Written by `golden/generate.py`.
#[derive(Deserialize)]
struct Case {
    architecture: String,
    side: u32,
    logits: Vec<[f32; 3]>,
    training: Option<Training>,
}

#[derive(Deserialize)]
struct Training {
    optimizer: Value,
    losses: Vec<f64>,
    /// After the steps.
    logits: Vec<[f32; 3]>,
    buffers: BTreeMap<String, Vec<f32>>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("golden/networks.json")).unwrap()
}

fn assert_close(actual: &[[f32; 3]], expected: &[[f32; 3]], what: &str) {
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.iter().flatten().zip(expected.iter().flatten()) {
        assert!((actual - expected).abs() < 1e-4, "{what}: {actual} is not {expected}");
    }
}

#[test]
fn logits_equal_pytorchs() {
    for Case { architecture, side, logits, .. } in cases() {
        let topology = topology(&architecture, side);
        let weights = file(&filled(topology.architecture, side));
        let pictures = pictures(logits.len(), side);
        for preparation in [Preparation::Best, Preparation::Folded, Preparation::ChannelsLast, Preparation::Packed] {
            let options = EngineOptions { preparation, ..EngineOptions::default() };
            let engine = Engine::prepare(&topology, &Preprocessing::imagenet(side), &weights, cpu(), options).unwrap();
            let what = format!("{architecture} at {side}, {:?}", engine.preparation());
            assert_close(&engine.logits(&views(&pictures)).unwrap(), &logits, &what);
            // Weights in oneDNN's layout were packed for the first batch's size.
            assert_close(&engine.logits(&views(&pictures[..1])).unwrap(), &logits[..1], &what);
        }
    }
}

#[test]
fn three_steps_of_training_equal_pytorchs() {
    let trained = cases().into_iter().filter_map(|case| Some((case.architecture, case.side, case.training?)));
    for (architecture, side, training) in trained {
        let spec = spec(&architecture, json!({"image_size": side, "dropout": 0.0, "optimizer": training.optimizer}));
        let mut trainer = trainer(&spec, Some(&file(&filled(spec.architecture, side))));
        let pictures = pictures(4, side);
        let labels = [Severity::Minor, Severity::Moderate, Severity::Severe, Severity::Moderate];
        for (step, expected) in (0..).zip(&training.losses) {
            let learning_rate = spec.optimizer.learning_rate();
            let loss = trainer.step(&views(&pictures), &labels, learning_rate, 1, step).unwrap().loss_sum / 4.0;
            assert!((loss - expected).abs() < 1e-4, "{architecture} step {step}: {loss} is not {expected}");
        }
        let weights = trainer.weights().unwrap();
        let engine =
            Engine::load(&topology(&architecture, side), &Preprocessing::imagenet(side), &weights, cpu()).unwrap();
        assert_close(&engine.logits(&views(&pictures)).unwrap(), &training.logits, &architecture);
        let weights = SafeTensors::deserialize(&weights).unwrap();
        for (name, expected) in &training.buffers {
            let actual =
                weights.tensor(name).unwrap().data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
            for (actual, expected) in actual.zip(expected) {
                assert!((actual - expected).abs() < 1e-4, "{architecture} {name}: {actual} is not {expected}");
            }
        }
    }
}
