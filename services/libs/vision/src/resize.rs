//! Any picture to a square, antialiased.

use std::cell::RefCell;

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
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
    let source = ImageRef::new(picture.width(), picture.height(), picture.as_raw(), PixelType::U8x3)
        .map_err(|error| broken(error.to_string()))?;
    resized(&source, side).map_err(broken)
}

/// A square of `side` pixels, made with this thread's buffers.
pub(crate) fn resized(source: &ImageRef<'_>, side: u32) -> Result<Pixels, String> {
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let mut target = Image::new(side, side, PixelType::U8x3);
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize(source, &mut target, &options))
        .map_err(|error| error.to_string())?;
    Pixels::new(side, target.into_vec()).ok_or_else(|| "the result has another size".to_owned())
}
