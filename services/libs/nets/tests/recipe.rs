//! The parts of a recipe beyond plain steps do what the specification says.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;

use common::{cpu, file, filled, pictures, spec, topology, trainer, views};
use perito_domain::{Severity, preprocessing::Preprocessing, spec::Architecture};
use perito_nets::{Engine, Trainer};
use safetensors::SafeTensors;
use serde_json::{Value, json};

const LABELS: [Severity; 4] = [Severity::Minor, Severity::Severe, Severity::Moderate, Severity::Severe];

fn step(trainer: &mut Trainer, step: u32) -> f64 {
    trainer.step(&views(&pictures(4, 32)), &LABELS, 0.01, 1, step).unwrap().loss_sum
}

/// Plain SGD, so that a parameter moves by the learning rate times its gradient.
fn sgd(architecture: &str, more: Value) -> Trainer {
    let mut fields = json!({"optimizer": {"name": "sgd", "learning_rate": 0.01}, "dropout": 0.0});
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    trainer(&spec(architecture, fields), None)
}

fn tensors(bytes: &[u8]) -> BTreeMap<String, Vec<f32>> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let floats = |data: &[u8]| data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    file.iter().map(|(name, view)| (name.to_owned(), floats(view.data()))).collect()
}

fn weights(trainer: &Trainer) -> BTreeMap<String, Vec<f32>> {
    tensors(&trainer.weights().unwrap())
}

#[test]
fn a_stages_own_rate_scales_its_steps_and_no_others() {
    let moved = |scales: Value| {
        let mut trainer = sgd("cnn4", json!({"learning_rate_scales": scales}));
        let before = weights(&trainer);
        step(&mut trainer, 0);
        let after = weights(&trainer);
        move |name: &str| f64::from(after[name][5]) - f64::from(before[name][5])
    };
    let (plain, scaled) = (moved(json!({})), moved(json!({"layer3": 0.5})));
    assert!((scaled("layer3.conv.weight") / plain("layer3.conv.weight") - 0.5).abs() < 1e-3);
    for name in ["layer2.conv.weight", "layer4.conv.weight", "fc1.weight"] {
        assert_eq!(plain(name), scaled(name), "{name}");
    }
}

#[test]
fn frozen_statistics_stay_while_their_weights_learn() {
    let mut trainer = sgd("resnet18", json!({"freeze": "stem", "freeze_statistics": "layer2"}));
    let before = weights(&trainer);
    step(&mut trainer, 0);
    let after = weights(&trainer);
    let same = |name: &str| before[name] == after[name];
    assert!(same("conv1.weight") && same("bn1.running_mean") && same("bn1.running_var"), "frozen altogether");
    for layer in ["layer1", "layer2", "layer3", "layer4"] {
        assert!(!same(&format!("{layer}.0.conv1.weight")) && !same(&format!("{layer}.0.bn1.weight")), "{layer}");
        assert_eq!(same(&format!("{layer}.0.bn1.running_mean")), layer < "layer3", "{layer}");
    }
}

#[test]
fn the_average_is_what_is_measured_kept_and_restored() {
    for (architecture, name, more) in [
        ("cnn4", "layer4.conv.weight", json!({"ema_decay": 0.9})),
        (
            "resnet18",
            "layer4.0.conv1.weight",
            json!({"ema_decay": 0.9, "freeze": "layer1", "freeze_statistics": "layer3"}),
        ),
    ] {
        let spec = spec(architecture, more);
        let mut whole = trainer(&spec, None);
        let mut expected = f64::from(weights(&whole)[name][7]);
        for number in 0..3 {
            step(&mut whole, number);
            let value = f64::from(tensors(&whole.checkpoint().unwrap())[&format!("network.{name}")][7]);
            let steps = f64::from(number + 1);
            let decay = 0.9_f64.min((1.0 + steps) / (10.0 + steps));
            expected = decay * expected + (1.0 - decay) * value;
        }
        assert!((f64::from(weights(&whole)[name][7]) - expected).abs() < 1e-6);
        let engine =
            Engine::load(&topology(architecture, 32), &Preprocessing::imagenet(32), &whole.weights().unwrap(), cpu());
        let pictures = pictures(4, 32);
        let (kept, measured) =
            (engine.unwrap().probabilities(&views(&pictures)), whole.probabilities(&views(&pictures)));
        for (kept, measured) in kept.unwrap().iter().flatten().zip(measured.unwrap().iter().flatten()) {
            assert!((kept - measured).abs() < 1e-4);
        }

        let checkpoint = whole.checkpoint().unwrap();
        let mut resumed = trainer(&spec, None);
        resumed.restore(&checkpoint).unwrap();
        assert!(step(&mut whole, 3).to_bits() == step(&mut resumed, 3).to_bits());
        assert!(whole.checkpoint().unwrap() == resumed.checkpoint().unwrap(), "{architecture}");
    }
    let averaged = trainer(&spec("cnn4", json!({"ema_decay": 0.9})), None).checkpoint().unwrap();
    let refused = trainer(&spec("cnn4", json!({})), None).restore(&averaged).unwrap_err();
    assert!(refused.to_string().contains("average"), "{refused}");
}

