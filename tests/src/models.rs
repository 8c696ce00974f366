//! A model without training: random weights, good enough to score with.

use perito_domain::{
    Severity,
    parameters::{Role, parameters},
    preprocessing::Preprocessing,
    random::{Purpose, rng},
    spec::Architecture,
};
use rand::RngExt;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::system::System;

/// Side of the pictures that the model takes.
pub const IMAGE_SIZE: u32 = 32;

/// Registers a `cnn4` with random weights under this name; its reference.
pub async fn import(system: &System, name: &str) -> String {
    import_as(system, name, &Preprocessing::imagenet(IMAGE_SIZE)).await
}

/// The same, with another contract for pictures of the same size.
pub async fn import_as(system: &System, name: &str, preprocessing: &Preprocessing) -> String {
    let bytes = weights();
    let key = format!("models/{name}.safetensors");
    system.objects.put(&system.bucket, &key, bytes.clone(), "application/octet-stream").await.unwrap();
    let model = system
        .post(
            "/v1/models",
            json!({
                "name": name,
                "architecture": "cnn4",
                "dropout": 0.5,
                "class_names": Severity::ALL.map(Severity::as_str),
                "preprocessing": preprocessing,
                "artifact": {
                    "bucket": system.bucket,
                    "key": key,
                    "sha256": hex::encode(Sha256::digest(&bytes)),
                    "bytes": bytes.len(),
                },
                "source": "random weights",
            }),
        )
        .await;
    model["reference"].as_str().unwrap().to_owned()
}

fn weights() -> Vec<u8> {
    let table = parameters(Architecture::Cnn4, IMAGE_SIZE);
    let values: Vec<Vec<u8>> = table
        .iter()
        .enumerate()
        .map(|(index, parameter)| {
            let mut rng = rng(7, Purpose::Weights, 0, index as u64);
            let count: usize = parameter.shape.iter().product();
            let bound = 2.0 / (parameter.shape[1..].iter().product::<usize>() as f32).sqrt();
            let mut value = || match parameter.role {
                Role::NormWeight | Role::RunningVariance => 1.0,
                Role::Convolution | Role::Linear => rng.random_range(-bound..bound),
                _ => 0.0_f32,
            };
            (0..count).flat_map(|_| value().to_le_bytes()).collect()
        })
        .collect();
    let views = table.iter().zip(&values).map(|(parameter, bytes)| {
        (parameter.name.clone(), TensorView::new(Dtype::F32, parameter.shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}
