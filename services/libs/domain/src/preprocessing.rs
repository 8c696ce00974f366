//! The contract from the bytes of an image to a model's input. It is recorded with each model; training and scoring
//! share the code that fulfils it.

use serde::{Deserialize, Serialize};

/// Mean of the three channels over ImageNet, of values in 0 to 1 (torchvision's constants).
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of the three channels over ImageNet, of values in 0 to 1.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// How bytes become pixels.
///
/// Version 1: decode in full, apply the EXIF orientation, drop alpha, expand grey and palette to RGB, reduce
/// 16-bit samples to 8 bits, convert CMYK to RGB, resize to a square of `image_size` pixels with antialiased bilinear interpolation
/// (Pillow's `BILINEAR`, torchvision's `Resize(antialias=True)`) regardless of aspect ratio, scale to 0..1, subtract
/// `mean` and divide by `std` for each channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Which of the contracts above.
    pub version: u32,
    /// Side of the square input, in pixels.
    pub image_size: u32,
    /// Mean that is subtracted, for red, green and blue.
    pub mean: [f32; 3],
    /// Standard deviation that divides, for red, green and blue.
    pub std: [f32; 3],
    /// Whether probabilities are the mean of those of an image and of its mirror image.
    #[serde(default)]
    pub test_time_flip: bool,
}

/// The newest version of the contract that this build fulfils.
pub const VERSION: u32 = 1;

impl Preprocessing {
    /// The present contract at this input size, normalised as for ImageNet.
    pub fn imagenet(image_size: u32) -> Self {
        Self { version: VERSION, image_size, mean: IMAGENET_MEAN, std: IMAGENET_STD, test_time_flip: false }
    }
}
