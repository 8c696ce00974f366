//! Weight files (safetensors) in and out, checked against the table of parameters; initial weights from a seed.

use std::{borrow::Cow, collections::BTreeMap};

use perito_domain::{
    parameters::{Parameter, Role, head, parameters},
    random::{Purpose, rng},
    spec::Architecture,
};
use rand_distr::{Distribution, Normal, Uniform};
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

/// Reads every tensor of the table from a weight file. Other tensors in it (such as `num_batches_tracked`) are ignored.
///
/// # Errors
/// Names the tensor that is missing or has another shape or type.
pub(crate) fn read(topology: &Topology, bytes: &[u8], device: Device) -> Result<Tensors> {
    let file = parse(bytes)?;
    table(topology)
        .into_iter()
        .map(|parameter| Ok((parameter.name.clone(), read_one(&file, &parameter, device)?)))
        .collect()
}

/// Like [`read`], but takes the head from `fresh` when the file's has another number of classes (ImageNet's thousand).
pub(crate) fn read_backbone(topology: &Topology, bytes: &[u8], mut fresh: Tensors, device: Device) -> Result<Tensors> {
    let file = parse(bytes)?;
    let head = head(topology.architecture);
    let bias = format!("{head}.bias");
    let same_head = file.tensor(&bias).is_ok_and(|bias| bias.shape() == [perito_domain::severity::CLASSES]);
    for parameter in table(topology) {
        if same_head || !parameter.name.starts_with(&format!("{head}.")) {
            fresh.insert(parameter.name.clone(), read_one(&file, &parameter, device)?);
        }
    }
    Ok(fresh)
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

/// Writes tensors as a safetensors file.
pub(crate) fn write<'a>(tensors: impl IntoIterator<Item = (&'a String, &'a Tensor)>) -> Result<Vec<u8>> {
    let views =
        tensors.into_iter().map(|(name, tensor)| Ok((name, Bytes::copy(tensor)?))).collect::<Result<Vec<_>>>()?;
    safetensors::serialize(views, None).map_err(|error| NetError::Weights(format!("write safetensors: {error}")))
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

/// First values, a function of the seed alone: each tensor draws from a stream of its own, numbered by its place in the table.
///
/// The distributions are PyTorch's. `cnn4`: `nn.Conv2d` and `nn.Linear` (`kaiming_uniform_(a=sqrt(5))`, so uniform within
/// 1/sqrt(fan in)). `resnet18`: torchvision's (`kaiming_normal_(mode="fan_out")` for convolutions), the head as `nn.Linear`.
pub(crate) fn initial(topology: &Topology, seed: u64, device: Device) -> Result<Tensors> {
    table(topology)
        .into_iter()
        .enumerate()
        .map(|(index, parameter)| {
            let values = draw(topology.architecture, &parameter, seed, index as u64)?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
            Ok((parameter.name.clone(), tensor(&bytes, &parameter.shape, device)?))
        })
        .collect()
}

fn draw(architecture: Architecture, parameter: &Parameter, seed: u64, index: u64) -> Result<Vec<f32>> {
    let count: usize = parameter.shape.iter().product();
    let mut rng = rng(seed, Purpose::Weights, 0, index);
    let impossible = |_| NetError::Weights(format!("tensor {} has an impossible shape", parameter.name));
    let fan_in = || parameter.shape[1..].iter().product::<usize>();
    let bound = match parameter.role {
        Role::NormWeight | Role::RunningVariance => return Ok(vec![1.0; count]),
        Role::NormBias | Role::RunningMean => return Ok(vec![0.0; count]),
        Role::Convolution if architecture == Architecture::Resnet18 => {
            let fan_out = parameter.shape[0] * parameter.shape[2..].iter().product::<usize>();
            let normal = Normal::new(0.0, (2.0 / fan_out as f32).sqrt()).map_err(|_| impossible(()))?;
            return Ok(normal.sample_iter(&mut rng).take(count).collect());
        }
        Role::Convolution | Role::Linear => (fan_in() as f32).sqrt().recip(),
        Role::Bias { fan_in } => (fan_in as f32).sqrt().recip(),
    };
    let uniform = Uniform::new(-bound, bound).map_err(|_| impossible(()))?;
    Ok(uniform.sample_iter(&mut rng).take(count).collect())
}
