//! 8-bit pixels to normalised tensors. The bytes go to the device as they are, a quarter of what floats would take; the arithmetic
//! happens there.

use perito_domain::preprocessing::Preprocessing;
use tch::{Kind, Tensor};

use crate::{
    device::Device,
    error::{NetError, Result},
    network::Topology,
};

/// The arithmetic of a preprocessing contract: `pixel * scale + offset` for each channel.
pub(crate) struct Normalizer {
    side: u32,
    scale: Tensor,
    offset: Tensor,
    device: Device,
}

impl Normalizer {
    pub(crate) fn new(topology: &Topology, contract: &Preprocessing, device: Device) -> Result<Self> {
        if contract.image_size != topology.image_size {
            return Err(NetError::Input(format!(
                "preprocessing for images of {} pixels, and a network for {}",
                contract.image_size, topology.image_size
            )));
        }
        let channels = |values: [f32; 3]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(&values)?.f_reshape([1, 3, 1, 1])?.f_to_device(device.0)?)
        };
        let scale = contract.std.map(|std| 1.0 / (255.0 * std));
        let offset = std::array::from_fn(|channel| -contract.mean[channel] / contract.std[channel]);
        Ok(Self { side: contract.image_size, scale: channels(scale)?, offset: channels(offset)?, device })
    }

    pub(crate) fn side(&self) -> u32 {
        self.side
    }

    /// (batch, 3, side, side) of floats, in memory channel by channel of each pixel ("channels last"), as it comes from the decoder.
    pub(crate) fn tensor(&self, images: &[&[u8]]) -> Result<Tensor> {
        let side = i64::from(self.side);
        check(images, self.side)?;
        let all = images.concat();
        let pixels = Tensor::f_from_data_size(&all, &[images.len() as i64, side, side, 3], Kind::Uint8)?;
        self.normalized(&pixels.f_to_device(self.device.0)?)
    }

    /// The same from bytes (batch, side, side, 3) that are on the device already.
    pub(crate) fn normalized(&self, pixels: &Tensor) -> Result<Tensor> {
        let mut floats = pixels.f_permute([0, 3, 1, 2])?.f_to_kind(Kind::Float)?;
        Ok(floats.f_mul_(&self.scale)?.f_add_(&self.offset)?)
    }
}

/// Refuses images that are not `side * side * 3` bytes.
pub(crate) fn check(images: &[&[u8]], side: u32) -> Result<()> {
    let bytes = side as usize * side as usize * 3;
    match images.iter().find(|image| image.len() != bytes) {
        Some(odd) => Err(NetError::Input(format!("an image has {} bytes, expected {side} x {side} x 3", odd.len()))),
        None => Ok(()),
    }
}
