//! Mixtures of the images of a batch: torchvision's `v2.MixUp` (Zhang et al., 2017) and `v2.CutMix` (Yun et al., 2019).

use perito_domain::{
    random::{Purpose, rng},
    spec::Mix,
};
use rand::{Rng, RngExt};
use rand_distr::{Beta, Distribution};
use tch::Tensor;

use crate::{
    error::{NetError, Result},
    weights::copy,
};

/// What each image of a batch is mixed with: the image before it, the first one with the last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Partner {
    /// The image's own share of its label; the rest is its partner's.
    pub(crate) share: f64,
    /// What of the image comes from its partner.
    pub(crate) part: Part,
}

/// What of an image comes from its partner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Part {
    /// Its share of each pixel.
    Blend,
    /// Columns `left..right` of rows `top..bottom`.
    Rectangle { left: i64, top: i64, right: i64, bottom: i64 },
}

impl Partner {
    /// Draws the mixture of one step, a function of (seed, epoch, step). `None`: the batch stays as it is.
    pub(crate) fn draw(mix: &Mix, side: i64, (seed, epoch, step): (u64, u32, u32)) -> Result<Option<Self>> {
        if mix.probability == 0.0 {
            return Ok(None);
        }
        let mut rng = rng(seed, Purpose::Mix, epoch.into(), step.into());
        if !rng.random_bool(mix.probability) {
            return Ok(None);
        }
        let blends = mix.cutmix == 0.0 || (mix.mixup > 0.0 && rng.random_bool(0.5));
        let alpha = if blends { mix.mixup } else { mix.cutmix };
        let beta = Beta::new(alpha, alpha).map_err(|error| NetError::Input(format!("mixing with {alpha}: {error}")))?;
        let share = beta.sample(&mut rng);
        Ok(Some(if blends { Self { share, part: Part::Blend } } else { Self::rectangle(share, side, &mut rng) }))
    }

    /// `CutMix.make_params`: a rectangle of about the partner's share of the area around a random pixel, cut off at the rim.
    fn rectangle(share: f64, side: i64, rng: &mut impl Rng) -> Self {
        let (x, y) = (rng.random_range(0..side), rng.random_range(0..side));
        let half = (0.5 * (1.0 - share).sqrt() * side as f64) as i64;
        let (left, right) = ((x - half).max(0), (x + half).min(side));
        let (top, bottom) = ((y - half).max(0), (y + half).min(side));
        let area = ((right - left) * (bottom - top)) as f64;
        Self { share: 1.0 - area / (side * side) as f64, part: Part::Rectangle { left, top, right, bottom } }
    }

    /// Mixes images (batch, 3, side, side).
    pub(crate) fn mix(&self, images: &Tensor) -> Result<Tensor> {
        let before = images.f_roll([1], [0])?;
        match self.part {
            Part::Blend => Ok(before.f_mul_scalar(1.0 - self.share)?.f_add(&images.f_mul_scalar(self.share)?)?),
            Part::Rectangle { left, top, right, bottom } => {
                let part = |images: &Tensor| images.f_slice(2, top, bottom, 1)?.f_slice(3, left, right, 1);
                let mixed = copy(images)?;
                part(&mixed)?.f_copy_(&part(&before)?)?;
                Ok(mixed)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn images() -> Tensor {
        Tensor::arange(4 * 3 * 8 * 8, (Kind::Float, Device::Cpu)).reshape([4, 3, 8, 8])
    }

    #[test]
    fn a_blend_takes_its_share_of_each_pixel() {
        let mixed = Partner { share: 0.75, part: Part::Blend }.mix(&images()).unwrap();
        let expected = images().get(2) * 0.75 + images().get(1) * 0.25;
        assert!(mixed.get(2).allclose(&expected, 1e-6, 1e-6, false));
        let expected = images().get(0) * 0.75 + images().get(3) * 0.25;
        assert!(mixed.get(0).allclose(&expected, 1e-6, 1e-6, false), "the first with the last");
    }

    #[test]
    fn a_rectangle_comes_from_the_partner_and_the_rest_does_not() {
        let rectangle = Part::Rectangle { left: 1, top: 2, right: 4, bottom: 8 };
        let mixed = Partner { share: 0.0, part: rectangle }.mix(&images()).unwrap();
        for (y, x, from) in [(2, 1, 0), (7, 3, 0), (1, 1, 1), (2, 0, 1), (2, 4, 1)] {
            assert_eq!(mixed.double_value(&[1, 2, y, x]), images().double_value(&[from, 2, y, x]), "{y} {x}");
        }
    }

    #[test]
    fn draws_follow_the_recipe() {
        let draws = |mix: &Mix| -> Vec<Partner> {
            (0..2000).filter_map(|step| Partner::draw(mix, 32, (1, 2, step)).unwrap()).collect()
        };
        assert!(draws(&Mix { probability: 0.0, mixup: 1.0, cutmix: 1.0 }).is_empty());
        let both = draws(&Mix { probability: 0.5, mixup: 0.4, cutmix: 1.0 });
        assert_eq!(both, draws(&Mix { probability: 0.5, mixup: 0.4, cutmix: 1.0 }));
        assert!((900..1100).contains(&both.len()), "{}", both.len());
        let blends = both.iter().filter(|partner| partner.part == Part::Blend).count();
        assert!((400..600).contains(&blends), "{blends}");
        for partner in draws(&Mix { probability: 1.0, mixup: 0.0, cutmix: 1.0 }) {
            let Part::Rectangle { left, top, right, bottom } = partner.part else { panic!("a blend") };
            assert!(0 <= left && left <= right && right <= 32 && 0 <= top && top <= bottom && bottom <= 32);
            let area = ((right - left) * (bottom - top)) as f64 / (32.0 * 32.0);
            assert!((partner.share - (1.0 - area)).abs() < 1e-12);
        }
    }
}
