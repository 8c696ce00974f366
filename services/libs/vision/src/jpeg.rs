//! JPEGs at a reduced scale, by libjpeg-turbo.
//!
//! A JPEG holds the cosine transforms of blocks of 8 x 8 pixels. Whoever wants an eighth, a quarter or half of the picture's size need
//! only transform back the lowest frequencies: less arithmetic, and less of everything that comes after.

use std::cell::RefCell;

use image::RgbImage;
use turbojpeg::{Colorspace, Decompressor, Image, PixelFormat, ScalingFactor};

/// The scales that libjpeg-turbo has vector instructions for, the smallest first.
const SCALES: [ScalingFactor; 3] = [ScalingFactor::ONE_EIGHTH, ScalingFactor::ONE_QUARTER, ScalingFactor::ONE_HALF];

thread_local! {
    // It keeps its tables between pictures. `None` when there is no memory for one.
    static DECOMPRESSOR: RefCell<Option<Decompressor>> = RefCell::new(Decompressor::new().ok());
}

/// Decodes at the smallest scale that leaves both sides at least twice `side`, as it lies in the file, without its EXIF orientation.
///
/// `None` for what the exact decoder shall judge: pictures of inks, and files that libjpeg-turbo cannot read or warns of. It cannot be
/// asked how bad a warning is, and what begins with stray bytes between two segments ends with half a photograph in grey.
pub(crate) fn decode_reduced(jpeg: &[u8], side: u32) -> Option<RgbImage> {
    DECOMPRESSOR.with_borrow_mut(|decompressor| decode_with(decompressor.as_mut()?, jpeg, side).ok().flatten())
}

fn decode_with(decompressor: &mut Decompressor, jpeg: &[u8], side: u32) -> turbojpeg::Result<Option<RgbImage>> {
    let header = decompressor.read_header(jpeg)?;
    if matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK) {
        return Ok(None);
    }
    let scale = scale_for(header.width, header.height, side);
    let (width, height) = (scale.scale(header.width), scale.scale(header.height));
    let mut pixels = vec![0; width * height * 3];
    let target = Image { pixels: pixels.as_mut_slice(), width, pitch: width * 3, height, format: PixelFormat::RGB };
    decompressor.set_scaling_factor(scale)?;
    decompressor.decompress(jpeg, target)?;
    Ok(RgbImage::from_raw(width as u32, height as u32, pixels))
}

/// The smallest scale that leaves both sides at least twice `side`; 1 where none does.
fn scale_for(width: usize, height: usize, side: u32) -> ScalingFactor {
    let least = 2 * side as usize;
    let fits = |scale: &ScalingFactor| scale.scale(width) >= least && scale.scale(height) >= least;
    SCALES.into_iter().find(fits).unwrap_or(ScalingFactor::ONE)
}

/// How many pixels a JPEG of so many comes out with.
pub(crate) fn reduced_pixels(width: u32, height: u32, side: u32) -> u64 {
    let (width, height) = (width as usize, height as usize);
    let scale = scale_for(width, height, side);
    scale.scale(width) as u64 * scale.scale(height) as u64
}
