//! Photographs to decode, drawn.
#![allow(clippy::unwrap_used)]

use rand::{RngExt as _, SeedableRng as _};
use turbojpeg::{Compressor, Image, OutputBuf, PixelFormat, Subsamp};

/// A drawn photograph: slopes, edges and the noise of a sensor. It has about this many bytes for each pixel as cameras write: 4:2:0, quality 85.
pub fn photograph(width: usize, height: usize, seed: u64) -> Vec<u8> {
    let mut noise = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
            let edge = if ((u * 23.0).sin() + (v * 17.0).cos() + u * v * 3.0).fract().abs() < 0.5 { 60.0 } else { 0.0 };
            let texture = 18.0 * (x as f32 * 0.9).sin() * (y as f32 * 0.7).cos();
            for base in [90.0 + 90.0 * u, 80.0 + 80.0 * v, 70.0 + 60.0 * (u - v).abs()] {
                pixels.push((base + edge + texture + noise.random_range(-9.0..9.0)).clamp(0.0, 255.0) as u8);
            }
        }
    }
    let mut compressor = Compressor::new().unwrap();
    compressor.set_quality(85).unwrap();
    compressor.set_subsamp(Subsamp::Sub2x2).unwrap();
    let mut jpeg = OutputBuf::new_owned();
    let image = Image { pixels: pixels.as_slice(), width, pitch: width * 3, height, format: PixelFormat::RGB };
    compressor.compress(image, &mut jpeg).unwrap();
    jpeg.to_vec()
}
