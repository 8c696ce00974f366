//! Checking a weight file without libtorch: its header says the name, type and shape of every tensor.

use std::collections::BTreeMap;

use perito_domain::{
    parameters::{CNN4_FILTERS, head, parameters},
    severity::CLASSES,
    spec::Architecture,
};
use safetensors::{Dtype, SafeTensors};

/// How many problems are told before the rest is only counted.
const TOLD: usize = 8;

/// What a good file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// Outputs of the head.
    pub outputs: usize,
}

impl Weights {
    /// Whether the head tells Perito's classes: then the model can score, otherwise only start a training.
    pub fn can_score(self) -> bool {
        self.outputs == CLASSES
    }
}

/// A file that cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// A pickle, as `torch.save` writes it, or an archive of one.
    #[error(
        "this is a file of torch.save, which can run any code when it is read: convert it to safetensors first, where you trust it:\n  \
         pip install torch safetensors\n  \
         python -c \"import sys, torch, safetensors.torch as s; w = torch.load(sys.argv[1], map_location='cpu', weights_only=True); \
         s.save_file({{k: v.contiguous() for k, v in w.items()}}, sys.argv[2])\" weights.pth weights.safetensors"
    )]
    Pickle,
    /// Not a safetensors file.
    #[error("this is not a safetensors file: {0}")]
    Malformed(String),
    /// Another network, or another version of it.
    #[error("these are not the weights of {architecture} at {image_size} pixels:\n  {}", .problems.join("\n  "))]
    Mismatch {
        /// The network that was asked for.
        architecture: Architecture,
        /// Its input size.
        image_size: u32,
        /// Each tensor that is missing, unknown or mis-shaped.
        problems: Vec<String>,
    },
}

/// Checks a file against the network's table of parameters. A head with another number of outputs, as of ImageNet's 1,000 classes,
/// is allowed; `num_batches_tracked`, which only matters to a training that goes on with it, is ignored.
///
/// # Errors
/// [`WeightsError`] names the tensors.
pub fn check(bytes: &[u8], architecture: Architecture, image_size: u32) -> Result<Weights, WeightsError> {
    // A zip archive, as since PyTorch 1.6, or a bare pickle of protocol 2.
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
        return Err(WeightsError::Pickle);
    }
    let file = SafeTensors::deserialize(bytes).map_err(|error| WeightsError::Malformed(error.to_string()))?;
    let mut found: BTreeMap<String, (Dtype, Vec<usize>)> = file
        .tensors()
        .into_iter()
        .filter(|(name, _)| !name.ends_with(".num_batches_tracked"))
        .map(|(name, tensor)| (name, (tensor.dtype(), tensor.shape().to_vec())))
        .collect();
    let head = head(architecture);
    let outputs = found.get(&format!("{head}.bias")).and_then(|(_, shape)| shape.first().copied()).unwrap_or(CLASSES);
    let mut problems = Vec::new();
    for mut parameter in parameters(architecture, image_size) {
        if parameter.name.strip_prefix(head).is_some_and(|rest| rest.starts_with('.')) {
            parameter.shape[0] = outputs;
        }
        let name = &parameter.name;
        match found.remove(name) {
            None => problems.push(format!("{name} is missing")),
            Some((_, shape)) if shape != parameter.shape => {
                let hint = other_size(architecture, name, &shape);
                problems.push(format!("{name} has shape {shape:?}, expected {:?}{hint}", parameter.shape));
            }
            Some((dtype, _)) if dtype != Dtype::F32 => {
                problems.push(format!("{name} is of type {dtype:?}, expected F32: convert it with .float()"));
            }
            Some(_) => {}
        }
    }
    problems.extend(found.keys().map(|name| format!("{name} is no tensor of this network")));
    if problems.is_empty() {
        return Ok(Weights { outputs });
    }
    if problems.len() > TOLD {
        let rest = problems.len() - TOLD;
        problems.truncate(TOLD);
        problems.push(format!("and {rest} more"));
    }
    Err(WeightsError::Mismatch { architecture, image_size, problems })
}

