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
    let bytes = run(source, Image::new(side, side, PixelType::U8x3), &bilinear())?;
    Pixels::new(side, bytes).ok_or_else(|| "the result has another size".to_owned())
}

/// A square of `side` samples from a plane whose edges may go through its last column and row.
pub(crate) fn resized_plane(samples: &[u8], (width, height): (f64, f64), side: u32) -> Result<Vec<u8>, String> {
    let (columns, rows) = (width.ceil() as u32, height.ceil() as u32);
    let source = ImageRef::new(columns, rows, samples, PixelType::U8).map_err(|error| error.to_string())?;
    run(&source, Image::new(side, side, PixelType::U8), &bilinear().crop(0.0, 0.0, width, height))
}

fn bilinear() -> ResizeOptions {
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
}

fn run(source: &ImageRef<'_>, mut target: Image<'_>, options: &ResizeOptions) -> Result<Vec<u8>, String> {
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize(source, &mut target, options))
        .map_err(|error| error.to_string())?;
    Ok(target.into_vec())
}
