//! A file against its network's table of parameters: its header says the name, type and shape of every tensor.

use std::collections::{BTreeMap, BTreeSet};

use perito_domain::{
    parameters::{CNN4_FILTERS, head, parameters},
    severity::CLASSES,
    spec::Architecture,
};
use safetensors::{Dtype, SafeTensors};

use super::WeightsError;

/// How many problems are told before the rest is only counted.
const TOLD: usize = 8;

/// Checks a file and counts the outputs of its head. A head with another number of outputs, as of ImageNet's 1,000 classes, is allowed;
/// `num_batches_tracked`, which only matters to a training that goes on with it, is ignored. The parameters in `missing` must be absent.
///
/// # Errors
/// [`WeightsError`] names the tensors.
pub(super) fn check(
    bytes: &[u8],
    architecture: Architecture,
    image_size: u32,
    missing: &BTreeSet<String>,
) -> Result<usize, WeightsError> {
    let file = match SafeTensors::deserialize(bytes) {
        // Asked only now, since a safetensors file whose header has 640 bytes begins in the same way.
        Err(_) if bytes.starts_with(b"\x80\x02") => return Err(WeightsError::Pickle),
        file => file?,
    };
    let mut found: BTreeMap<String, (Dtype, Vec<usize>)> = file
        .tensors()
        .into_iter()
        .filter(|(name, _)| !name.ends_with(".num_batches_tracked"))
        .map(|(name, tensor)| (name, (tensor.dtype(), tensor.shape().to_vec())))
        .collect();
    let present: Vec<_> = missing.iter().filter(|name| found.contains_key(*name)).cloned().collect();
    if !present.is_empty() {
        return Err(WeightsError::Present(present));
    }
    let head = head(architecture);
    let is_head = |name: &str| name.strip_prefix(head).is_some_and(|rest| rest.starts_with('.'));
    // A head of other classes is replaced as a whole: what is there of a partial one must fit.
    let outputs = match found.get(&format!("{head}.bias")) {
        Some((_, shape)) if !missing.iter().any(|name| is_head(name)) => shape.first().copied().unwrap_or(CLASSES),
        _ => CLASSES,
    };
    let (mut absent, mut problems) = (Vec::new(), Vec::new());
    for mut parameter in parameters(architecture, image_size) {
        if is_head(&parameter.name) {
            parameter.shape[0] = outputs;
        }
        let name = &parameter.name;
        match found.remove(name) {
            None if missing.contains(name) => {}
            None => absent.push(format!("{name} is missing")),
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
    if absent.is_empty() && problems.is_empty() {
        return Ok(outputs);
    }
    Err(WeightsError::Mismatch { architecture, image_size, problems: told(absent, problems) })
}

/// The first few problems, those of absent tensors with the way out.
fn told(absent: Vec<String>, others: Vec<String>) -> Vec<String> {
    let hint = (!absent.is_empty()).then(|| {
        "if the file lacks parameters on purpose, name them with --allow-missing: a training draws them at random"
            .to_owned()
    });
    let mut problems = [absent, others].concat();
    if problems.len() > TOLD {
        let rest = problems.len() - TOLD;
        problems.truncate(TOLD);
        problems.push(format!("and {rest} more"));
    }
    problems.extend(hint);
    problems
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
pub(super) mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    pub(in crate::weights) type Tensors = BTreeMap<String, (Dtype, Vec<usize>)>;

    pub(in crate::weights) fn tensors(architecture: Architecture, image_size: u32) -> Tensors {
        parameters(architecture, image_size)
            .into_iter()
            .map(|parameter| (parameter.name, (Dtype::F32, parameter.shape)))
            .collect()
    }

    pub(in crate::weights) fn file(tensors: &Tensors) -> Vec<u8> {
        let size = |(dtype, shape): &(Dtype, Vec<usize>)| shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let zeros = vec![0; tensors.values().map(size).max().unwrap()];
        let views = tensors
            .iter()
            .map(|(name, tensor)| (name, TensorView::new(tensor.0, tensor.1.clone(), &zeros[..size(tensor)]).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    fn problems(tensors: &Tensors, architecture: Architecture) -> String {
        check(&file(tensors), architecture, 32, &BTreeSet::new()).unwrap_err().to_string()
    }

    #[test]
    fn the_networks_own_weights_have_its_own_head() {
        for architecture in [Architecture::Cnn4, Architecture::Resnet18] {
            assert_eq!(check(&file(&tensors(architecture, 32)), architecture, 32, &BTreeSet::new()).unwrap(), CLASSES);
        }
    }

    #[test]
    fn imagenets_weights_can_start_a_training() {
        let mut resnet = tensors(Architecture::Resnet18, 224);
        resnet.insert("fc.weight".to_owned(), (Dtype::F32, vec![1000, 512]));
        resnet.insert("fc.bias".to_owned(), (Dtype::F32, vec![1000]));
        resnet.insert("bn1.num_batches_tracked".to_owned(), (Dtype::I64, vec![]));
        assert_eq!(check(&file(&resnet), Architecture::Resnet18, 224, &BTreeSet::new()).unwrap(), 1000);
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
    fn what_a_file_lacks_must_be_named() {
        let lacking = ["layer4.0.conv1.weight", "layer4.1.conv1.weight"].map(str::to_owned);
        let mut resnet = tensors(Architecture::Resnet18, 32);
        resnet.retain(|name, _| !lacking.contains(name));
        let check_with = |resnet: &Tensors, missing: &[&str]| {
            let missing = missing.iter().map(ToString::to_string).collect();
            check(&file(resnet), Architecture::Resnet18, 32, &missing).map_err(|error| error.to_string())
        };
        let text = check_with(&resnet, &["layer4.0.conv1.weight"]).unwrap_err();
        assert!(text.contains("layer4.1.conv1.weight is missing") && !text.contains("layer4.0"), "{text}");
        assert!(text.contains("name them with --allow-missing"), "{text}");
        assert_eq!(check_with(&resnet, &lacking.each_ref().map(String::as_str)), Ok(CLASSES));
        let text = check_with(&resnet, &["layer4.0.conv1.weight", "fc.bias"]).unwrap_err();
        assert_eq!(text, "--allow-missing names what the file has: leave out fc.bias");
        // A thousand classes are replaced as a whole, not in part.
        let mut half = tensors(Architecture::Resnet18, 32);
        half.remove("fc.weight");
        half.insert("fc.bias".to_owned(), (Dtype::F32, vec![1000]));
        assert!(check_with(&half, &["fc.weight"]).unwrap_err().contains("fc.bias has shape [1000], expected [3]"));
        half.remove("fc.bias");
        assert_eq!(check_with(&half, &["fc.weight", "fc.bias"]), Ok(CLASSES));
    }

    #[test]
    fn bare_pickles_are_told_how_to_be_converted() {
        let bare = include_bytes!("../../tests/fixtures/before_1_6.pth");
        let error = check(bare, Architecture::Cnn4, 32, &BTreeSet::new()).unwrap_err();
        assert!(error.to_string().contains("save_file({k: v.contiguous()"), "{error}");
        let error = check(b"hello", Architecture::Cnn4, 32, &BTreeSet::new()).unwrap_err();
        assert!(matches!(error, WeightsError::Malformed(_)));
    }

    #[test]
    fn no_header_makes_safetensors_a_pickle() {
        let name = |length| "x".repeat(length);
        let one = |length| file(&BTreeMap::from([(name(length), (Dtype::F32, vec![1]))]));
        let bytes = (1..640).map(one).find(|bytes| bytes.starts_with(b"\x80\x02")).unwrap();
        let error = check(&bytes, Architecture::Cnn4, 32, &BTreeSet::new()).unwrap_err();
        assert!(matches!(error, WeightsError::Mismatch { .. }), "{error}");
    }
}
