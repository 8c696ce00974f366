//! Dropout masks (Srivastava et al., 2014) as a function of (seed, epoch, step).
//!
//! libtorch draws its masks from one generator for the whole process, so that any other thread that draws changes them, and from
//! another one for each kind of device. Ours come from the project's own streams and are the same everywhere.

use perito_domain::random::{Purpose, rng};
use rand::RngExt;
use tch::Tensor;

use crate::{device::Device, error::Result};

/// A mask (images, features): 0 with the given probability, else 1 / (1 - probability), as `torch.nn.Dropout` scales. `None`
/// when nothing is dropped.
pub(crate) fn mask(
    probability: f64,
    (images, features): (usize, i64),
    (seed, epoch, step): (u64, u32, u32),
    device: Device,
) -> Result<Option<Tensor>> {
    if probability == 0.0 {
        return Ok(None);
    }
    let mut rng = rng(seed, Purpose::Dropout, epoch.into(), step.into());
    let kept = (1.0 / (1.0 - probability)) as f32;
    let values: Vec<f32> = (0..images * features.unsigned_abs() as usize)
        .map(|_| if rng.random_bool(probability) { 0.0 } else { kept })
        .collect();
    let mask = Tensor::f_from_slice(&values)?.f_reshape([images as i64, features])?;
    Ok(Some(mask.f_to_device(device.0)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tch::Kind;

    const CPU: Device = Device(tch::Device::Cpu);

    #[test]
    fn a_mask_drops_its_share_keeps_the_mean_and_belongs_to_its_step() {
        let draw = |step| mask(0.6, (64, 512), (7, 1, step), CPU).unwrap().unwrap();
        let first = draw(0);
        let zeros = first.eq(0.0).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
        assert!((zeros - 0.6).abs() < 0.01, "{zeros}");
        assert!((first.mean(Kind::Float).double_value(&[]) - 1.0).abs() < 0.03);
        assert_eq!(first, draw(0));
        assert_ne!(first, draw(1));
        assert!(mask(0.0, (64, 512), (7, 1, 0), CPU).unwrap().is_none());
    }
}
