//! Parameters that a file leaves to chance: a training draws them at random from its seed.

use std::collections::{BTreeSet, HashMap};

use perito_domain::{parameters::Parameter, spec::Architecture};
use safetensors::{SafeTensorError, SafeTensors};

use super::WeightsError;

/// The entry of the file's metadata that names what it lacks, for the trainer. It is the only entry: several would have no fixed
/// order, and the same weights shall be the same object.
const ENTRY: &str = "missing";

/// The parameters that these names mean; `*` stands for one part of a name, between dots.
pub(super) fn expand(
    names: &[String],
    architecture: Architecture,
    table: &[Parameter],
) -> Result<BTreeSet<String>, WeightsError> {
    let mut expanded = BTreeSet::new();
    for name in names {
        let meant: Vec<_> = table.iter().filter(|parameter| matches(name, &parameter.name)).collect();
        if meant.is_empty() {
            return Err(WeightsError::Unknown { name: name.clone(), architecture });
        }
        expanded.extend(meant.into_iter().map(|parameter| parameter.name.clone()));
    }
    Ok(expanded)
}

fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), name.split('.').collect());
    pattern.len() == name.len() && pattern.iter().zip(name).all(|(&part, name)| part == "*" || part == name)
}

/// The same file with a note of what it lacks.
pub(super) fn mark(bytes: &[u8], missing: &BTreeSet<String>) -> Result<Vec<u8>, SafeTensorError> {
    let names = missing.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    safetensors::serialize(SafeTensors::deserialize(bytes)?.tensors(), Some(HashMap::from([(ENTRY.to_owned(), names)])))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use perito_domain::parameters::parameters;

    use super::*;

    fn expanded(names: &[&str]) -> Result<Vec<String>, String> {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let table = parameters(Architecture::Resnet18, 224);
        let names = expand(&names, Architecture::Resnet18, &table).map_err(|error| error.to_string())?;
        Ok(names.into_iter().collect())
    }

    #[test]
    fn a_star_is_one_part_of_a_name() {
        assert_eq!(expanded(&[]).unwrap(), Vec::<String>::new());
        assert_eq!(expanded(&["fc.bias", "conv1.weight", "fc.bias"]).unwrap(), ["conv1.weight", "fc.bias"]);
        let convolutions = ["layer4.0.conv1.weight", "layer4.1.conv1.weight"];
        assert_eq!(expanded(&["layer4.*.conv1.weight"]).unwrap(), convolutions);
        assert_eq!(expanded(&["fc.*"]).unwrap(), ["fc.bias", "fc.weight"]);
        for name in ["conv9.weight", "layer4.*", "layer4.*.conv*.weight", "", "*"] {
            assert_eq!(
                expanded(&["fc.bias", name]).unwrap_err(),
                format!("--allow-missing {name}: resnet18 has no such parameter")
            );
        }
    }

    #[test]
    fn the_note_is_the_only_metadata_and_the_same_each_time() {
        let tensor = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0, 0, 128, 63]).unwrap();
        let file = safetensors::serialize([("w", tensor)], Some(HashMap::from([("by".to_owned(), "me".to_owned())])));
        let missing = BTreeSet::from(["b".to_owned(), "a.c".to_owned()]);
        let marked = mark(&file.unwrap(), &missing).unwrap();
        let (_, header) = SafeTensors::read_metadata(&marked).unwrap();
        assert_eq!(*header.metadata(), Some(HashMap::from([("missing".to_owned(), "a.c,b".to_owned())])));
        assert_eq!(SafeTensors::deserialize(&marked).unwrap().tensor("w").unwrap().data(), [0, 0, 128, 63]);
        assert_eq!(mark(&marked, &missing).unwrap(), marked);
    }
}
