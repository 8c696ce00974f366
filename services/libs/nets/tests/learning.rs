//! Training and inference through the public API, on the CPU.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::ops::Range;

use common::{cpu, spec, topology, trainer, views};
use perito_domain::{Severity, preprocessing::Preprocessing};
use perito_nets::{Engine, NetError, Trainer};
use safetensors::SafeTensors;
use serde_json::json;

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

fn run(trainer: &mut Trainer, steps: Range<u32>) -> Vec<f64> {
    let (pictures, labels) = pictures(32);
    steps.map(|step| trainer.step(&views(&pictures), &labels, 0.001, 1, step).unwrap().loss_sum).collect()
}

#[test]
fn both_networks_learn() {
    for architecture in ["cnn4", "resnet18"] {
        let losses = run(&mut trainer(&spec(architecture, json!({})), None), 0..12);
        assert!(losses[11] < 0.5 * losses[0], "{architecture}: {losses:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_weights_and_another_one_others() {
    let weights = |seed: u64| {
        let mut trainer = trainer(&spec("cnn4", json!({"seed": seed})), None);
        run(&mut trainer, 0..3);
        trainer.weights().unwrap()
    };
    assert!(weights(1) == weights(1));
    assert!(weights(1) != weights(2));
}

#[test]
fn dropout_belongs_to_its_epoch_and_step() {
    let (pictures, labels) = pictures(32);
    let loss = |epoch, step| {
        let mut trainer = trainer(&spec("cnn4", json!({"dropout": 0.5})), None);
        trainer.step(&views(&pictures), &labels, 0.001, epoch, step).unwrap().loss_sum
    };
    assert_eq!(loss(2, 3), loss(2, 3));
    assert_ne!(loss(2, 3), loss(3, 3));
    assert_ne!(loss(2, 3), loss(2, 4));
}

#[test]
fn a_restored_checkpoint_goes_on_bit_for_bit() {
    for (architecture, freeze, optimizer) in [
        ("cnn4", None, json!({"name": "sgd", "learning_rate": 0.001, "momentum": 0.9})),
        ("resnet18", None, json!({"name": "adam", "learning_rate": 0.001})),
        ("resnet18", Some("layer2"), json!({"name": "adamw", "learning_rate": 0.001})),
    ] {
        let spec = spec(architecture, json!({"optimizer": optimizer, "freeze": freeze}));
        let mut whole = trainer(&spec, None);
        run(&mut whole, 0..3);
        let checkpoint = whole.checkpoint().unwrap();
        run(&mut whole, 3..6);
        let mut resumed = trainer(&spec, None);
        resumed.restore(&checkpoint).unwrap();
        assert!(resumed.checkpoint().unwrap() == checkpoint, "{architecture}");
        run(&mut resumed, 3..6);
        assert!(whole.checkpoint().unwrap() == resumed.checkpoint().unwrap(), "{architecture}");
    }
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing() {
    let mut trained = trainer(&spec("cnn4", json!({})), None);
    run(&mut trained, 0..2);
    let checkpoint = trained.checkpoint().unwrap();
    let weights = trained.weights().unwrap();
    let mut refuse = |checkpoint: &[u8], hint: &str| {
        let error = trained.restore(checkpoint).unwrap_err();
        assert!(matches!(error, NetError::Checkpoint(_)), "{error}");
        assert!(error.to_string().contains(hint), "{error}");
    };
    refuse(&checkpoint[..checkpoint.len() - 9], "not a whole");
    refuse(b"", "not a whole");
    refuse(&weights, "no checkpoint");
    let other = |architecture, more| trainer(&spec(architecture, more), None).checkpoint().unwrap();
    refuse(&other("resnet18", json!({})), "Resnet18");
    refuse(&other("cnn4", json!({"image_size": 64})), "64");
    refuse(&other("cnn4", json!({"optimizer": {"name": "sgd", "learning_rate": 0.1}})), "Sgd");
    let mut frozen = trainer(&spec("cnn4", json!({"freeze": "layer2"})), None);
    run(&mut frozen, 0..1);
    refuse(&frozen.checkpoint().unwrap(), "layer1.conv.weight");
    assert!(trained.checkpoint().unwrap() == checkpoint);
}

#[test]
fn frozen_stages_stay_as_they_are_batch_norms_included() {
    for (architecture, stage, trained_parts) in
        [("resnet18", "layer3", ["layer4", "fc"].as_slice()), ("cnn4", "layer2", &["layer3", "layer4", "fc1", "fc2"])]
    {
        let mut trainer = trainer(&spec(architecture, json!({"freeze": stage})), None);
        let before = trainer.weights().unwrap();
        run(&mut trainer, 0..2);
        let after = trainer.weights().unwrap();
        let (before, after) = (SafeTensors::deserialize(&before).unwrap(), SafeTensors::deserialize(&after).unwrap());
        let is_trained = |name: &str| trained_parts.iter().any(|part| name.starts_with(part));
        for (name, tensor) in before.iter() {
            let same = tensor.data() == after.tensor(name).unwrap().data();
            assert_eq!(same, !is_trained(name), "{name}");
        }
        // What has no gradient has no moments either.
        let checkpoint = trainer.checkpoint().unwrap();
        let checkpoint = SafeTensors::deserialize(&checkpoint).unwrap();
        let moments: Vec<&str> =
            checkpoint.names().into_iter().filter_map(|name| name.strip_prefix("optimizer.")).collect();
        assert!(!moments.is_empty() && moments.into_iter().all(is_trained), "{architecture}");
    }
}

#[test]
fn inference_agrees_with_the_trainers_plain_network() {
    for architecture in ["cnn4", "resnet18"] {
        let spec = spec(architecture, json!({}));
        let mut trainer = trainer(&spec, None);
        run(&mut trainer, 0..3);
        let weights = trainer.weights().unwrap();
        let engine = Engine::load(&topology(architecture, 32), &Preprocessing::imagenet(32), &weights, cpu()).unwrap();
        let (pictures, _) = pictures(32);
        let (plain, folded) =
            (trainer.probabilities(&views(&pictures)).unwrap(), engine.probabilities(&views(&pictures)).unwrap());
        for (plain, folded) in plain.iter().flatten().zip(folded.iter().flatten()) {
            assert!((plain - folded).abs() < 1e-4, "{architecture}: {plain} and {folded}");
        }
        assert!(folded.iter().all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
        assert!(engine.probabilities(&[]).unwrap().is_empty());
    }
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_says_where() {
    let mut trainer = trainer(&spec("cnn4", json!({"optimizer": {"name": "sgd", "learning_rate": 10.0}})), None);
    let (pictures, labels) = pictures(32);
    let error = (0..50).find_map(|step| trainer.step(&views(&pictures), &labels, 1e30, 3, step).err()).unwrap();
    assert!(matches!(error, NetError::NotFinite { epoch: 3, .. }), "{error}");
    assert!(matches!(trainer.probabilities(&views(&pictures)), Err(NetError::Output { .. })));
}

#[test]
fn pictures_and_labels_that_do_not_fit_are_refused() {
    let mut trainer = trainer(&spec("cnn4", json!({})), None);
    let (pictures, labels) = pictures(32);
    let views = views(&pictures);
    assert!(matches!(trainer.probabilities(&[&[0; 10]]), Err(NetError::Input(_))));
    assert!(matches!(trainer.step(&views[..1], &labels[..1], 0.1, 1, 0), Err(NetError::Input(_))), "batch norm of one");
    assert!(matches!(trainer.step(&views, &labels[..3], 0.1, 1, 0), Err(NetError::Input(_))), "too few labels");
    let other_size = Trainer::new(&spec("cnn4", json!({})), &Preprocessing::imagenet(64), [1; 3], None, cpu());
    assert!(matches!(other_size, Err(NetError::Input(_))));
}
