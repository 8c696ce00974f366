//! What a model file says of itself, so that it can score without the registry.

use serde::{Deserialize, Serialize};

use crate::{Severity, preprocessing::Preprocessing, spec::Architecture};

/// The entry of a safetensors file's metadata that holds an [`ArtifactDescription`] as JSON.
pub const METADATA_ENTRY: &str = "perito";

/// What must be known beside the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactDescription {
    /// The network.
    pub architecture: Architecture,
    /// The classes by index.
    pub class_names: Vec<String>,
    /// How bytes become the model's input.
    pub preprocessing: Preprocessing,
}

impl ArtifactDescription {
    /// Of a network that tells Perito's classes apart.
    pub fn new(architecture: Architecture, preprocessing: Preprocessing) -> Self {
        let class_names = Severity::ALL.map(|class| class.to_string()).to_vec();
        Self { architecture, class_names, preprocessing }
    }

    /// Why the model cannot score, if so.
    pub fn why_not_scoring(&self) -> Option<String> {
        if self.class_names == Severity::ALL.map(Severity::as_str) {
            return None;
        }
        Some(format!("its classes are {:?}: this model can start a training, but cannot score", self.class_names))
    }
}
