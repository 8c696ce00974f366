//! A training run's state as one safetensors file: tensors `network.NAME`, `optimizer.NAME.STATE` and `average.NAME`, and what they
//! belong to as JSON under the metadata key `perito.checkpoint`.

use perito_domain::spec::{Architecture, Optimizer};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{
    device::Device,
    error::{NetError, Result},
    network::Topology,
    weights::{self, Tensors},
};

const METADATA_KEY: &str = "perito.checkpoint";
const VERSION: u32 = 1;

/// What a checkpoint belongs to.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    version: u32,
    architecture: Architecture,
    image_size: u32,
    /// The optimiser, with its settings.
    optimizer: Optimizer,
    /// Optimiser steps so far.
    steps: u64,
}

/// What was read from a checkpoint, of the shapes that it had.
pub(crate) struct Checkpoint {
    pub(crate) network: Tensors,
    pub(crate) optimizer: Tensors,
    pub(crate) average: Tensors,
    pub(crate) steps: u64,
}

pub(crate) fn write<'a>(
    topology: &Topology,
    optimizer: &Optimizer,
    steps: u64,
    network: impl Iterator<Item = (String, &'a Tensor)>,
    state: impl Iterator<Item = (String, &'a Tensor)>,
    average: impl Iterator<Item = (String, &'a Tensor)>,
) -> Result<Vec<u8>> {
    let Topology { architecture, image_size, .. } = *topology;
    let identity = Identity { version: VERSION, architecture, image_size, optimizer: optimizer.clone(), steps };
    let identity = serde_json::to_string(&identity).map_err(|error| NetError::Checkpoint(error.to_string()))?;
    let network = network.map(|(name, tensor)| (format!("network.{name}"), tensor));
    let state = state.map(|(name, tensor)| (format!("optimizer.{name}"), tensor));
    let average = average.map(|(name, tensor)| (format!("average.{name}"), tensor));
    weights::write(network.chain(state).chain(average), Some((METADATA_KEY, identity)))
}

/// Reads a checkpoint of this network and optimiser.
pub(crate) fn read(topology: &Topology, optimizer: &Optimizer, bytes: &[u8], device: Device) -> Result<Checkpoint> {
    let broken = |error: &dyn std::fmt::Display| {
        NetError::Checkpoint(format!("not a whole safetensors file ({} bytes): {error}", bytes.len()))
    };
    let file = SafeTensors::deserialize(bytes).map_err(|error| broken(&error))?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| broken(&error))?;
    let identity = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
    let identity = identity.ok_or_else(|| NetError::Checkpoint("a weight file is no checkpoint".to_owned()))?;
    let found: Identity = serde_json::from_str(identity)
        .map_err(|error| NetError::Checkpoint(format!("of another version of the program: {error}")))?;
    let Topology { architecture, image_size, .. } = *topology;
    let expected =
        Identity { version: VERSION, architecture, image_size, optimizer: optimizer.clone(), steps: found.steps };
    if found != expected {
        return Err(NetError::Checkpoint(format!("of another run: {found:?}, expected {expected:?}")));
    }
    let mut checkpoint =
        Checkpoint { network: Tensors::new(), optimizer: Tensors::new(), average: Tensors::new(), steps: found.steps };
    for (name, view) in file.iter() {
        let (tensors, name) = if let Some(name) = name.strip_prefix("network.") {
            (&mut checkpoint.network, name)
        } else if let Some(name) = name.strip_prefix("optimizer.") {
            (&mut checkpoint.optimizer, name)
        } else if let Some(name) = name.strip_prefix("average.") {
            (&mut checkpoint.average, name)
        } else {
            return Err(NetError::Checkpoint(format!("tensor {name} is no part of a training run's state")));
        };
        if view.dtype() != safetensors::Dtype::F32 {
            return Err(NetError::Checkpoint(format!("tensor {name} is of type {:?}, expected F32", view.dtype())));
        }
        tensors.insert(name.to_owned(), weights::tensor(view.data(), view.shape(), device)?);
    }
    for parameter in weights::table(topology) {
        let expected: Vec<i64> = parameter.shape.iter().map(|&side| side as i64).collect();
        match checkpoint.network.get(&parameter.name).map(Tensor::size) {
            Some(shape) if shape == expected => {}
            Some(shape) => {
                let name = parameter.name;
                return Err(NetError::Checkpoint(format!(
                    "tensor {name} has the shape {shape:?}, expected {expected:?}"
                )));
            }
            None => return Err(NetError::Checkpoint(format!("tensor {} is missing", parameter.name))),
        }
    }
    Ok(checkpoint)
}
