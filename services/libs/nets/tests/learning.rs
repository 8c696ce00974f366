//! Training and inference through the public API, on the CPU.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use perito_domain::{
    Severity,
    preprocessing::Preprocessing,
    spec::{JobSpec, TrainSpec},
};
use perito_nets::{Device, DeviceRequest, Engine, NetError, Topology, Trainer};
use safetensors::SafeTensors;
use serde_json::{Value, json};

/// Dropout draws from a generator that belongs to the whole process: what compares runs has to run alone.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cpu() -> Device {
    DeviceRequest::Cpu.resolve().unwrap()
}

fn spec(architecture: &str, more: Value) -> TrainSpec {
    let mut spec = json!({
        "kind": "train", "model": "m", "dataset": "d", "architecture": architecture, "image_size": 32, "freeze": null, "dropout": 0.2,
        "optimizer": {"name": "adam", "learning_rate": 0.001},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    match JobSpec::parse(spec).unwrap() {
        JobSpec::Train(spec) => *spec,
        other => panic!("{other:?}"),
    }
}

fn trainer(spec: &TrainSpec) -> Trainer {
    Trainer::new(spec, &Preprocessing::imagenet(spec.image_size), None, cpu()).unwrap()
}

/// Twelve pictures whose brightness tells their class.
fn pictures(side: usize) -> (Vec<Vec<u8>>, Vec<Severity>) {
    (0..12)
        .map(|number| {
            let class = number % 3;
            let bytes =
                (0..side * side * 3).map(|byte| (30 + 80 * class + (byte * 7 + number * 13) % 40) as u8).collect();
            (bytes, Severity::ALL[class])
        })
        .unzip()
}

fn views(pictures: &[Vec<u8>]) -> Vec<&[u8]> {
    pictures.iter().map(Vec::as_slice).collect()
}

fn run(trainer: &mut Trainer, steps: std::ops::Range<u32>) -> Vec<f64> {
    let (pictures, labels) = pictures(32);
    steps.map(|step| trainer.step(&views(&pictures), &labels, 0.001, 1, step).unwrap().loss_sum).collect()
}

#[test]
fn both_networks_learn() {
    let _alone = alone();
    for architecture in ["cnn4", "resnet18"] {
        let losses = run(&mut trainer(&spec(architecture, json!({}))), 0..12);
        assert!(losses[11] < 0.5 * losses[0], "{architecture}: {losses:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_weights_and_another_one_others() {
    let _alone = alone();
    let weights = |seed: u64| {
        let mut trainer = trainer(&spec("cnn4", json!({"seed": seed})));
        run(&mut trainer, 0..3);
        trainer.weights().unwrap()
    };
    assert!(weights(1) == weights(1));
    assert!(weights(1) != weights(2));
}

#[test]
fn a_restored_checkpoint_goes_on_bit_for_bit() {
    let _alone = alone();
    for (architecture, optimizer) in [
        ("cnn4", json!({"name": "sgd", "learning_rate": 0.001, "momentum": 0.9})),
        ("resnet18", json!({"name": "adam", "learning_rate": 0.001})),
    ] {
        let spec = spec(architecture, json!({"optimizer": optimizer}));
        let mut whole = trainer(&spec);
        run(&mut whole, 0..3);
        let checkpoint = whole.checkpoint().unwrap();
        run(&mut whole, 3..6);
        let mut resumed = trainer(&spec);
        resumed.restore(&checkpoint).unwrap();
        run(&mut resumed, 3..6);
        assert!(whole.weights().unwrap() == resumed.weights().unwrap(), "{architecture}");
        let cut = resumed.restore(&checkpoint[..checkpoint.len() - 9]).unwrap_err();
        assert!(matches!(cut, NetError::Checkpoint(_)), "{cut}");
    }
}

#[test]
fn frozen_stages_stay_as_they_are_batch_norms_included() {
    let _alone = alone();
    let mut trainer = trainer(&spec("resnet18", json!({"freeze": "layer3"})));
    let before = trainer.weights().unwrap();
    run(&mut trainer, 0..2);
    let after = trainer.weights().unwrap();
    let (before, after) = (SafeTensors::deserialize(&before).unwrap(), SafeTensors::deserialize(&after).unwrap());
    for (name, tensor) in before.iter() {
        let same = tensor.data() == after.tensor(name).unwrap().data();
        let trained = name.starts_with("layer4") || name.starts_with("fc");
        assert_eq!(same, !trained, "{name}");
    }
}

#[test]
fn inference_agrees_with_the_trainers_plain_network() {
    let _alone = alone();
    for architecture in ["cnn4", "resnet18"] {
        let spec = spec(architecture, json!({}));
        let mut trainer = trainer(&spec);
        run(&mut trainer, 0..3);
        let topology = Topology { architecture: spec.architecture, image_size: 32, dropout: spec.dropout };
        let engine = Engine::load(&topology, &Preprocessing::imagenet(32), &trainer.weights().unwrap(), cpu()).unwrap();
        let (pictures, _) = pictures(32);
        let (plain, folded) =
            (trainer.probabilities(&views(&pictures)).unwrap(), engine.probabilities(&views(&pictures)).unwrap());
        for (plain, folded) in plain.iter().flatten().zip(folded.iter().flatten()) {
            assert!((plain - folded).abs() < 1e-4, "{architecture}: {plain} and {folded}");
        }
        assert!(folded.iter().all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
    }
}

#[test]
fn a_weight_file_that_does_not_fit_is_refused_by_the_tensors_name() {
    let _alone = alone();
    let mut small = trainer(&spec("cnn4", json!({})));
    let weights = small.weights().unwrap();
    let load = |image_size: u32, bytes: &[u8]| {
        let topology = Topology { architecture: "cnn4".parse().unwrap(), image_size, dropout: 0.5 };
        Engine::load(&topology, &Preprocessing::imagenet(image_size), bytes, cpu()).err().unwrap().to_string()
    };
    assert!(load(64, &weights).contains("fc1.weight"), "another image size");
    assert!(load(32, &weights[..weights.len() / 2]).contains("safetensors"), "truncated");
    let resnet = trainer(&spec("resnet18", json!({}))).weights().unwrap();
    assert!(load(32, &resnet).contains("layer1.conv.weight"), "another network");
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_says_where() {
    let _alone = alone();
    let mut trainer = trainer(&spec("cnn4", json!({"optimizer": {"name": "sgd", "learning_rate": 10.0}})));
    let (pictures, labels) = pictures(32);
    let error = (0..50).find_map(|step| trainer.step(&views(&pictures), &labels, 1e30, 3, step).err()).unwrap();
    assert!(matches!(error, NetError::NotFinite { epoch: 3, .. }), "{error}");
}

#[test]
fn a_picture_of_another_size_is_refused() {
    let _alone = alone();
    let mut trainer = trainer(&spec("cnn4", json!({})));
    assert!(matches!(trainer.probabilities(&[&[0; 10]]), Err(NetError::Input(_))));
}
