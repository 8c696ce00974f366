//! Changes of colour, and the mirror: torchvision's functional transforms on 8-bit RGB, with Pillow's arithmetic.

use crate::pixels::Pixels;

/// The mirror image: `hflip`.
pub fn mirror(pixels: &Pixels) -> Pixels {
    let row = pixels.side() as usize;
    let bytes = pixels.pixels().chunks_exact(row.max(1)).flat_map(|row| row.iter().rev().copied().flatten()).collect();
    Pixels::new(pixels.side(), bytes).unwrap_or_else(|| pixels.clone())
}

/// Blends with black: `adjust_brightness`. A factor of 1 changes nothing.
pub fn brightness(pixels: &Pixels, factor: f32) -> Pixels {
    blend(pixels, factor, |_| 0.0)
}

/// Blends with the mean grey: `adjust_contrast`. A factor of 1 changes nothing.
pub fn contrast(pixels: &Pixels, factor: f32) -> Pixels {
    let sum: u64 = pixels.pixels().iter().map(|&pixel| u64::from(grey(pixel))).sum();
    let mean = (sum as f64 / pixels.pixels().len().max(1) as f64 + 0.5).floor() as f32;
    blend(pixels, factor, |_| mean)
}

/// Blends with the grey picture: `adjust_saturation`. A factor of 1 changes nothing.
pub fn saturation(pixels: &Pixels, factor: f32) -> Pixels {
    blend(pixels, factor, |pixel| f32::from(grey(pixel)))
}

/// Pillow's `Image.blend(other, image, factor)`: truncated and clipped to a byte.
fn blend(pixels: &Pixels, factor: f32, other: impl Fn([u8; 3]) -> f32) -> Pixels {
    pixels.map(|pixel| {
        let other = other(pixel);
        pixel.map(|value| (other + factor * (f32::from(value) - other)).clamp(0.0, 255.0) as u8)
    })
}

/// Pillow's conversion to `L` (ITU-R 601-2 luma), in its fixed-point arithmetic.
fn grey([red, green, blue]: [u8; 3]) -> u8 {
    ((u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471 + 0x8000) >> 16) as u8
}
