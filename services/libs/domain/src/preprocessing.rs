//! The contract from the bytes of an image to a model's input. It is recorded with each model; training and scoring
//! share the code that fulfils it.

use serde::{Deserialize, Serialize};

/// Mean of the three channels over ImageNet, of values in 0 to 1 (torchvision's constants).
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of the three channels over ImageNet, of values in 0 to 1.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// The contract whose JPEGs are decoded in full.
pub const EXACT: u32 = 1;
/// The contract whose large JPEGs are decoded at a reduced scale.
pub const REDUCED: u32 = 2;
/// The contract whose large JPEGs are decoded from the lowest frequencies of each block, and whose luma and chroma are resized apart.
pub const LOWEST: u32 = 3;
/// The newest contract: that of new models unless they say otherwise.
pub const NEWEST: u32 = LOWEST;

/// How bytes become pixels.
///
/// Version 1, [`EXACT`]: decode in full, apply the EXIF orientation, drop alpha, expand grey and palette to RGB, reduce
/// 16-bit samples to 8 bits, convert CMYK to RGB, resize to a square of `image_size` pixels with antialiased bilinear interpolation
/// (Pillow's `BILINEAR`, torchvision's `Resize(antialias=True)`) regardless of aspect ratio, scale to 0..1, subtract
/// `mean` and divide by `std` for each channel.
///
/// Version 2, [`REDUCED`]: the same, but a JPEG is decoded by libjpeg-turbo, at the smallest of the scales 1/8, 1/4, 1/2 and 1 that leaves
/// both sides at least twice `image_size` (1 where none does). Each of its blocks of 8 x 8 pixels then comes from the lowest
/// frequencies alone, which is what averaging its pixels would leave. CMYK and YCCK, and a file that libjpeg-turbo has anything to say
/// against, are decoded as in version 1.
///
/// Version 3, [`LOWEST`]: as version 2, at the same scales, but luma and both chroma planes are resized as they are stored, each in its own
/// resolution, and only the square's pixels become RGB and are turned upright. At a reduced scale of N/8, blocks of baseline files with
/// components of 4:4:4, 4:2:2, 4:4:0 and 4:2:0 are made from their N x N lowest frequencies alone; those of other files by libjpeg-turbo as
/// in version 2. RGB files are decoded as in version 1, with those that version 2 leaves to it.
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

impl Preprocessing {
    /// The newest contract at this input size, normalised as for ImageNet.
    pub fn imagenet(image_size: u32) -> Self {
        Self { version: NEWEST, image_size, mean: IMAGENET_MEAN, std: IMAGENET_STD, test_time_flip: false }
    }
}

/// A contract that this release does not fulfil.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("preprocessing contract {0} is unknown: this release knows 1 (exact), 2 (reduced) and 3 (lowest frequencies)")]
pub struct UnknownContract(pub u32);

/// Refuses a version of the contract that this release does not fulfil.
///
/// # Errors
/// Names it.
pub fn check_version(version: u32) -> Result<(), UnknownContract> {
    if (EXACT..=NEWEST).contains(&version) { Ok(()) } else { Err(UnknownContract(version)) }
}
