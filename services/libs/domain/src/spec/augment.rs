//! Random changes of training images.

use serde::{Deserialize, Serialize};

use super::error::{SpecError, in_range};

/// Random changes of training images, with torchvision's sampling ranges. All zero: none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// A random part of the picture in place of all of it.
    pub crop: Option<Crop>,
    /// Probability of a mirror image: `RandomHorizontalFlip(p)`.
    pub horizontal_flip: f64,
    /// Rotation by an angle drawn from plus or minus this many degrees: `RandomRotation`, filled with black.
    pub rotation_degrees: f64,
    /// Brightness factor drawn from 1 plus or minus this: `ColorJitter(brightness)`.
    pub brightness: f64,
    /// Contrast factor drawn from 1 plus or minus this: `ColorJitter(contrast)`.
    pub contrast: f64,
    /// Saturation factor drawn from 1 plus or minus this: `ColorJitter(saturation)`.
    pub saturation: f64,
    /// Random perspective: `RandomPerspective`.
    pub perspective: Perspective,
    /// A random rectangle is painted over.
    pub erasing: Erasing,
}

/// `RandomPerspective(distortion_scale, p)`, bilinear, filled with black.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Perspective {
    /// How far corners move, as a share of half the side, 0 to 1.
    pub distortion: f64,
    /// Probability that they move at all.
    pub probability: f64,
}

/// `RandomResizedCrop(image_size, scale, ratio)` after `Resize((from, from))`: a part of the larger square, resized to the network's
/// input with antialiasing. Validation and scoring see the whole picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crop {
    /// Side of the square that parts are taken from, in pixels: at least `image_size`.
    pub from: u32,
    /// The part's share of the area, from and to.
    #[serde(default = "default_scale")]
    pub scale: [f64; 2],
    /// The part's width over its height, from and to.
    #[serde(default = "default_ratio")]
    pub ratio: [f64; 2],
}

fn default_scale() -> [f64; 2] {
    [0.08, 1.0]
}

fn default_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

/// `RandomErasing(p)` with torchvision's scale (0.02 to 0.33 of the area) and ratio (0.3 to 3.3), after everything else, filled with
/// the mean colour that normalisation makes 0 (Zhong et al., 2017).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erasing {
    /// Probability that a rectangle is painted over.
    pub probability: f64,
}

/// Mixtures of each image of a batch with the one before it, label and all: torchvision's `v2.MixUp` (Zhang et al., 2017) and
/// `v2.CutMix` (Yun et al., 2019). With both alphas above 0, each mixed batch takes one of them at random.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// Probability that a batch is mixed.
    pub probability: f64,
    /// `alpha` of the Beta distribution that MixUp's shares are drawn from; 0: no MixUp.
    pub mixup: f64,
    /// `alpha` of CutMix; 0: no CutMix.
    pub cutmix: f64,
}

impl Augment {
    pub(super) fn validate(&self, image_size: u32) -> Result<(), SpecError> {
        if let Some(Crop { from, scale, ratio }) = self.crop {
            in_range("augment.crop.from", from, image_size, 2048)?;
            ascending("augment.crop.scale", scale, 0.01, 1.0)?;
            ascending("augment.crop.ratio", ratio, 0.1, 10.0)?;
        }
        in_range("augment.horizontal_flip", self.horizontal_flip, 0.0, 1.0)?;
        in_range("augment.rotation_degrees", self.rotation_degrees, 0.0, 180.0)?;
        in_range("augment.brightness", self.brightness, 0.0, 1.0)?;
        in_range("augment.contrast", self.contrast, 0.0, 1.0)?;
        in_range("augment.saturation", self.saturation, 0.0, 1.0)?;
        in_range("augment.perspective.distortion", self.perspective.distortion, 0.0, 1.0)?;
        in_range("augment.perspective.probability", self.perspective.probability, 0.0, 1.0)?;
        in_range("augment.erasing.probability", self.erasing.probability, 0.0, 1.0)
    }
}

impl Mix {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        in_range("mix.mixup", self.mixup, 0.0, 100.0)?;
        in_range("mix.cutmix", self.cutmix, 0.0, 100.0)?;
        let highest = if self.mixup + self.cutmix > 0.0 { 1.0 } else { 0.0 };
        in_range("mix.probability", self.probability, 0.0, highest)
    }
}

fn ascending(field: &str, [low, high]: [f64; 2], least: f64, most: f64) -> Result<(), SpecError> {
    in_range(field, low, least, most)?;
    in_range(field, high, low, most)
}
