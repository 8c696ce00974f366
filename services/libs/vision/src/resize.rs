//! Any picture to a square, antialiased.

use std::cell::RefCell;

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images::Image};
use image::RgbImage;

use crate::{decode::DecodeError, pixels::Pixels};

thread_local! {
    // It keeps its buffers and coefficients between pictures.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// Resizes to a square of `side` pixels, regardless of aspect ratio, with antialiased bilinear interpolation: Pillow's `BILINEAR`,
/// torchvision's `Resize((side, side), antialias=True)`.
///
/// # Errors
/// A picture without pixels.
pub fn resize(picture: &RgbImage, side: u32) -> Result<Pixels, DecodeError> {
    let broken = |error: String| DecodeError::Corrupt(format!("resize: {error}"));
    let source =
        fast_image_resize::images::ImageRef::new(picture.width(), picture.height(), picture.as_raw(), PixelType::U8x3)
            .map_err(|error| broken(error.to_string()))?;
    let mut target = Image::new(side, side, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options))
        .map_err(|error| broken(error.to_string()))?;
    Pixels::new(side, target.into_vec()).ok_or_else(|| broken("the result has another size".to_owned()))
}
