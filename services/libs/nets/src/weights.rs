//! Weight files (safetensors) in and out, checked against the table of parameters.

use std::{
    borrow::{Borrow, Cow},
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Display,
};

use perito_domain::{
    artifact::{ArtifactDescription, METADATA_ENTRY},
    parameters::{Parameter, head, parameters},
};
use safetensors::{Dtype, SafeTensors, View};
use tch::{Kind, Tensor};

use crate::{
    device::Device,
    error::{NetError, Result},
    network::Topology,
};

pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// The parameters of a topology.
pub(crate) fn table(topology: &Topology) -> Vec<Parameter> {
    parameters(topology.architecture, topology.image_size)
}

/// Reads exactly the tensors of the table from a weight file. `num_batches_tracked`, which torchvision's files have beside each batch
/// norm, is passed over: it serves an averaging of statistics that no network here uses.
///
/// # Errors
/// Names the tensor that is missing, has another shape or type, or belongs to another network.
pub(crate) fn read(topology: &Topology, bytes: &[u8], device: Device) -> Result<Tensors> {
    let file = parse(bytes)?;
    let tensors: Tensors = table(topology)
        .into_iter()
        .map(|parameter| {
            let tensor = read_one(&file, &parameter, device)?;
            Ok((parameter.name, tensor))
        })
        .collect::<Result<_>>()?;
    refuse_foreign(topology, &file, &tensors)?;
    Ok(tensors)
}

/// The metadata key under which a file names the parameters that it leaves to chance, separated by commas.
const MISSING_KEY: &str = "missing";

/// What a training run begins with.
pub(crate) struct Backbone {
    pub(crate) tensors: Tensors,
    /// The parameters that were drawn at random all the same, in forward order.
    pub(crate) random: Vec<String>,
}

/// Like [`read`], but takes from `fresh` what a file may lack: a head that differs in nothing but the number of classes (ImageNet's
/// thousand), and the parameters that the file's metadata says are missing.
pub(crate) fn read_backbone(topology: &Topology, bytes: &[u8], mut fresh: Tensors, device: Device) -> Result<Backbone> {
    let file = parse(bytes)?;
    let head = head(topology.architecture);
    let is_head = |parameter: &Parameter| parameter.name.strip_prefix(head).is_some_and(|rest| rest.starts_with('.'));
    let has_other_classes = |parameter: &Parameter| {
        let Ok(view) = file.tensor(&parameter.name) else { return false };
        view.shape().first() != parameter.shape.first() && view.shape().get(1..) == parameter.shape.get(1..)
    };
    let other_head = table(topology).iter().filter(|parameter| is_head(parameter)).all(has_other_classes);
    let missing = missing(bytes)?;
    let mut random = Vec::new();
    for parameter in table(topology) {
        let absent = missing.contains(&parameter.name) && file.tensor(&parameter.name).is_err();
        if absent || (other_head && is_head(&parameter)) {
            random.push(parameter.name);
        } else {
            let tensor = read_one(&file, &parameter, device)?;
            fresh.insert(parameter.name, tensor);
        }
    }
    refuse_foreign(topology, &file, &fresh)?;
    Ok(Backbone { tensors: fresh, random })
}

/// The names under [`MISSING_KEY`].
fn missing(bytes: &[u8]) -> Result<BTreeSet<String>> {
    let names = metadata(bytes, MISSING_KEY)?;
    Ok(names.iter().flat_map(|names| names.split(',')).map(str::to_owned).collect())
}

/// What a weight file says of itself; `None` when it says nothing.
///
/// # Errors
/// A file that is none, or a description that cannot be read.
pub fn describe(bytes: &[u8]) -> Result<Option<ArtifactDescription>> {
    let described = metadata(bytes, METADATA_ENTRY)?.map(|text| serde_json::from_str(&text)).transpose();
    described.map_err(|error| NetError::Weights(format!("its description ({METADATA_ENTRY}) cannot be read: {error}")))
}

fn metadata(bytes: &[u8], entry: &str) -> Result<Option<String>> {
    let (_, header) = SafeTensors::read_metadata(bytes)
        .map_err(|error| NetError::Weights(format!("not a safetensors file ({} bytes): {error}", bytes.len())))?;
    Ok(header.metadata().as_ref().and_then(|metadata| metadata.get(entry)).cloned())
}

/// The entry of metadata that describes a model.
pub(crate) fn description(description: &ArtifactDescription) -> Result<(&'static str, String)> {
    let text = serde_json::to_string(description);
    Ok((METADATA_ENTRY, text.map_err(|error| NetError::Weights(format!("write the description: {error}")))?))
}

fn refuse_foreign(topology: &Topology, file: &SafeTensors<'_>, known: &Tensors) -> Result<()> {
    let foreign = |name: &&str| !known.contains_key(*name) && !name.ends_with(".num_batches_tracked");
    match file.names().into_iter().filter(foreign).min() {
        Some(name) => Err(NetError::Weights(format!("tensor {name} belongs to no {}", topology.architecture))),
        None => Ok(()),
    }
}

fn parse(bytes: &[u8]) -> Result<SafeTensors<'_>> {
    SafeTensors::deserialize(bytes)
        .map_err(|error| NetError::Weights(format!("not a whole safetensors file ({} bytes): {error}", bytes.len())))
}

fn read_one(file: &SafeTensors<'_>, parameter: &Parameter, device: Device) -> Result<Tensor> {
    let Parameter { name, shape, .. } = parameter;
    let view = file.tensor(name).map_err(|_| NetError::Weights(format!("tensor {name} is missing")))?;
    if view.shape() != shape {
        return Err(NetError::Weights(format!("tensor {name} has the shape {:?}, expected {shape:?}", view.shape())));
    }
    if view.dtype() != Dtype::F32 {
        return Err(NetError::Weights(format!("tensor {name} is of type {:?}, expected F32", view.dtype())));
    }
    tensor(view.data(), shape, device)
}

pub(crate) fn tensor(data: &[u8], shape: &[usize], device: Device) -> Result<Tensor> {
    let shape: Vec<i64> = shape.iter().map(|&side| side as i64).collect();
    Ok(Tensor::f_from_data_size(data, &shape, Kind::Float)?.f_to_device(device.0)?)
}

/// A copy with the same layout, apart from any gradient.
pub(crate) fn copy(tensor: &Tensor) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let mut copy = tensor.f_empty_like()?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}

/// Writes tensors as a safetensors file, with an entry of metadata (one at most: several would have no fixed order).
pub(crate) fn write<N: AsRef<str> + Ord + Display, T: Borrow<Tensor>>(
    tensors: impl IntoIterator<Item = (N, T)>,
    metadata: Option<(&str, String)>,
) -> Result<Vec<u8>> {
    let views = tensors.into_iter().map(|(name, tensor)| Ok((name, Bytes::copy(tensor.borrow())?)));
    let metadata = metadata.map(|(key, value)| HashMap::from([(key.to_owned(), value)]));
    safetensors::serialize(views.collect::<Result<Vec<_>>>()?, metadata)
        .map_err(|error| NetError::Weights(format!("write safetensors: {error}")))
}

/// A tensor's values in row-major order.
struct Bytes {
    data: Vec<u8>,
    shape: Vec<usize>,
}

impl Bytes {
    fn copy(tensor: &Tensor) -> Result<Self> {
        let plain = tensor.f_detach()?.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
        let mut data = vec![0; plain.numel() * size_of::<f32>()];
        plain.f_copy_data_u8(&mut data, plain.numel())?;
        Ok(Self { data, shape: plain.size().into_iter().map(|side| side as usize).collect() })
    }
}

impl View for Bytes {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}