#[test]
fn the_equal_mean_goes_on_from_a_checkpoint_in_the_middle_of_an_epoch() {
    let spec = spec("cnn4", json!({"ema_decay": 0.0, "epochs": 3, "swa_start": 0.4}));
    let mut whole = trainer(&spec, None);
    let places = [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)];
    let mut since = Vec::new();
    for (done, (epoch, number)) in places.into_iter().enumerate() {
        // A worker's end at any place changes nothing.
        let mut resumed = trainer(&spec, None);
        resumed.restore(&whole.checkpoint().unwrap()).unwrap();
        for one in [&mut whole, &mut resumed] {
            one.step(&views(&pictures(4, 32)), &LABELS, 0.01, epoch, number).unwrap();
        }
        assert!(whole.checkpoint().unwrap() == resumed.checkpoint().unwrap(), "after {done} steps");
        let value = f64::from(tensors(&whole.checkpoint().unwrap())["network.fc1.weight"][7]);
        if epoch == 1 {
            assert_eq!(f64::from(weights(&whole)["fc1.weight"][7]), value, "the weights themselves, before");
        } else {
            since.push(value);
            let mean = since.iter().sum::<f64>() / since.len() as f64;
            assert!((f64::from(weights(&whole)["fc1.weight"][7]) - mean).abs() < 1e-6, "after {done} steps");
        }
    }
}

#[test]
fn test_time_flip_is_the_mean_over_the_mirror_image() {
    let entries = file(&filled(Architecture::Cnn4, 32));
    let probabilities = |flip: bool, pictures: &[Vec<u8>]| {
        let contract = Preprocessing { test_time_flip: flip, ..Preprocessing::imagenet(32) };
        let engine = Engine::load(&topology("cnn4", 32), &contract, &entries, cpu()).unwrap();
        let trainer = Trainer::new(&spec("cnn4", json!({})), &contract, [1; 3], Some(&entries), cpu()).unwrap();
        let (scored, measured) =
            (engine.probabilities(&views(pictures)).unwrap(), trainer.probabilities(&views(pictures)).unwrap());
        for (scored, measured) in scored.iter().flatten().zip(measured.iter().flatten()) {
            assert!((scored - measured).abs() < 1e-4);
        }
        scored
    };
    let pictures = pictures(2, 32);
    let mirrored: Vec<Vec<u8>> = pictures
        .iter()
        .map(|picture| {
            picture.chunks(32 * 3).flat_map(|row| row.as_chunks::<3>().0.iter().rev().flatten()).copied().collect()
        })
        .collect();
    let (plain, other, both) =
        (probabilities(false, &pictures), probabilities(false, &mirrored), probabilities(true, &pictures));
    assert_ne!(plain, other);
    for ((plain, other), both) in plain.iter().flatten().zip(other.iter().flatten()).zip(both.iter().flatten()) {
        assert!(((plain + other) / 2.0 - both).abs() < 1e-6);
    }
}

