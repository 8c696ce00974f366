//! Pictures on their way to the device: bytes, a quarter of what floats would take.
//!
//! Each picture is copied once, into a buffer that is used again. For a GPU the buffer is page-locked, so that the copy to the device
//! runs while the next batch is gathered.

use std::sync::{Arc, Mutex, PoisonError};

use tch::{Kind, Tensor};

use crate::{batch, device::Device, error::Result};

/// Buffers for batches of pictures of one size.
pub(crate) struct Staging {
    side: u32,
    device: Device,
    /// Those that no batch uses. Never more than there were batches at once.
    idle: Idle,
}

type Idle = Arc<Mutex<Vec<Tensor>>>;

/// A batch on the device, or on its way there.
pub(crate) struct Staged {
    /// (rows, side, side, 3) of bytes.
    pub(crate) pixels: Tensor,
    buffer: Tensor,
    idle: Idle,
}

impl Staging {
    pub(crate) fn new(side: u32, device: Device) -> Self {
        Self { side, device, idle: Idle::default() }
    }

    /// Sends pictures to the device, as the first of so many rows; what is in the others is of no account.
    pub(crate) fn stage(&self, images: &[&[u8]], rows: usize) -> Result<Staged> {
        batch::check(images, self.side)?;
        let rows = rows.max(images.len()) as i64;
        let mut buffer = self.buffer(rows)?;
        for (place, image) in bytes(&mut buffer).chunks_exact_mut(image_bytes(self.side)).zip(images) {
            place.copy_from_slice(image);
        }
        let filled = buffer.f_narrow(0, 0, rows)?;
        let pixels = filled.f_to_device_(self.device.0, Kind::Uint8, true, false)?;
        Ok(Staged { pixels, buffer, idle: Arc::clone(&self.idle) })
    }

    fn buffer(&self, rows: i64) -> Result<Tensor> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(buffer) = idle.filter(|buffer| buffer.size()[0] >= rows) {
            return Ok(buffer);
        }
        let side = i64::from(self.side);
        let buffer = Tensor::f_zeros([rows, side, side, 3], (Kind::Uint8, tch::Device::Cpu))?;
        Ok(if self.device.is_gpu() { buffer.f_pin_memory(self.device.0)? } else { buffer })
    }
}

impl Staged {
    /// Gives the buffer back. To be called when the device has answered, and has therefore read it.
    pub(crate) fn done(self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.buffer);
    }
}

fn image_bytes(side: u32) -> usize {
    side as usize * side as usize * 3
}

/// The bytes of a buffer.
#[allow(
    unsafe_code,
    reason = "tch reads and writes tensors by copies alone, and this is the one copy that is to be made"
)]
fn bytes(buffer: &mut Tensor) -> &mut [u8] {
    // SAFETY: a buffer is a whole, contiguous tensor of bytes in the memory of the CPU, made by `Staging::buffer`. It is out of the
    // idle ones, so nothing else reads or writes it, and the slice borrows it.
    unsafe { std::slice::from_raw_parts_mut(buffer.data_ptr().cast(), buffer.numel()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn buffers_hold_the_pictures_and_are_used_again() {
        let staging = Staging::new(2, Device(tch::Device::Cpu));
        let pictures: Vec<Vec<u8>> = (0..5_u8).map(|number| vec![number; 12]).collect();
        let views: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
        let first = staging.stage(&views[..3], 4).unwrap();
        assert_eq!(first.pixels.size(), [4, 2, 2, 3]);
        let sums: Vec<i64> =
            first.pixels.sum_dim_intlist([1_i64, 2, 3].as_slice(), false, Kind::Int64).try_into().unwrap();
        assert_eq!(sums[..3], [0, 12, 24]);
        let buffer = first.buffer.data_ptr();
        first.done();

        let second = staging.stage(&views[4..], 1).unwrap();
        assert_eq!((second.buffer.data_ptr(), second.pixels.size()[0]), (buffer, 1), "the buffer that is idle");
        let third = staging.stage(&views, 5).unwrap();
        assert_ne!(third.buffer.data_ptr(), buffer, "one that is in use stays alone");
        assert!(staging.stage(&[&[0; 11]], 1).is_err());
        second.done();
        third.done();
        assert_eq!(staging.idle.lock().unwrap().len(), 2);
    }
}