/// The image sizes that would explain a shape: the first linear layer of `cnn4` sees every position.
fn other_size(architecture: Architecture, name: &str, shape: &[usize]) -> String {
    let positions = match (architecture, name, shape) {
        (Architecture::Cnn4, "fc1.weight", [_, inputs]) if inputs % CNN4_FILTERS[3] == 0 => inputs / CNN4_FILTERS[3],
        _ => return String::new(),
    };
    let side = positions.isqrt();
    if side * side != positions {
        return String::new();
    }
    format!("; it fits images of {} to {} pixels: say so with --image-size", side * 16, side * 16 + 15)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    type Tensors = BTreeMap<String, (Dtype, Vec<usize>)>;

    fn tensors(architecture: Architecture, image_size: u32) -> Tensors {
        parameters(architecture, image_size)
            .into_iter()
            .map(|parameter| (parameter.name, (Dtype::F32, parameter.shape)))
            .collect()
    }

    fn file(tensors: &Tensors) -> Vec<u8> {
        let size = |(dtype, shape): &(Dtype, Vec<usize>)| shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let zeros = vec![0; tensors.values().map(size).max().unwrap()];
        let views = tensors
            .iter()
            .map(|(name, tensor)| (name, TensorView::new(tensor.0, tensor.1.clone(), &zeros[..size(tensor)]).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    fn problems(tensors: &Tensors, architecture: Architecture) -> String {
        check(&file(tensors), architecture, 32).unwrap_err().to_string()
    }

    #[test]
    fn the_networks_own_weights_can_score() {
        for architecture in [Architecture::Cnn4, Architecture::Resnet18] {
            let weights = check(&file(&tensors(architecture, 32)), architecture, 32).unwrap();
            assert!(weights.can_score());
        }
    }

    #[test]
    fn imagenets_weights_can_start_a_training() {
        let mut resnet = tensors(Architecture::Resnet18, 224);
        resnet.insert("fc.weight".to_owned(), (Dtype::F32, vec![1000, 512]));
        resnet.insert("fc.bias".to_owned(), (Dtype::F32, vec![1000]));
        resnet.insert("bn1.num_batches_tracked".to_owned(), (Dtype::I64, vec![]));
        let weights = check(&file(&resnet), Architecture::Resnet18, 224).unwrap();
        assert_eq!(weights, Weights { outputs: 1000 });
        assert!(!weights.can_score());
        resnet.insert("fc.weight".to_owned(), (Dtype::F32, vec![999, 512]));
        assert!(
            problems(&resnet, Architecture::Resnet18).contains("fc.weight has shape [999, 512], expected [1000, 512]")
        );
    }

    #[test]
    fn what_is_missing_unknown_or_different_is_named() {
        let mut cnn = tensors(Architecture::Cnn4, 32);
        cnn.remove("layer2.bn.running_var");
        cnn.insert("layer9.weight".to_owned(), (Dtype::F32, vec![1]));
        cnn.insert("layer1.bn.bias".to_owned(), (Dtype::F16, vec![32]));
        let text = problems(&cnn, Architecture::Cnn4);
        for part in ["layer2.bn.running_var is missing", "layer9.weight is no tensor", "layer1.bn.bias is of type F16"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = problems(&tensors(Architecture::Cnn4, 32), Architecture::Resnet18);
        assert!(text.contains("conv1.weight is missing") && text.contains("more"), "{text}");
    }

    #[test]
    fn another_image_size_is_recognised() {
        let text = problems(&tensors(Architecture::Cnn4, 64), Architecture::Cnn4);
        assert!(text.contains("fits images of 64 to 79 pixels"), "{text}");
    }

    #[test]
    fn files_of_torch_save_are_told_how_to_be_converted() {
        for bytes in [&b"PK\x03\x04rest"[..], b"\x80\x02rest"] {
            assert_eq!(check(bytes, Architecture::Cnn4, 32), Err(WeightsError::Pickle));
        }
        assert!(WeightsError::Pickle.to_string().contains("save_file({k: v.contiguous()"));
        assert!(matches!(check(b"hello", Architecture::Cnn4, 32), Err(WeightsError::Malformed(_))));
    }
}
