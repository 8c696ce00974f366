//! Pictures for tests, whole and broken.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};
use perito_domain::{
    Severity,
    random::{Purpose, rng},
};
use rand::RngExt;

/// A JPEG whose texture depends on the class, so that a small network learns it in a few epochs.
pub fn photograph(severity: Severity, number: u64, width: u32, height: u32) -> Vec<u8> {
    let mut rng = rng(number, Purpose::Augment, severity.index() as u64, 0);
    // The more damage, the finer the stripes.
    let period = [48, 16, 5][severity.index()];
    let (shift, base) = (rng.random_range(0..period), rng.random_range(60..120_u8));
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let stripe = if (x * 64 / width + y * 32 / height + shift) % period < period / 2 { 90 } else { 0 };
        let noise = rng.random_range(0..24);
        Rgb([base + stripe + noise, base / 2 + stripe + noise, 60 + noise])
    });
    encode(&picture, ImageFormat::Jpeg)
}

/// Encodes a picture.
pub fn encode(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A PNG whose header announces 40,000 x 40,000 pixels and which has next to no data.
pub fn bomb() -> Vec<u8> {
    let mut bytes = encode(&RgbImage::new(1, 1), ImageFormat::Png);
    // Signature (8), length (4) and type (4) of the first chunk; then width and height.
    for position in [16, 20] {
        bytes[position..position + 4].copy_from_slice(&40_000_u32.to_be_bytes());
    }
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// PNG specification, annex D.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 })
    })
}
