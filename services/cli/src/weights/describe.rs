//! A model file that says what it is, so that it can score without the registry.

use std::collections::HashMap;

use perito_domain::artifact::{ArtifactDescription, METADATA_ENTRY};
use safetensors::{SafeTensorError, SafeTensors};

/// The same file with a description, unless it has one: what is trained here does, what was imported may not.
///
/// # Errors
/// A file that is no safetensors file.
pub fn described(bytes: Vec<u8>, description: &ArtifactDescription) -> Result<Vec<u8>, SafeTensorError> {
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    if header.metadata().as_ref().is_some_and(|metadata| metadata.contains_key(METADATA_ENTRY)) {
        return Ok(bytes);
    }
    let text = serde_json::to_string(description).map_err(|error| SafeTensorError::IoError(error.into()))?;
    // Alone: what else stood there serves training, and several entries would have no fixed order.
    let metadata = HashMap::from([(METADATA_ENTRY.to_owned(), text)]);
    safetensors::serialize(SafeTensors::deserialize(&bytes)?.tensors(), Some(metadata))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use perito_domain::{preprocessing::Preprocessing, spec::Architecture};

    use super::*;

    #[test]
    fn a_file_is_described_once() {
        let tensor = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0, 0, 128, 63]).unwrap();
        let file = safetensors::serialize([("w", tensor)], None).unwrap();
        let description = ArtifactDescription::new(Architecture::Cnn4, Preprocessing::imagenet(96));
        let once = described(file, &description).unwrap();
        let (_, header) = SafeTensors::read_metadata(&once).unwrap();
        let text = &header.metadata().as_ref().unwrap()["perito"];
        assert_eq!(serde_json::from_str::<ArtifactDescription>(text).unwrap(), description);
        assert_eq!(SafeTensors::deserialize(&once).unwrap().tensor("w").unwrap().data(), [0, 0, 128, 63]);
        let other = ArtifactDescription::new(Architecture::Resnet18, Preprocessing::imagenet(224));
        assert_eq!(described(once.clone(), &other).unwrap(), once, "its own word counts");
        assert!(described(b"no safetensors".to_vec(), &other).is_err());
    }
}
