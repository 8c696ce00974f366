//! Square RGB pixels, as networks take them.

use image::RgbImage;

/// A square picture: `side * side * 3` bytes, row by row, red, green and blue of each pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    side: u32,
    bytes: Vec<u8>,
}

impl Pixels {
    /// From bytes; `None` unless there are `side * side * 3` of them.
    pub fn new(side: u32, bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() as u64 == u64::from(side) * u64::from(side) * 3).then_some(Self { side, bytes })
    }

    /// Width and height in pixels.
    pub fn side(&self) -> u32 {
        self.side
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn pixels(&self) -> &[[u8; 3]] {
        self.bytes.as_chunks().0
    }

    /// Turned or mirrored by a change that keeps the size.
    pub(crate) fn change(self, change: impl FnOnce(RgbImage) -> RgbImage) -> Self {
        let side = self.side;
        match RgbImage::from_raw(side, side, self.bytes) {
            Some(picture) => Self { side, bytes: change(picture).into_raw() },
            // It has as many bytes as that takes.
            None => Self { side, bytes: vec![0; 3 * side as usize * side as usize] },
        }
    }

    /// A picture of the same size made pixel by pixel from this one's.
    pub(crate) fn map(&self, change: impl Fn([u8; 3]) -> [u8; 3]) -> Self {
        Self { side: self.side, bytes: self.pixels().iter().flat_map(|&pixel| change(pixel)).collect() }
    }
}