#[test]
fn losses_of_the_recipe_differ_as_they_should() {
    let first = |more: Value| step(&mut sgd("cnn4", more), 0);
    let plain = first(json!({}));
    for (what, more) in [
        ("smoothing", json!({"loss": {"label_smoothing": 0.3}})),
        ("weights", json!({"loss": {"class_weights": [1.0, 1.0, 9.0]}})),
        ("mixup", json!({"mix": {"probability": 1.0, "mixup": 1.0}})),
        ("cutmix", json!({"mix": {"probability": 1.0, "cutmix": 1.0}})),
    ] {
        assert_ne!(first(more.clone()), plain, "{what}");
        assert_eq!(first(more.clone()), first(more), "{what} is a function of the seed");
    }
    // As many images of each class as counted: balanced weights change nothing.
    assert_eq!(first(json!({"loss": {"class_weights": "balanced"}})), plain);
}

#[test]
fn residual_blocks_can_begin_as_their_shortcut() {
    let zero = weights(&sgd("resnet18", json!({"zero_init_residual": true})));
    let plain = weights(&sgd("resnet18", json!({})));
    for (name, values) in &zero {
        let is_last_norm = name.ends_with(".bn2.weight");
        assert_eq!(values.iter().all(|&value| value == 0.0), is_last_norm || plain[name][0] == 0.0, "{name}");
    }
}

#[test]
fn parameters_that_a_file_leaves_to_chance_are_drawn_and_others_are_not() {
    let chance = ["layer4.0.conv1.weight", "layer4.1.conv2.weight"];
    let (mut entries, mut lacking) = (filled(Architecture::Resnet18, 32), Vec::new());
    entries.retain(|entry| {
        if chance.contains(&entry.0.as_str()) {
            lacking.push(entry.1.clone());
            false
        } else {
            true
        }
    });
    let views = |entries: &[common::Entry], missing: Option<&str>| {
        let plain = file(entries);
        let read = SafeTensors::deserialize(&plain).unwrap();
        let metadata = missing.map(|names| [("missing".to_owned(), names.to_owned())].into());
        safetensors::serialize(read.iter(), metadata).unwrap()
    };
    let spec = spec("resnet18", json!({"zero_init_residual": true}));
    let partial = trainer(&spec, Some(&views(&entries, Some(&chance.join(",")))));
    assert_eq!(partial.random(), chance);
    let (partial, fresh) = (weights(&partial), weights(&trainer(&spec, None)));
    for (name, values) in &partial {
        // Only the block whose last convolution is random begins as its shortcut.
        let random = chance.contains(&name.as_str()) || name == "layer4.1.bn2.weight";
        assert_eq!(*values == fresh[name], random, "{name}");
    }

    for missing in [None, Some("layer4.0.conv1.weight")] {
        let bytes = views(&entries, missing);
        let refused = Trainer::new(&spec, &Preprocessing::imagenet(32), [1; 3], Some(&bytes), cpu()).err().unwrap();
        let first = if missing.is_none() { chance[0] } else { chance[1] };
        assert!(refused.to_string().contains(&format!("tensor {first} is missing")), "{refused}");
    }
    let scores = Engine::load(
        &topology("resnet18", 32),
        &Preprocessing::imagenet(32),
        &views(&entries, Some(&chance.join(","))),
        cpu(),
    );
    assert!(scores.is_err(), "a partial file only starts a training");
}

#[test]
fn sixteen_bits_learn_about_the_same_and_leave_measuring_alone() {
    for architecture in ["cnn4", "resnet18"] {
        let mut plain = sgd(architecture, json!({}));
        let mut short = sgd(architecture, json!({"precision": "bfloat16"}));
        let pictures = pictures(4, 32);
        let before = plain.probabilities(&views(&pictures)).unwrap();
        assert_eq!(before, short.probabilities(&views(&pictures)).unwrap(), "measured in 32 bits");
        let (full, half) = (step(&mut plain, 0), step(&mut short, 0));
        assert!(full != half && (full / half - 1.0).abs() < 0.03, "{architecture}: {full} and {half}");
        for (name, values) in weights(&short) {
            assert!(values.iter().all(|value| value.is_finite()), "{name}");
        }
    }
}
