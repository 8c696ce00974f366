//! What the tests share: specifications, and the weights and pictures that `golden/generate.py` makes too.
#![allow(clippy::unwrap_used, dead_code, missing_docs, reason = "each test binary uses its own part")]

use perito_domain::{
    parameters::{Parameter, Role, parameters},
    preprocessing::Preprocessing,
    spec::{Architecture, JobSpec, TrainSpec},
};
use perito_nets::{Device, DeviceRequest, Topology, Trainer};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

pub(crate) fn cpu() -> Device {
    DeviceRequest::Cpu.resolve().unwrap()
}

/// A training specification over pictures of 32 pixels, without frozen stages unless `more` says otherwise.
pub(crate) fn spec(architecture: &str, more: Value) -> TrainSpec {
    let mut spec = json!({
        "kind": "train", "model": "m", "dataset": "d", "architecture": architecture, "image_size": 32, "freeze": null, "dropout": 0.2, "weights": "w",
        "optimizer": {"name": "adam", "learning_rate": 0.001},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    match JobSpec::parse(spec).unwrap() {
        JobSpec::Train(spec) => *spec,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn trainer(spec: &TrainSpec, initial: Option<&[u8]>) -> Trainer {
    Trainer::new(spec, &Preprocessing::imagenet(spec.image_size), [1; 3], initial, cpu()).unwrap()
}

pub(crate) fn topology(architecture: &str, image_size: u32) -> Topology {
    Topology { architecture: architecture.parse().unwrap(), image_size, dropout: 0.5 }
}

pub(crate) fn views(pictures: &[Vec<u8>]) -> Vec<&[u8]> {
    pictures.iter().map(Vec::as_slice).collect()
}

/// `count` numbers in -1 to 1: splitmix64 of (FNV-1a of the name) + index, its upper 24 bits.
pub(crate) fn unit(name: &str, count: usize) -> impl Iterator<Item = f32> {
    let seed = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    (1..=count as u64).map(move |index| {
        let z = seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let z = z ^ (z >> 31);
        ((z >> 40) as f64 / f64::from(1 << 23) - 1.0) as f32
    })
}

/// Pictures of bytes, as the golden script makes them.
pub(crate) fn pictures(count: usize, side: u32) -> Vec<Vec<u8>> {
    let bytes = (side * side * 3) as usize;
    (0..count)
        .map(|index| {
            unit(&format!("picture {index}"), bytes).map(|value| ((f64::from(value) + 1.0) * 127.99) as u8).collect()
        })
        .collect()
}

/// A tensor of a weight file: name, shape, values.
pub(crate) type Entry = (String, Vec<usize>, Vec<f32>);

/// The weights of a network as the golden script fills them.
pub(crate) fn filled(architecture: Architecture, image_size: u32) -> Vec<Entry> {
    let values = |Parameter { name, shape, role, .. }: &Parameter| -> Vec<f32> {
        let unit = unit(name, shape.iter().product());
        match role {
            Role::Convolution | Role::Linear => {
                let scale = (3.0 / shape[1..].iter().product::<usize>() as f64).sqrt() as f32;
                unit.map(|value| value * scale).collect()
            }
            Role::NormWeight => unit.map(|value| 1.0 + 0.1 * value).collect(),
            Role::RunningVariance => unit.map(|value| 1.0 + 0.5 * value).collect(),
            Role::Bias { .. } | Role::NormBias | Role::RunningMean => unit.map(|value| 0.1 * value).collect(),
        }
    };
    parameters(architecture, image_size)
        .into_iter()
        .map(|parameter| {
            let values = values(&parameter);
            (parameter.name, parameter.shape, values)
        })
        .collect()
}

/// A safetensors file.
pub(crate) fn file(entries: &[Entry]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> =
        entries.iter().map(|(_, _, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = entries
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}
