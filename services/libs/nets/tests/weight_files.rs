//! Weight files that fit, and those that do not.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Entry, cpu, file, filled, spec, topology, trainer};
use perito_domain::{preprocessing::Preprocessing, spec::Architecture};
use perito_nets::{Engine, NetError, Trainer};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::json;

fn refusal(architecture: &str, side: u32, bytes: &[u8]) -> String {
    let loaded = Engine::load(&topology(architecture, side), &Preprocessing::imagenet(side), bytes, cpu());
    let Err(error) = loaded else { panic!("a file that does not fit was loaded") };
    assert!(matches!(error, NetError::Weights(_)), "{error}");
    error.to_string()
}

fn entry<'a>(entries: &'a mut [Entry], name: &str) -> &'a mut Entry {
    entries.iter_mut().find(|entry| entry.0 == name).unwrap()
}

#[test]
fn a_file_that_does_not_fit_is_refused_by_the_tensors_name() {
    let whole = filled(Architecture::Cnn4, 32);
    let bytes = file(&whole);
    assert!(refusal("cnn4", 64, &bytes).contains("fc1.weight"), "another image size");
    for length in [0, 7, bytes.len() / 2, bytes.len() - 1] {
        assert!(refusal("cnn4", 32, &bytes[..length]).contains("not a whole safetensors file"), "{length} bytes");
    }
    let mut missing = whole.clone();
    missing.retain(|entry| entry.0 != "layer3.bn.running_var");
    assert!(refusal("cnn4", 32, &file(&missing)).contains("layer3.bn.running_var is missing"));
    let mut misshaped = whole.clone();
    entry(&mut misshaped, "layer2.conv.weight").1 = vec![64, 32, 9, 1];
    let message = refusal("cnn4", 32, &file(&misshaped));
    assert!(message.contains("layer2.conv.weight has the shape [64, 32, 9, 1], expected [64, 32, 3, 3]"), "{message}");
    assert!(refusal("resnet18", 32, &bytes).contains("conv1.weight is missing"), "another network");

    // A deeper ResNet has all tensors of this one, and more.
    let mut deeper = filled(Architecture::Resnet18, 32);
    deeper.push(("layer1.2.conv1.weight".to_owned(), vec![64, 64, 3, 3], vec![0.0; 64 * 64 * 9]));
    assert!(refusal("resnet18", 32, &file(&deeper)).contains("layer1.2.conv1.weight belongs to no resnet18"));

    let half: Vec<(String, TensorView<'_>)> = vec![(
        "layer1.conv.weight".to_owned(),
        TensorView::new(Dtype::F16, vec![32, 3, 3, 3], &[0; 32 * 27 * 2]).unwrap(),
    )];
    assert!(refusal("cnn4", 32, &safetensors::serialize(half, None).unwrap()).contains("F16"));
}

#[test]
fn what_a_trainer_writes_is_what_it_read() {
    for architecture in [Architecture::Cnn4, Architecture::Resnet18] {
        let bytes = file(&filled(architecture, 32));
        let trainer = trainer(&spec(architecture.as_str(), json!({})), Some(&bytes));
        // The file says what it is, besides: the tensors are the same.
        let written = trainer.weights().unwrap();
        let (written, read) = (SafeTensors::deserialize(&written).unwrap(), SafeTensors::deserialize(&bytes).unwrap());
        assert_eq!(written.len(), read.len());
        for (name, tensor) in read.iter() {
            assert!(written.tensor(name).unwrap() == tensor, "{architecture}: {name}");
        }
        assert!(trainer.random().is_empty());
    }
}

#[test]
fn a_head_for_other_classes_is_left_aside_and_a_broken_one_is_not() {
    let mut entries = filled(Architecture::Resnet18, 32);
    entry(&mut entries, "fc.weight").1 = vec![1000, 512];
    entry(&mut entries, "fc.weight").2 = vec![0.5; 1000 * 512];
    entry(&mut entries, "fc.bias").1 = vec![1000];
    entry(&mut entries, "fc.bias").2 = vec![0.5; 1000];
    // Such a file comes from torchvision, with a counter beside each batch norm.
    entries.push(("bn1.num_batches_tracked".to_owned(), vec![], vec![0.0]));
    let spec = spec("resnet18", json!({"seed": 5}));
    let pretrained = trainer(&spec, Some(&file(&entries)));
    assert_eq!(pretrained.random(), ["fc.weight", "fc.bias"]);
    let (weights, fresh) = (pretrained.weights().unwrap(), trainer(&spec, None).weights().unwrap());
    let (weights, fresh) = (SafeTensors::deserialize(&weights).unwrap(), SafeTensors::deserialize(&fresh).unwrap());
    for (name, tensor) in weights.iter() {
        let is_fresh = tensor.data() == fresh.tensor(name).unwrap().data();
        assert_eq!(is_fresh, name.starts_with("fc."), "{name}");
    }

    entry(&mut entries, "fc.weight").1 = vec![1000, 256, 2];
    let broken = Trainer::new(&spec, &Preprocessing::imagenet(32), [1; 3], Some(&file(&entries)), cpu());
    assert!(broken.err().unwrap().to_string().contains("fc.weight has the shape [1000, 256, 2]"));
}
